// The content store: blobs and ingests of namespaces. It joins the files (blob-files.ts) with their records
// (metadata/) and owns the locks on refs. A blob is recorded only when its file is durable.

import { type FileHandle, stat } from 'node:fs/promises';
import { alreadyExists, isErrno, notFound, unavailable } from '../../proto/errors';
import { ContentCreate, ContentDelete } from '../../proto/generated/containerd.events';
import { checkDigest } from '../../proto/ids';
import { nowNs } from '../../proto/time';
import type { EventBus } from '../events/bus';
import type { SweptData } from '../gc/collector';
import type { ResourceNode } from '../gc/graph';
import { BlobStore } from '../metadata/blob-store';
import type { Database } from '../metadata/database';
import { type IngestRecord, IngestStore, newIngestDirectory } from '../metadata/ingest-store';
import { checkLabels } from '../metadata/labels';
import { attachToLease, detachFromLease, requireLease } from '../metadata/lease-resources';
import { ensureNamespace } from '../metadata/namespaces';
import { BlobFiles } from './blob-files';
import { dataPath } from './ingest-file';
import type { OpenBlob } from './open-blobs';
import { ReceivedFile } from './received-file';
import { type CommitOptions, type Committed, checkRef, type IngestStatus, Writer, type WriterDeps } from './writer';

/** shared: a blob of any namespace spares the upload; isolated: only blobs of namespaces labelled shareable do. */
export type SharingPolicy = 'shared' | 'isolated';

export interface ContentStoreOptions {
  readonly root: string;
  readonly db: Database;
  readonly events: EventBus;
  readonly sharing: SharingPolicy;
}

export interface WriterOptions {
  readonly namespace: string;
  readonly ref: string;
  /** Digest of the blob to be, or empty. */
  readonly expected?: string;
  /** 0: unknown. */
  readonly totalBytes?: bigint;
  readonly lease?: string | undefined;
}

/** How long an ingest without a lease is kept. */
const INGEST_LIFETIME_NS = 24n * 3600n * 1_000_000_000n;
/** Digests that are looked at together. */
const LOST_PAGE = 1000;

interface Lock {
  readonly namespace: string;
  readonly ref: string;
  readonly sinceMs: number;
  writer: Writer | undefined;
}

export class ContentStore {
  readonly blobs: BlobStore;
  readonly #options: ContentStoreOptions;
  readonly #files: BlobFiles;
  readonly #ingests: IngestStore;
  readonly #locks = new Map<string, Lock>();

  private constructor(options: ContentStoreOptions, files: BlobFiles) {
    this.#options = options;
    this.#files = files;
    this.blobs = new BlobStore(options.db);
    this.#ingests = new IngestStore(options.db);
  }

  static async open(options: ContentStoreOptions): Promise<ContentStore> {
    return new ContentStore(options, await BlobFiles.open(options.root));
  }

  get root(): string {
    return this.#files.root;
  }

  get sharing(): SharingPolicy {
    return this.#options.sharing;
  }

  /** Where the bytes of a recorded blob are. They never change; the file may go when no record is left. */
  blobPath(digest: string): string {
    return this.#files.blobPath(checkDigest(digest));
  }

  /**
   * Lends the file of a recorded blob to `use`.
   * @throws NOT_FOUND when the file is missing, and what `use` throws
   */
  async *readBlob<T>(digest: string, use: (file: FileHandle) => AsyncIterable<T>): AsyncGenerator<T> {
    const path = this.#files.blobPath(digest);
    let blob: OpenBlob;
    try {
      blob = await this.#files.opened.acquire(path);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) throw notFound(`content digest ${digest}: its file is missing`, { cause: error });
      throw error;
    }
    try {
      yield* use(blob.file);
    } finally {
      blob.release();
    }
  }

  /** Whether the namespace has a blob, with its bytes as far as they can be told without reading them. */
  isStored(namespace: string, digest: string): boolean {
    if (!this.blobs.has(namespace, digest)) return false;
    const { sizeBytes } = this.blobs.get(namespace, digest);
    return this.#files.isIntact(digest, Number(sizeBytes));
  }

  /** Puts a blob that isStored() under the lease; false when it is not. @throws NOT_FOUND for an unknown lease */
  hold(namespace: string, digest: string, lease: string | undefined): boolean {
    const { db } = this.#options;
    if (!this.isStored(namespace, digest)) return false;
    db.transaction(() => attachToLease(db, namespace, lease, { type: 'content', id: digest }));
    return true;
  }

  /** Removes the record; garbage collection removes the file. @throws NOT_FOUND */
  remove(namespace: string, digest: string, lease: string | undefined): void {
    const { db, events } = this.#options;
    db.essential(() => {
      this.blobs.remove(namespace, digest);
      detachFromLease(db, namespace, lease, { type: 'content', id: digest });
      db.afterCommit(() => events.publish(namespace, '/content/delete', ContentDelete, { digest }));
    });
  }

