// The daemon's side of the thread that speaks HTTP: started when it is needed, ended when idle, so that an idle daemon
// has none. There is one for the whole daemon.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { isErrno, messageOf, resourceExhausted, unavailable, unknown } from '../../proto/errors';
import type { EngineContext, EngineJobName, EngineJobs, EngineOptions } from './http/engine';
import type { AuthorizationRequest } from './http/exchange';
import { RegistryError } from './http/failure';
import type { Failure, FromEngine, ToEngine } from './http/messages';

const IDLE_MS = 3000;
/** Heap of the thread; buffers are outside of it and bounded where they are. */
const HEAP_MIB_MAX = 64;

interface PendingJob {
  readonly context: EngineContext;
  readonly resolve: (result: never) => void;
  readonly reject: (error: unknown) => void;
}

export class RegistryThread {
  readonly #options: EngineOptions;
  readonly #jobs = new Map<number, PendingJob>();
  #worker: Worker | undefined;
  #lastId = 0;
  #idleTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: EngineOptions) {
    this.#options = options;
  }

  /** Starts it for jobs that will come soon. */
  prepare(): void {
    if (this.#isClosed) return;
    this.#started();
    this.#rest();
  }

  /**
   * Does a job on the thread. After the signal, it rejects when the job has ended: no file is written to any more.
   * @throws RegistryError, RESOURCE_EXHAUSTED when the disk is full, UNAVAILABLE when the daemon stops, the signal's reason
   */
  async run<N extends EngineJobName>(
    name: N,
    job: EngineJobs[N]['job'],
    context: EngineContext,
  ): Promise<EngineJobs[N]['result']> {
    const { signal, watch } = context;
    const watched = watch && { requests: watch.requests, connections: watch.connections };
    signal.throwIfAborted();
    if (this.#isClosed) throw unavailable('registry: daemon is stopping');
    const worker = this.#started();
    this.#lastId += 1;
    const id = this.#lastId;
    const cancel = () => this.#post({ type: 'cancel', id });
    signal.addEventListener('abort', cancel, { once: true });
    try {
      return await new Promise<EngineJobs[N]['result']>((resolve, reject) => {
        this.#jobs.set(id, { context, resolve, reject });
        worker.postMessage({ type: 'start', id, name, job, watched } satisfies ToEngine);
      });
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener('abort', cancel);
      this.#jobs.delete(id);
      this.#rest();
    }
  }

  /** Ends all jobs with the thread. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#idleTimer);
    await this.#worker?.terminate();
  }

  #started(): Worker {
    clearTimeout(this.#idleTimer);
    if (this.#worker !== undefined) {
      this.#worker.ref();
      return this.#worker;
    }
    const worker = new Worker(workerFile(), {
      workerData: this.#options,
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB_MAX },
    });
    this.#worker = worker;
    worker.on('message', (message: FromEngine) => this.#take(message));
    worker.on('error', (error) => this.#fail(worker, error));
    worker.on('exit', () => this.#fail(worker, new Error('its thread has ended')));
    return worker;
  }

  #take(message: FromEngine): void {
    const pending = this.#jobs.get(message.id);
    switch (message.type) {
      case 'done':
        pending?.resolve(message.result as never);
        break;
      case 'failed':
        pending?.reject(errorOf(message.failure));
        break;
      case 'progress':
        pending?.context.onProgress(message.offsetBytes);
        break;
      case 'http':
        pending?.context.watch?.tell(message.text);
        break;
      default:
        void this.#authorize(message.request, message.wanted, pending?.context);
    }
  }

  async #authorize(request: number, wanted: AuthorizationRequest, context: EngineContext | undefined): Promise<void> {
    try {
      const value = await context?.authorize(wanted, context.signal);
      this.#post({ type: 'authorization', request, value });
    } catch (error) {
      this.#post({ type: 'refused', request, failure: failureOf(error) });
    }
  }

  #post(message: ToEngine): void {
    this.#worker?.postMessage(message);
  }

  #rest(): void {
    if (this.#jobs.size > 0 || this.#worker === undefined) return;
    this.#worker.unref();
    clearTimeout(this.#idleTimer);
    const worker = this.#worker;
    this.#idleTimer = setTimeout(() => {
      this.#worker = undefined;
      void worker.terminate();
    }, IDLE_MS).unref();
  }

  #fail(worker: Worker, error: Error): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    const cause = this.#isClosed
      ? unavailable('registry: daemon is stopping')
      : isErrno(error, 'ERR_WORKER_OUT_OF_MEMORY')
        ? resourceExhausted('registry: the thread that speaks HTTP has no memory left', { cause: error })
        : unknown(`registry: ${messageOf(error)}`, { cause: error });
    for (const { reject } of [...this.#jobs.values()]) reject(cause);
  }
}

function failureOf(error: unknown): Failure {
  const { kind, reason = 'other' } = error as Partial<RegistryError>;
  return { kind, message: messageOf(error), reason };
}

function errorOf({ kind, message, reason }: Failure): Error {
  return kind === undefined ? unknown(message) : new RegistryError(kind, message, { reason });
}

/** The compiled worker, also for code that runs from the sources. */
function workerFile(): string {
  const compiled = join(__dirname, 'http/engine-worker.js');
  return existsSync(compiled) ? compiled : join(__dirname, '../../dist/daemon/registry/http/engine-worker.js');
}
