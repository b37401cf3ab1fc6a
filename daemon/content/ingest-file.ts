// The bytes of one ingest: an append-only file with a running digest. It knows nothing of namespaces, records or
// locks; the caller holds the only instance for a directory. After any failed write the file is as before it. What needs no
// disk is done in place: a blob of a few kilobytes would wait longer for threads than for its sync.

import { constants, fchmodSync, fstatSync, mkdirSync, writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { failedPrecondition, isErrno, messageOf, resourceExhausted } from '../../proto/errors';
import { nowNs } from '../../proto/time';
import { type DigestAlgorithm, Hasher } from './hasher';

const REHASH_BYTES = 512 << 10;
/** Unsynced bytes after which writing back starts in the background, so that the commit's sync has little left. */
const FLUSH_BYTES = 16 << 20;
/** Blobs up to here are written in place; what is larger may have to wait for the disk, and is written by a thread. */
const WRITE_SYNC_BYTES_MAX = 64 << 10;
const BLOB_MODE = 0o444;

export class IngestFile {
  readonly path: string;
  #handle: FileHandle | undefined;
  #hasher: Hasher;
  #sizeBytes = 0;
  #updatedAtNs: bigint;
  #unflushedBytes = 0;
  /** Runs, or has failed: of what could not be written only one sync hears. */
  #flush: Promise<void> | undefined;

  private constructor(path: string, handle: FileHandle, hasher: Hasher) {
    this.path = path;
    this.#handle = handle;
    this.#hasher = hasher;
    this.#updatedAtNs = nowNs();
  }

  /** Creates the directory and its data file, or resumes them: existing bytes are hashed again, in slices. */
  static async open(directory: string, algorithm: DigestAlgorithm): Promise<IngestFile> {
    try {
      mkdirSync(directory, { recursive: true, mode: 0o755 });
      const path = dataPath(directory);
      const handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o644);
      const file = new IngestFile(path, handle, new Hasher(algorithm));
      try {
        await file.#resume();
      } catch (error) {
        await handle.close();
        throw error;
      }
      return file;
    } catch (error) {
      throw explainFullDisk(error, `open ingest ${directory}`);
    }
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get updatedAtNs(): bigint {
    return this.#updatedAtNs;
  }

  /** Digest of the bytes so far. */
  digest(): string {
    return this.#hasher.digest();
  }

  get algorithm(): DigestAlgorithm {
    return this.#hasher.algorithm;
  }

  /** @throws RESOURCE_EXHAUSTED when the disk is full; the bytes before this call are kept. */
  async append(data: Uint8Array): Promise<void> {
    const handle = this.#opened();
    const [written, hashed] = await Promise.allSettled([
      writeFully(handle, data, this.#sizeBytes),
      this.#hasher.extend(data),
    ]);
    if (written.status === 'rejected' || hashed.status === 'rejected') {
      await handle.truncate(this.#sizeBytes);
      const reason = written.status === 'rejected' ? written.reason : (hashed as PromiseRejectedResult).reason;
      throw explainFullDisk(reason, `write ingest ${this.path}`);
    }
    this.#hasher = hashed.value;
    this.#sizeBytes += data.length;
    this.#updatedAtNs = nowNs();
    this.#flushInBackground(handle, data.length);
  }

  /** Drops all bytes. */
  async reset(): Promise<void> {
    await this.#opened().truncate(0);
    await this.#flush?.catch(() => {});
    this.#flush = undefined;
    this.#hasher = new Hasher(this.#hasher.algorithm);
    this.#sizeBytes = 0;
    this.#updatedAtNs = nowNs();
  }

  /** Hashes all bytes again with another algorithm. */
  async changeAlgorithm(algorithm: DigestAlgorithm): Promise<void> {
    if (algorithm === this.#hasher.algorithm) return;
    this.#hasher = new Hasher(algorithm);
    await this.#resume();
  }

  /**
   * Makes the bytes durable and read-only, and closes the file. When that fails the bytes are dropped: to whoever opened
   * them again they would read as they were written, and the next sync would succeed.
   */
  async seal(): Promise<void> {
    const handle = this.#opened();
    try {
      await this.#flush?.catch((error: unknown) => {
        throw explainFullDisk(error, `sync ingest ${this.path}`);
      });
      await sealFile(handle, this.path);
    } catch (error) {
      await handle.truncate(0).catch(() => {});
      throw error;
    } finally {
      await this.close();
    }
  }

  /** Keeps the bytes for a later open. Idempotent. */
  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await this.#flush?.catch(() => {});
    await handle?.close();
  }

  #opened(): FileHandle {
    if (this.#handle === undefined) throw failedPrecondition(`ingest ${this.path} is closed`);
    return this.#handle;
  }

  async #resume(): Promise<void> {
    const handle = this.#opened();
    this.#sizeBytes = 0;
    if (fstatSync(handle.fd).size === 0) return;
    const buffer = Buffer.allocUnsafe(REHASH_BYTES);
    let position = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) break;
      this.#hasher = await this.#hasher.extend(buffer.subarray(0, bytesRead));
      position += bytesRead;
      await setImmediate();
    }
    this.#sizeBytes = position;
  }

  #flushInBackground(handle: FileHandle, addedBytes: number): void {
    this.#unflushedBytes += addedBytes;
    if (this.#unflushedBytes < FLUSH_BYTES || this.#flush !== undefined) return;
    this.#unflushedBytes = 0;
    this.#flush = handle.datasync().then(() => {
      this.#flush = undefined;
    });
    this.#flush.catch(() => {}); // seal() throws it.
  }
}

/** Makes an open file durable and read-only. */
export async function sealFile(handle: FileHandle, path: string): Promise<void> {
  try {
    fchmodSync(handle.fd, BLOB_MODE);
    await handle.sync();
  } catch (error) {
    throw explainFullDisk(error, `sync ingest ${path}`);
  }
}

export function dataPath(directory: string): string {
  return join(directory, 'data');
}

/** RESOURCE_EXHAUSTED in place of ENOSPC and EDQUOT; any other error as it is. */
export function explainFullDisk(error: unknown, what: string): unknown {
  if (!isErrno(error, 'ENOSPC', 'EDQUOT')) return error;
  return resourceExhausted(`${what}: no space left on device`, { cause: new Error(messageOf(error)) });
}

async function writeFully(handle: FileHandle, data: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < data.length) {
    const rest = data.length - done;
    done +=
      position + data.length <= WRITE_SYNC_BYTES_MAX
        ? writeSync(handle.fd, data, done, rest, position + done)
        : (await handle.write(data, done, rest, position + done)).bytesWritten;
  }
}
