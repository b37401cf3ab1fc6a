// The threads that unpack layers: few, started when needed, ended when idle, so that an idle daemon has none.

import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { ApiError, isErrno, messageOf, resourceExhausted, unknown } from '../../proto/errors';
import type { UnpackTarget } from '../../runtime-native/layers/unpack';
import type { UnpackJob, UnpackResult } from './unpack-worker';

/**
 * Layers unpacked at the same time. Each has a thread of its own, one that decompresses for it and one that makes its
 * files, and up to 40 MiB: with more the daemon would need more than 200 MiB.
 */
const WORKERS_MAX = Math.max(1, Math.min(2, availableParallelism()));
/** Layers that wait for a thread. */
const QUEUE_MAX = 256;
/** Longer than a step of a build. */
const IDLE_MS = 5000;
/** Heap of a thread; data is outside of it. */
const HEAP_MIB_MAX = 256;

export interface Unpacked {
  /** Of the uncompressed archive. */
  readonly digest: string;
  readonly sizeBytes: number;
}

export interface UnpackRequest {
  /** File of the blob. */
  readonly blob: string;
  readonly mayBeCompressed: boolean;
  readonly target: UnpackTarget;
}

interface PendingJob {
  readonly job: UnpackJob;
  readonly resolve: (result: Unpacked) => void;
  readonly reject: (error: unknown) => void;
}

interface Thread {
  readonly worker: Worker;
  pending: PendingJob | undefined;
  idleTimer: NodeJS.Timeout | undefined;
  /** Was told to end, which takes a moment: it takes no job any more. */
  isEnding: boolean;
}

export class UnpackPool {
  readonly #threads = new Set<Thread>();
  readonly #queue: PendingJob[] = [];
  #isClosed = false;

  /**
   * Unpacks a layer, after those that were asked for before when all threads are busy.
   * @throws INVALID_ARGUMENT for what is wrong with the layer, RESOURCE_EXHAUSTED when the disk or the queue is full,
   * the signal's reason
   */
  async unpack(request: UnpackRequest, signal: AbortSignal): Promise<Unpacked> {
    signal.throwIfAborted();
    if (this.#isClosed) throw resourceExhausted('layer: daemon is stopping');
    if (this.#queue.length >= QUEUE_MAX) throw resourceExhausted(`layer: ${QUEUE_MAX} others wait to be unpacked`);
    const stop = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    const abort = () => {
      Atomics.store(new Int32Array(stop), 0, 1);
    };
    signal.addEventListener('abort', abort, { once: true });
    try {
      return await new Promise<Unpacked>((resolve, reject) => {
        this.#queue.push({ job: { ...request, stop }, resolve, reject });
        this.#next();
      });
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** Stops running jobs and ends all threads. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const { reject } of this.#queue.splice(0)) reject(resourceExhausted('layer: daemon is stopping'));
    const threads = [...this.#threads];
    for (const { pending } of threads) if (pending) Atomics.store(new Int32Array(pending.job.stop), 0, 1);
    await Promise.all(threads.map(({ worker }) => worker.terminate()));
  }

  #next(): void {
    if (this.#queue.length === 0) return;
    const idle = [...this.#threads].find((thread) => thread.pending === undefined && !thread.isEnding);
    if (idle === undefined && this.#threads.size >= WORKERS_MAX) return;
    const pending = this.#queue.shift() as PendingJob;
    if (Atomics.load(new Int32Array(pending.job.stop), 0) !== 0) {
      pending.reject(new ApiError('canceled', 'context canceled'));
      this.#next();
      return;
    }
    const thread = idle ?? this.#start();
    clearTimeout(thread.idleTimer);
    thread.pending = pending;
    thread.worker.ref();
    thread.worker.postMessage(pending.job);
  }

  #start(): Thread {
    const worker = new Worker(workerFile(), { resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB_MAX } });
    const thread: Thread = { worker, pending: undefined, idleTimer: undefined, isEnding: false };
    this.#threads.add(thread);
    worker.on('message', (result: UnpackResult) => this.#settle(thread, result));
    worker.on('error', (error) => this.#fail(thread, error));
    worker.on('exit', () => this.#fail(thread, new Error('unpack thread has ended')));
    return thread;
  }

  #settle(thread: Thread, result: UnpackResult): void {
    const { pending } = thread;
    thread.pending = undefined;
    if ('digest' in result) pending?.resolve(result);
    else
      pending?.reject(
        result.errorKind === undefined ? unknown(result.message) : new ApiError(result.errorKind, result.message),
      );
    thread.worker.unref();
    thread.idleTimer = setTimeout(() => {
      thread.isEnding = true;
      void thread.worker.terminate();
    }, IDLE_MS).unref();
    this.#next();
  }

  #fail(thread: Thread, error: Error): void {
    clearTimeout(thread.idleTimer);
    this.#threads.delete(thread);
    const { pending } = thread;
    thread.pending = undefined;
    pending?.reject(
      isErrno(error, 'ERR_WORKER_OUT_OF_MEMORY')
        ? resourceExhausted('layer: too many entries to unpack', { cause: error })
        : unknown(`unpack: ${messageOf(error)}`, { cause: error }),
    );
    this.#next();
  }
}

/** The compiled worker, also for code that runs from the sources. */
function workerFile(): string {
  const compiled = join(__dirname, 'unpack-worker.js');
  return existsSync(compiled) ? compiled : join(__dirname, '../../dist/daemon/diff/unpack-worker.js');
}
