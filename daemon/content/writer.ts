// One open ingest of a namespace: the bytes so far, and the commit that turns them into a blob. While the blob is known
// to the store already (from another namespace), the writer is complete from the start and holds no file.

import { copyFile } from 'node:fs/promises';
import { failedPrecondition, invalidArgument, isErrno, notFound } from '../../proto/errors';
import type { BlobFiles } from './blob-files';
import { algorithmOf, CANONICAL_ALGORITHM } from './hasher';
import { dataPath, explainFullDisk, IngestFile } from './ingest-file';

export interface IngestStatus {
  readonly ref: string;
  readonly offsetBytes: bigint;
  readonly totalBytes: bigint;
  readonly startedAtNs: bigint;
  readonly updatedAtNs: bigint;
}

export interface CommitOptions {
  /** 0: any. */
  readonly sizeBytes: bigint;
  /** Empty: any. */
  readonly expected: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface Committed {
  readonly digest: string;
  readonly sizeBytes: bigint;
}

export interface WriterDeps {
  readonly ref: string;
  readonly directory: string;
  readonly startedAtNs: bigint;
  readonly totalBytes: bigint;
  readonly files: BlobFiles;
  /** The blob of another namespace that stands in for the data, if any. */
  readonly shared: Committed | undefined;
  readonly expected: string;
  /** Checks what can be checked before bytes move. @throws what commit() is to throw */
  readonly beforeCommit: (options: CommitOptions) => void;
  /** Whether the namespace has the blob already. */
  readonly isRecorded: (digest: string) => boolean;
  /** Whether it has it, and with its bytes. */
  readonly isStored: (digest: string) => boolean;
  /** Records the blob, in one transaction. @throws ALREADY_EXISTS */
  readonly record: (blob: Committed, options: CommitOptions) => void;
  readonly unlock: () => void;
}

export class Writer {
  readonly #deps: WriterDeps;
  #file: IngestFile | undefined;
  #isClosed = false;

  private constructor(deps: WriterDeps) {
    this.#deps = deps;
  }

  /** `restart` drops what an earlier writer left. */
  static async open(deps: WriterDeps, restart: boolean): Promise<Writer> {
    const writer = new Writer(deps);
    if (deps.shared !== undefined) return writer;
    writer.#file = await writer.#openFile();
    if (restart) await writer.#file.reset();
    return writer;
  }

  get status(): IngestStatus {
    const { ref, startedAtNs, totalBytes, shared } = this.#deps;
    const file = this.#file;
    return {
      ref,
      startedAtNs,
      offsetBytes: file === undefined ? (shared?.sizeBytes ?? 0n) : BigInt(file.sizeBytes),
      totalBytes: file === undefined ? (shared?.sizeBytes ?? totalBytes) : totalBytes,
      updatedAtNs: file?.updatedAtNs ?? startedAtNs,
    };
  }

  /** Digest of the bytes so far. */
  digest(): string {
    return this.#file?.digest() ?? this.#deps.shared?.digest ?? '';
  }

