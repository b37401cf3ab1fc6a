// The threads in which layers are created. A build makes a layer after each of its steps, and a thread takes longer to start
// than most of them take to write: one that has done its work is kept for a while. An idle daemon has none.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { ApiError, unknown } from '../../proto/errors';
import type { Writer } from '../content/writer';
import type { CreateJob, CreateMessage, CreateRequest } from './create-worker';

const IDLE_MS = 5000;
/** Threads that are kept; each takes about 10 MiB. */
const IDLE_MAX = 2;

interface PendingJob {
  readonly writer: Writer;
  readonly resolve: (uncompressedDigest: string) => void;
  readonly reject: (error: unknown) => void;
}

const idle: CreateThread[] = [];

/**
 * Writes a layer to `writer` in a thread that does nothing else meanwhile. Returns the digest of the uncompressed archive.
 * @throws what the thread or the writer fails with, the signal's reason
 */
export async function createInThread(writer: Writer, job: CreateJob, signal: AbortSignal): Promise<string> {
  signal.throwIfAborted();
  const thread = idle.pop() ?? new CreateThread();
  return thread.run(writer, job, signal);
}

class CreateThread {
  readonly #worker = new Worker(workerFile());
  #pending: PendingJob | undefined;
  #idleTimer: NodeJS.Timeout | undefined;

  constructor() {
    this.#worker.on('message', (message: CreateMessage) => this.#take(message));
    this.#worker.on('error', (error) => this.#end(error));
    this.#worker.on('exit', () => this.#end(unknown('the thread that creates the layer has ended')));
  }

  async run(writer: Writer, job: CreateJob, signal: AbortSignal): Promise<string> {
    clearTimeout(this.#idleTimer);
    this.#worker.ref();
    const abort = () => this.#end(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      return await new Promise<string>((resolve, reject) => {
        this.#pending = { writer, resolve, reject };
        this.#send(job);
      });
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  #take(message: CreateMessage): void {
    // What it was doing when it was told to end.
    if (this.#pending === undefined) return;
    const { writer, resolve } = this.#pending;
    if ('piece' in message) {
      writer.append(message.piece).then(
        () => this.#send('stored'),
        (error: unknown) => this.#end(error),
      );
      return;
    }
    if ('uncompressedDigest' in message) {
      this.#rest();
      resolve(message.uncompressedDigest);
      return;
    }
    // The answer to a piece of the job that has failed may be on its way, and would be taken for that to a piece of the next.
    const { errorKind, message: words } = message;
    this.#end(errorKind === undefined ? unknown(words) : new ApiError(errorKind, words));
  }

  #rest(): void {
    this.#pending = undefined;
    this.#worker.unref();
    if (idle.length >= IDLE_MAX) return void this.#worker.terminate();
    idle.push(this);
    this.#idleTimer = setTimeout(() => this.#end(undefined), IDLE_MS).unref();
  }

  /** Ends the thread; a job that it has fails. */
  #end(error: unknown): void {
    clearTimeout(this.#idleTimer);
    if (idle.includes(this)) idle.splice(idle.indexOf(this), 1);
    this.#pending?.reject(error);
    this.#pending = undefined;
    void this.#worker.terminate();
  }

  #send(request: CreateRequest): void {
    this.#worker.postMessage(request);
  }
}

/** The compiled worker, also for code that runs from the sources. */
function workerFile(): string {
  const compiled = join(__dirname, 'create-worker.js');
  return existsSync(compiled) ? compiled : join(__dirname, '../../dist/daemon/diff/create-worker.js');
}
