// The files of the content store under one root: blobs/ALGORITHM/HEX (complete, durable, read-only), ingest/NAME/data
// (being written) and trash/ (being removed). It knows nothing of namespaces; which files count is decided by records.

import { renameSync, rmdirSync, statSync } from 'node:fs';
import { mkdir, opendir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno } from '../../proto/errors';
import { DirectorySync } from './directory-sync';
import { algorithmOf, type DigestAlgorithm } from './hasher';
import { dataPath, explainFullDisk } from './ingest-file';
import { OpenBlobs } from './open-blobs';

/** Of st_blocks (stat(2)). */
const BLOCK_BYTES = 512n;
const ALGORITHMS: readonly DigestAlgorithm[] = ['sha256', 'sha384', 'sha512'];

interface Swept {
  readonly count: number;
  readonly sizeBytes: bigint;
}

export class BlobFiles {
  readonly root: string;
  readonly opened = new OpenBlobs();
  /** Digests whose file is known to have other bytes. */
  readonly #damaged = new Set<string>();
  readonly #pins = new Map<string, number>();
  readonly #syncs = new Map<DigestAlgorithm, DirectorySync>();
  #trashed = 0;

  private constructor(root: string) {
    this.root = root;
    for (const algorithm of ALGORITHMS) this.#syncs.set(algorithm, new DirectorySync(this.#directory(algorithm)));
  }

  /** Creates the directories, durably, and empties the trash of an earlier run. */
  static async open(root: string): Promise<BlobFiles> {
    const files = new BlobFiles(root);
    await mkdir(root, { recursive: true, mode: 0o700 });
    for (const algorithm of ALGORITHMS) await mkdir(files.#directory(algorithm), { recursive: true });
    await mkdir(join(root, 'ingest'), { recursive: true });
    await rm(join(root, 'trash'), { recursive: true, force: true });
    await mkdir(join(root, 'trash'));
    await new DirectorySync(join(root, 'blobs')).sync();
    await new DirectorySync(root).sync();
    return files;
  }

  blobPath(digest: string): string {
    return join(this.#directory(algorithmOf(digest)), digest.slice(digest.indexOf(':') + 1));
  }

  ingestDirectory(name: string): string {
    return join(this.root, 'ingest', name);
  }

  /** Digests of all files that are there. */
  async digests(): Promise<Set<string>> {
    const digests = new Set<string>();
    for (const algorithm of ALGORITHMS) {
      for (const name of await readdir(this.#directory(algorithm))) digests.add(`${algorithm}:${name}`);
    }
    return digests;
  }

  /** Undefined when there is no such file. */
  sizeBytes(digest: string): number | undefined {
    return statSync(this.blobPath(digest), { throwIfNoEntry: false })?.size;
  }

  /** From now on the file does not count as the blob, and the next commit of the digest replaces it. */
  markDamaged(digest: string): void {
    this.#damaged.add(digest);
  }

  /** Whether there is a file of this size that is not known to be damaged. */
  isIntact(digest: string, sizeBytes: number): boolean {
    return !this.#damaged.has(digest) && this.sizeBytes(digest) === sizeBytes;
  }

  /** While a digest is pinned, sweepBlobs() leaves its file alone. Returns the undo. */
  pin(digest: string): () => void {
    this.#pins.set(digest, (this.#pins.get(digest) ?? 0) + 1);
    return () => {
      const count = (this.#pins.get(digest) ?? 0) - 1;
      if (count > 0) this.#pins.set(digest, count);
      else this.#pins.delete(digest);
    };
  }

  /**
   * Moves the sealed data of an ingest to its place, unless the blob is there already, and makes the entry durable.
   * A damaged file under that name is replaced; who reads it goes on with the old bytes. The caller holds a pin on the
   * digest.
   */
  async place(ingestName: string, digest: string, sizeBytes: number): Promise<void> {
    try {
      if (!this.isIntact(digest, sizeBytes)) {
        const path = this.blobPath(digest);
        renameSync(dataPath(this.ingestDirectory(ingestName)), path);
        this.opened.forget(path);
        this.#damaged.delete(digest);
      }
      await this.syncBlob(digest);
    } catch (error) {
      throw explainFullDisk(error, `store blob ${digest}`);
    }
  }

  /** Resolves when the directory entry of an existing blob is on disk. */
  async syncBlob(digest: string): Promise<void> {
    await this.#syncs.get(algorithmOf(digest))?.sync();
  }

  async removeIngest(name: string): Promise<void> {
    const directory = this.ingestDirectory(name);
    try {
      rmdirSync(directory); // A commit has moved the data away.
    } catch {
      await rm(directory, { recursive: true, force: true });
    }
  }

  /**
   * Removes every blob file that is neither pinned nor recorded. The check and the move out of blobs/ are one synchronous
   * step, so a commit that pins afterwards finds no file rather than a vanishing one.
   */
  async sweepBlobs(isRecorded: (digest: string) => boolean): Promise<Swept> {
    let count = 0;
    let sizeBytes = 0n;
    for (const algorithm of ALGORITHMS) {
      for await (const entry of await opendir(this.#directory(algorithm))) {
        const digest = `${algorithm}:${entry.name}`;
        if (this.#pins.has(digest) || isRecorded(digest)) continue;
        const trash = this.#moveToTrash(join(this.#directory(algorithm), entry.name));
        if (trash === undefined) continue;
        this.#damaged.delete(digest);
        sizeBytes += await diskBytes(trash);
        await rm(trash, { recursive: true, force: true });
        count += 1;
      }
    }
    return { count, sizeBytes };
  }

  /** Removes every ingest directory without a record. Records are made before directories, so none is missed. */
  async sweepIngests(isRecorded: (name: string) => boolean): Promise<Swept> {
    let count = 0;
    let sizeBytes = 0n;
    for await (const entry of await opendir(join(this.root, 'ingest'))) {
      if (isRecorded(entry.name)) continue;
      sizeBytes += await diskBytes(dataPath(this.ingestDirectory(entry.name)));
      await this.removeIngest(entry.name);
      count += 1;
    }
    return { count, sizeBytes };
  }

  #directory(algorithm: DigestAlgorithm): string {
    return join(this.root, 'blobs', algorithm);
  }

  #moveToTrash(path: string): string | undefined {
    this.#trashed += 1;
    const target = join(this.root, 'trash', String(this.#trashed));
    try {
      renameSync(path, target);
      return target;
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
  }
}

/** What a file takes; 0 when there is none. */
async function diskBytes(path: string): Promise<bigint> {
  try {
    return (await stat(path, { bigint: true })).blocks * BLOCK_BYTES;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return 0n;
    throw error;
  }
}
