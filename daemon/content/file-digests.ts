// Digests of files, read as a whole on a thread of their own, which lives as long as this does: nothing of a blob passes
// through the event loop.

import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { unknown } from '../../proto/errors';
import type { DigestAnswer, DigestJob, DigestProgress } from './digest-worker';

const WORKER_LIMITS = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 };

export class FileDigests implements AsyncDisposable {
  readonly #worker = new Worker(workerFile(), { resourceLimits: WORKER_LIMITS });

  /**
   * Ask for one file after the other.
   * @throws the signal's reason, after which nothing more can be asked
   */
  async of(
    job: Omit<DigestJob, 'isWatched'>,
    signal: AbortSignal,
    onProgress?: (readBytes: number) => void,
  ): Promise<DigestAnswer> {
    signal.throwIfAborted();
    const worker = this.#worker;
    const { promise, resolve, reject } = Promise.withResolvers<DigestAnswer>();
    const abort = () => {
      reject(signal.reason as Error);
      void worker.terminate();
    };
    const ended = () => reject(unknown('the thread that reads blobs has ended'));
    const take = (message: DigestAnswer | DigestProgress) => {
      if ('readBytes' in message) onProgress?.(message.readBytes);
      else resolve(message);
    };
    worker.on('message', take).once('error', reject).once('exit', ended);
    signal.addEventListener('abort', abort, { once: true });
    worker.postMessage({ ...job, isWatched: onProgress !== undefined } satisfies DigestJob);
    try {
      return await promise;
    } finally {
      signal.removeEventListener('abort', abort);
      worker.off('message', take).off('error', reject).off('exit', ended);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}

/** The compiled worker, also for tests that run from sources: a thread does not get their compiler. */
function workerFile(): string {
  const compiled = join(__dirname, 'digest-worker.js');
  return existsSync(compiled) ? compiled : resolve(__dirname, '../../dist/daemon/content/digest-worker.js');
}
