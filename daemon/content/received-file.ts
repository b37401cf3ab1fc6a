// An ingest whose file somebody else writes, and whose bytes somebody else has proved against the expected digest: only
// opening, committing and closing are done here. Where another namespace has the blob there is nothing to write.

import { mkdir, open, rm } from 'node:fs/promises';
import { failedPrecondition } from '../../proto/errors';
import { dataPath, explainFullDisk, sealFile } from './ingest-file';
import { type CommitOptions, type Committed, checkSize, commitShared, placeAndRecord, type WriterDeps } from './writer';

export class ReceivedFile {
  /** Where the bytes go. What an earlier try has left is there already. */
  readonly path: string;
  /** Nothing needs to be written. */
  readonly isComplete: boolean;
  readonly #deps: WriterDeps;
  #isClosed = false;

  private constructor(deps: WriterDeps) {
    this.#deps = deps;
    this.path = dataPath(deps.files.ingestDirectory(deps.directory));
    this.isComplete = deps.shared !== undefined;
  }

  /** `restart` drops what an earlier try has left. */
  static async open(deps: WriterDeps, restart: boolean): Promise<ReceivedFile> {
    const file = new ReceivedFile(deps);
    if (file.isComplete) return file;
    try {
      await mkdir(deps.files.ingestDirectory(deps.directory), { recursive: true, mode: 0o755 });
      if (restart) await rm(file.path, { force: true });
    } catch (error) {
      throw explainFullDisk(error, `open ingest ${file.path}`);
    }
    return file;
  }

  /**
   * Makes the file the blob that was expected: durable, read-only, labelled, held by the caller's lease. It is closed
   * afterwards, whatever happens.
   * @throws FAILED_PRECONDITION for another size, ALREADY_EXISTS, INVALID_ARGUMENT for a label
   */
  async commit({ sizeBytes, labels }: Omit<CommitOptions, 'expected'>): Promise<Committed> {
    if (this.#isClosed) throw failedPrecondition('cannot commit on closed writer');
    const options = { sizeBytes, labels, expected: this.#deps.expected };
    try {
      this.#deps.beforeCommit(options);
      return this.isComplete ? await commitShared(this.#deps, options) : await this.#commitFile(options);
    } finally {
      this.close();
    }
  }

  /** Releases the ref and keeps the bytes. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#deps.unlock();
  }

  async #commitFile(options: CommitOptions): Promise<Committed> {
    const handle = await open(this.path, 'r+');
    try {
      const blob = { digest: this.#deps.expected, sizeBytes: BigInt((await handle.stat()).size) };
      checkSize(this.#deps, blob.sizeBytes, options);
      await placeAndRecord(this.#deps, blob, options, () => sealFile(handle, this.path));
      return blob;
    } finally {
      await handle.close();
    }
  }
}