  /** @throws RESOURCE_EXHAUSTED when the disk is full; what was written before stays. */
  async append(data: Uint8Array): Promise<void> {
    if (data.length === 0) return;
    await (await this.#unshared('keep')).append(data);
  }

  /** Drops all bytes. */
  async reset(): Promise<void> {
    await (await this.#unshared('drop')).reset();
  }

  /**
   * Makes the bytes a blob of the namespace: durable, read-only, labelled, held by the caller's lease. The writer is
   * closed afterwards, whatever happens; after a failed check the ingest can be opened again.
   * @throws FAILED_PRECONDITION for another size or digest than expected, ALREADY_EXISTS, INVALID_ARGUMENT
   */
  async commit(options: CommitOptions): Promise<Committed> {
    if (this.#isClosed) throw failedPrecondition('cannot commit on closed writer');
    try {
      this.#deps.beforeCommit(options);
      return this.#file === undefined
        ? await commitShared(this.#deps, options)
        : await this.#commitFile(this.#file, options);
    } finally {
      await this.close();
    }
  }

  /** Releases the ref and keeps the bytes. Idempotent. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      await this.#file?.close();
    } finally {
      this.#deps.unlock();
    }
  }

  async #commitFile(file: IngestFile, options: CommitOptions): Promise<Committed> {
    checkSize(this.#deps, BigInt(file.sizeBytes), options);
    if (options.expected !== '') await file.changeAlgorithm(algorithmOf(options.expected));
    const blob = { digest: file.digest(), sizeBytes: BigInt(file.sizeBytes) };
    if (options.expected !== '' && options.expected !== blob.digest) {
      throw failedPrecondition(`unexpected commit digest ${blob.digest}, expected ${options.expected}`);
    }
    await placeAndRecord(this.#deps, blob, options, () => file.seal());
    return blob;
  }

  /** The writer's own file; the first write to a shared blob makes one, with or without the blob's bytes. */
  async #unshared(bytes: 'keep' | 'drop'): Promise<IngestFile> {
    if (this.#isClosed) throw failedPrecondition(`"${this.#deps.ref}" is closed`);
    if (this.#file !== undefined) return this.#file;
    const { files, directory, shared } = this.#deps;
    const empty = await this.#openFile();
    if (bytes === 'drop' || shared === undefined) {
      this.#file = empty;
      return empty;
    }
    await empty.close();
    try {
      await copyFile(files.blobPath(shared.digest), dataPath(files.ingestDirectory(directory)));
    } catch (error) {
      throw explainFullDisk(error, `copy blob ${shared.digest}`);
    }
    this.#file = await this.#openFile();
    return this.#file;
  }

  #openFile(): Promise<IngestFile> {
    const { files, directory, expected } = this.#deps;
    const algorithm = expected === '' ? CANONICAL_ALGORITHM : algorithmOf(expected);
    return IngestFile.open(files.ingestDirectory(directory), algorithm);
  }
}

/** Makes a blob of another namespace one of this. @throws FAILED_PRECONDITION, NOT_FOUND when its file is gone */
export async function commitShared(deps: WriterDeps, options: CommitOptions): Promise<Committed> {
  const { ref, shared, files } = deps;
  if (shared === undefined) throw failedPrecondition('cannot commit on closed writer');
  checkSize(deps, shared.sizeBytes, options);
  if (options.expected !== '' && options.expected !== shared.digest) {
    throw failedPrecondition(`"${ref}" unexpected digest`);
  }
  const unpin = files.pin(shared.digest);
  try {
    if (files.sizeBytes(shared.digest) === undefined) throw notFound(`content ${shared.digest}`);
    await files.syncBlob(shared.digest);
    deps.record(shared, options);
  } finally {
    unpin();
  }
  return shared;
}

/** Makes the file of an ingest a blob of the namespace; `seal` makes it durable and read-only. @throws ALREADY_EXISTS */
export async function placeAndRecord(
  deps: WriterDeps,
  blob: Committed,
  options: CommitOptions,
  seal: () => Promise<void>,
): Promise<void> {
  const { directory, files } = deps;
  const unpin = files.pin(blob.digest);
  try {
    if (!deps.isStored(blob.digest)) {
      await seal();
      await place(deps, blob);
    }
    deps.record(blob, options);
  } finally {
    unpin();
    // What cannot be removed now has no record either, so the next sweep takes it.
    if (deps.isRecorded(blob.digest)) await files.removeIngest(directory).catch(() => {});
  }
}

/** @throws FAILED_PRECONDITION */
export function checkSize({ ref }: WriterDeps, actual: bigint, { sizeBytes }: CommitOptions): void {
  if (sizeBytes === 0n || sizeBytes === actual) return;
  throw failedPrecondition(`"${ref}" failed size validation: ${actual} != ${sizeBytes}`);
}

async function place({ ref, directory, files }: WriterDeps, { digest, sizeBytes }: Committed): Promise<void> {
  try {
    await files.place(directory, digest, Number(sizeBytes));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) throw notFound(`ingest "${ref}" was aborted`, { cause: error });
    throw error;
  }
}

/** @throws INVALID_ARGUMENT */
export function checkRef(ref: string): string {
  if (ref === '') throw invalidArgument('ref must not be empty');
  return ref;
}
