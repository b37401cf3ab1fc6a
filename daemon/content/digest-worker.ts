// Worker thread of file-digests.ts: reads whole files and hashes them, one at a time.

import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';

export interface DigestJob {
  readonly path: string;
  readonly algorithm: string;
  /** Is told now and then how many bytes were read. */
  readonly isWatched?: boolean;
}

export type DigestAnswer =
  | { readonly digest: string; readonly sizeBytes: number }
  /** errno's name where there is one. */
  | { readonly code: string; readonly message: string };

/** What comes before the answer to a job that is watched. */
export interface DigestProgress {
  readonly readBytes: number;
}

const PIECE_BYTES = 1 << 20;
const PROGRESS_PIECES = 8;

const buffer = Buffer.allocUnsafe(PIECE_BYTES);

parentPort?.on('message', (job: DigestJob) => tell(answer(job)));

function tell(message: DigestAnswer | DigestProgress): void {
  parentPort?.postMessage(message);
}

function answer({ path, algorithm, isWatched = false }: DigestJob): DigestAnswer {
  let fd: number | undefined;
  try {
    fd = openSync(path, 'r');
    const hash = createHash(algorithm);
    let sizeBytes = 0;
    for (;;) {
      const count = readSync(fd, buffer, 0, buffer.length, null);
      if (count === 0) return { digest: `${algorithm}:${hash.digest('hex')}`, sizeBytes };
      hash.update(buffer.subarray(0, count));
      sizeBytes += count;
      if (isWatched && sizeBytes % (PROGRESS_PIECES * PIECE_BYTES) === 0) tell({ readBytes: sizeBytes });
    }
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    return { code, message };
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