  /**
   * Opens an ingest, new or resumed, and locks its ref until the writer is closed.
   * A blob whose file is missing or damaged can be written again.
   * @throws UNAVAILABLE while another writer has the ref, ALREADY_EXISTS when the namespace has the expected blob
   *   (which the caller's lease then holds), NOT_FOUND for an unknown lease
   */
  openWriter(options: WriterOptions): Promise<Writer> {
    return this.#open(options, async (deps, restart, lock) => {
      lock.writer = await Writer.open(deps, restart);
      return lock.writer;
    });
  }

  /** The same for bytes that somebody else writes to the file and hashes, such as a thread that downloads. */
  openReceivedFile(options: WriterOptions & { readonly expected: string }): Promise<ReceivedFile> {
    return this.#open(options, ReceivedFile.open);
  }

  async #open<T>(
    options: WriterOptions,
    make: (deps: WriterDeps, restart: boolean, lock: Lock) => Promise<T>,
  ): Promise<T> {
    const { namespace, lease, expected = '' } = options;
    const ref = checkRef(options.ref);
    if (expected !== '') {
      checkDigest(expected);
      this.#refuseExisting(namespace, expected, lease);
    }
    const lock = this.#lock(namespace, ref);
    const unlock = () => {
      this.#locks.delete(lockKey(namespace, ref));
    };
    const unpin = expected === '' ? () => {} : this.#files.pin(expected);
    try {
      const shared = this.#findShared(expected, options.totalBytes ?? 0n);
      const { record, restart } = this.#openRecord({ ...options, ref }, shared);
      const deps: WriterDeps = {
        ref,
        expected,
        shared,
        unlock,
        directory: record.directory,
        startedAtNs: record.startedAtNs,
        totalBytes: record.totalBytes,
        files: this.#files,
        beforeCommit: (commit) => this.#checkCommit(namespace, lease, commit),
        isRecorded: (digest) => this.blobs.has(namespace, digest),
        isStored: (digest) => this.isStored(namespace, digest),
        record: (blob, commit) => this.#record({ namespace, ref, lease }, blob, commit),
      };
      return await make(deps, restart, lock);
    } catch (error) {
      unlock();
      throw error;
    } finally {
      unpin();
    }
  }

  /** @throws NOT_FOUND */
  async status(namespace: string, ref: string): Promise<IngestStatus> {
    return this.#statusOf(this.#ingests.get(namespace, ref));
  }

  /** Of all ingests of the namespace whose ref passes, by ref. */
  async statuses(namespace: string, matches: (ref: string) => boolean): Promise<IngestStatus[]> {
    const records = this.#ingests.list(namespace).filter(({ ref }) => matches(ref));
    return Promise.all(records.map((record) => this.#statusOf(record)));
  }

  /** Removes an ingest with its bytes; a writer that is open fails at its commit. @throws NOT_FOUND */
  async abort(namespace: string, ref: string, lease: string | undefined): Promise<void> {
    const { db } = this.#options;
    const { directory } = db.essential(() => {
      const record = this.#ingests.get(namespace, ref);
      this.#ingests.remove(namespace, ref);
      detachFromLease(db, namespace, lease, { type: 'ingests', id: ref });
      return record;
    });
    await this.#files.removeIngest(directory);
  }

  /** Ingests with an open writer: roots of garbage collection. */
  openIngests(): ResourceNode[] {
    return [...this.#locks.values()].map(({ namespace, ref }) => ({ namespace, type: 'ingests', key: ref }));
  }

  /** Removes files that no record stands for. */
  async sweep(): Promise<SweptData[]> {
    this.#files.opened.closeIdle();
    const isWanted = (digest: string) => this.blobs.isRecorded(digest) || this.#ingests.isExpected(digest);
    return [
      { type: 'content', ...(await this.#files.sweepBlobs(isWanted)) },
      { type: 'ingests', ...(await this.#files.sweepIngests((directory) => this.#ingests.hasDirectory(directory))) },
    ];
  }

  /** Recorded blobs without a file. Their records stay: what they refer to would go with them. */
  async lost(): Promise<ResourceNode[]> {
    const present = await this.#files.digests();
    const lost: ResourceNode[] = [];
    for (let after = ''; ; ) {
      const digests = this.blobs.digests(after, LOST_PAGE);
      for (const digest of digests) {
        // What has come since is asked for by name.
        if (present.has(digest) || this.#files.sizeBytes(digest) !== undefined) continue;
        for (const namespace of this.blobs.namespacesOf(digest)) lost.push({ namespace, type: 'content', key: digest });
      }
      if (digests.length < LOST_PAGE) return lost;
      after = digests.at(-1) ?? '';
    }
  }

  /** The blob has to be written again before it is used for something new: its bytes are wrong. */
  markDamaged(digest: string): void {
    this.#files.markDamaged(checkDigest(digest));
  }

  #lock(namespace: string, ref: string): Lock {
    const key = lockKey(namespace, ref);
    const held = this.#locks.get(key);
    if (held !== undefined) {
      const seconds = (Date.now() - held.sinceMs) / 1000;
      const since = new Date(held.sinceMs).toISOString();
      throw unavailable(`ref ${namespace}/${ref} locked for ${seconds}s (since ${since})`);
    }
    const lock: Lock = { namespace, ref, sinceMs: Date.now(), writer: undefined };
    this.#locks.set(key, lock);
    return lock;
  }

  /** The lease takes the blob even though the call fails, so that it stays while the client goes on. */
  #refuseExisting(namespace: string, digest: string, lease: string | undefined): void {
    if (this.hold(namespace, digest, lease)) throw alreadyExists(`content ${digest}`);
  }

  /** The blob as another namespace has it, when the policy lets this one use it. The caller holds a pin. */
  #findShared(digest: string, totalBytes: bigint): Committed | undefined {
    if (digest === '') return undefined;
    if (this.#options.sharing === 'isolated' && !this.blobs.isShareable(digest)) return undefined;
    const size = this.#files.sizeBytes(digest);
    if (size === undefined || (totalBytes !== 0n && totalBytes !== BigInt(size))) return undefined;
    if (!this.#files.isIntact(digest, size)) return undefined;
    return { digest, sizeBytes: BigInt(size) };
  }

  #openRecord(options: WriterOptions, shared: Committed | undefined): { record: IngestRecord; restart: boolean } {
    const { db } = this.#options;
    const { namespace, ref, lease, totalBytes = 0n } = options;
    return db.transaction(() => {
      const now = nowNs();
      const found = this.#ingests.find(namespace, ref);
      const record: IngestRecord = {
        namespace,
        ref,
        directory: found?.directory ?? newIngestDirectory(namespace, ref, now),
        expected: shared?.digest ?? '',
        totalBytes: totalBytes !== 0n ? totalBytes : (found?.totalBytes ?? 0n),
        startedAtNs: found?.startedAtNs ?? now,
        expiresAtNs: lease === undefined ? now + INGEST_LIFETIME_NS : (found?.expiresAtNs ?? 0n),
      };
      ensureNamespace(db, namespace);
      this.#ingests.put(record);
      attachToLease(db, namespace, lease, { type: 'ingests', id: ref });
      const before = found?.totalBytes ?? 0n;
      return { record, restart: before !== 0n && totalBytes !== 0n && before !== totalBytes };
    });
  }

  #checkCommit(namespace: string, lease: string | undefined, { labels }: CommitOptions): void {
    checkLabels(labels);
    if (lease !== undefined) requireLease(this.#options.db, namespace, lease);
  }

  #record(
    ingest: Required<Pick<WriterOptions, 'namespace' | 'ref' | 'lease'>>,
    blob: Committed,
    commit: CommitOptions,
  ) {
    const { db, events } = this.#options;
    const { namespace, ref, lease } = ingest;
    const isNew = db.transaction(() => {
      const now = nowNs();
      const labels = checkLabels(commit.labels);
      ensureNamespace(db, namespace);
      const inserted = this.blobs.insert(namespace, { ...blob, labels, createdAtNs: now, updatedAtNs: now });
      this.#ingests.remove(namespace, ref);
      detachFromLease(db, namespace, lease, { type: 'ingests', id: ref });
      attachToLease(db, namespace, lease, { type: 'content', id: blob.digest });
      return inserted;
    });
    if (!isNew) throw alreadyExists(`content ${blob.digest}`);
    const { digest, sizeBytes: size } = blob;
    events.publish(namespace, '/content/create', ContentCreate, { digest, size });
  }

  async #statusOf(record: IngestRecord): Promise<IngestStatus> {
    const { namespace, ref, directory, totalBytes, startedAtNs } = record;
    const active = this.#locks.get(lockKey(namespace, ref))?.writer?.status;
    if (active !== undefined) return active;
    try {
      const { size, mtimeNs } = await stat(dataPath(this.#files.ingestDirectory(directory)), { bigint: true });
      return { ref, offsetBytes: size, totalBytes, startedAtNs, updatedAtNs: mtimeNs };
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
      return { ref, offsetBytes: 0n, totalBytes, startedAtNs, updatedAtNs: startedAtNs };
    }
  }
}

function lockKey(namespace: string, ref: string): string {
  return `${namespace}/${ref}`;
}
