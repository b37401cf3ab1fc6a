// Worker thread of file-digests.ts: reads whole files and hashes them, one at a time.

import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';

export interface DigestJob {
  readonly path: string;
  readonly algorithm: string;
}

export type DigestAnswer =
  | { readonly digest: string; readonly sizeBytes: number }
  /** errno's name where there is one. */
  | { readonly code: string; readonly message: string };

const PIECE_BYTES = 1 << 20;

const buffer = Buffer.allocUnsafe(PIECE_BYTES);

parentPort?.on('message', (job: DigestJob) => parentPort?.postMessage(answer(job)));

function answer({ path, algorithm }: DigestJob): DigestAnswer {
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
    }
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    return { code, message };
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
