// The file that a blob grows in, with its running digest. Writes are synchronous: the thread does nothing else, and the
// page cache takes them at once.

import { createHash, type Hash } from 'node:crypto';
import { closeSync, constants, fdatasync, fstatSync, ftruncateSync, openSync, read, writeSync } from 'node:fs';
import { promisify } from 'node:util';

const REHASH_BYTES = 1 << 20;
/** Unsynced bytes after which writing back starts in the background, so that the commit's sync has little left. */
const FLUSH_BYTES = 16 << 20;
const FILE_MODE = 0o644;

const readAt = promisify(read);

export class BlobFile {
  /** Time that the thread has spent in writes of all files: nothing could come from the network meanwhile. */
  static writingMs = 0;

  readonly #fd: number;
  readonly #algorithm: string;
  #hash: Hash;
  #sizeBytes = 0;
  #unflushedBytes = 0;
  #flush: Promise<void> | undefined;

  private constructor(fd: number, algorithm: string) {
    this.#fd = fd;
    this.#algorithm = algorithm;
    this.#hash = createHash(algorithm);
  }

  /** Keeps and hashes what is in the file, unless that is more than the blob can be. @throws what open(2) and read(2) say */
  static async open(path: string, digest: string, sizeBytesMax: number): Promise<BlobFile> {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, FILE_MODE);
    const file = new BlobFile(fd, digest.slice(0, digest.indexOf(':')));
    try {
      if (fstatSync(fd).size > sizeBytesMax) ftruncateSync(fd, 0);
      else await file.#resume();
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** @throws ENOSPC and other errors of write(2); the file then ends with the last whole chunk. */
  append(chunk: Uint8Array): void {
    const startedMs = performance.now();
    try {
      for (let done = 0; done < chunk.length; ) {
        done += writeSync(this.#fd, chunk, done, chunk.length - done, this.#sizeBytes + done);
      }
    } catch (error) {
      ftruncateSync(this.#fd, this.#sizeBytes);
      throw error;
    } finally {
      BlobFile.writingMs += performance.now() - startedMs;
    }
    this.#hash.update(chunk);
    this.#sizeBytes += chunk.length;
    this.#flushInBackground(chunk.length);
  }

  /** Drops all bytes. */
  restart(): void {
    ftruncateSync(this.#fd, 0);
    this.#hash = createHash(this.#algorithm);
    this.#sizeBytes = 0;
  }

  digest(): string {
    return `${this.#algorithm}:${this.#hash.copy().digest('hex')}`;
  }

  async close(): Promise<void> {
    await this.#flush;
    closeSync(this.#fd);
  }

  async #resume(): Promise<void> {
    const buffer = Buffer.allocUnsafe(REHASH_BYTES);
    for (;;) {
      const { bytesRead } = await readAt(this.#fd, buffer, 0, buffer.length, this.#sizeBytes);
      if (bytesRead === 0) return;
      this.#hash.update(buffer.subarray(0, bytesRead));
      this.#sizeBytes += bytesRead;
    }
  }

  /** A failure here shows again when the blob is committed, which syncs everything. */
  #flushInBackground(addedBytes: number): void {
    this.#unflushedBytes += addedBytes;
    if (this.#unflushedBytes < FLUSH_BYTES || this.#flush !== undefined) return;
    this.#unflushedBytes = 0;
    this.#flush = new Promise((resolve) => {
      fdatasync(this.#fd, () => {
        this.#flush = undefined;
        resolve();
      });
    });
  }
}
