// A snapshotter that a plug-in provides over its socket. Names, labels, parents and leases are the daemon's, as with
// every snapshotter; the plug-in has keys of its own (proxy-keys.ts), makes the data and says how to mount it.

import {
  alreadyExists,
  errorKind,
  isAlreadyExists,
  isFailedPrecondition,
  isNotFound,
  isNotImplemented,
  notFound,
} from '../proto/errors';
import { type Info, Kind, SnapshotsService } from '../proto/generated/containerd.services.snapshots.v1';
import { nowNs } from '../proto/time';
import type { Mount } from '../runtime-native/index';
import { type CallOptions, ProxyClient } from './proxy-client';
import { type Leftover, ProxyKeys } from './proxy-keys';
import { type Creation, NOTHING, RecordedSnapshotter } from './recorded';
import { type RecordDatabase, type SnapshotIds, SnapshotRecords } from './records';
import {
  type CleanupReport,
  type CommitOptions,
  type CreateOptions,
  type LabelChange,
  type SnapshotInfo,
  type SnapshotName,
  type Snapshotter,
  type SnapshotUsage,
  TARGET_LABEL,
  type UpdateOptions,
} from './snapshotter';

export interface ProxyOptions {
  readonly name: string;
  /** Path of the plug-in's socket. */
  readonly address: string;
  /** The plug-in's own name for its snapshotter. */
  readonly snapshotter: string;
  readonly capabilities: readonly string[];
  /** Told to clients in the list of plugins; `root` is the directory below which the data is. */
  readonly exports: Readonly<Record<string, string>>;
}

interface LabelTransition extends UpdateOptions {
  readonly from: Readonly<Record<string, string>>;
  readonly to: Readonly<Record<string, string>>;
}

/** A plug-in may fetch a layer before it answers, or write one. */
const WORK_TIMEOUT_MS = 600_000;
const QUERY_TIMEOUT_MS = 60_000;
/** Labels that plug-ins see, besides TARGET_LABEL. */
const INHERITED_PREFIX = 'containerd.io/snapshot/';

export class ProxySnapshotter extends RecordedSnapshotter implements Snapshotter {
  readonly name: string;
  readonly root: string;
  readonly capabilities: readonly string[];
  readonly #backend: string;
  readonly #client: ProxyClient;
  readonly #keys: ProxyKeys;
  readonly #ids: SnapshotIds;
  readonly #closing = new AbortController();
  /** The last update of each snapshot, settled whatever becomes of it. */
  readonly #updates = new Map<number, Promise<void>>();
  /** Names that the plug-in removes now. */
  readonly #removing = new Set<string>();

  constructor(options: ProxyOptions, db: RecordDatabase, ids: SnapshotIds) {
    super(new SnapshotRecords(db, options.name));
    this.name = options.name;
    this.root = options.exports['root'] ?? '';
    this.capabilities = options.capabilities;
    this.#backend = options.snapshotter;
    this.#client = new ProxyClient(options);
    this.#keys = new ProxyKeys(db, options.name);
    this.#ids = ids;
  }

  close(): void {
    this.#closing.abort();
    this.#client.close();
  }

  async usage(namespace: string, key: string): Promise<SnapshotUsage> {
    const { id, kind, usage } = this.records.get(namespace, key);
    switch (kind) {
      case 'committed':
        return usage;
      case 'view':
        return NOTHING;
      case 'active':
        return this.#usage(namespace, this.#keys.of(id));
    }
  }

  async mounts(namespace: string, key: string): Promise<Mount[]> {
    const { id } = this.mountable(namespace, key);
    const request = { snapshotter: this.#backend, key: this.#keys.of(id) };
    return (await this.#client.unary(SnapshotsService.mounts, request, this.#query(namespace))).mounts;
  }

  prepare(namespace: string, key: string, parent: string, options: CreateOptions = {}): Promise<Mount[]> {
    return this.#create({ namespace, key, parent, kind: 'active', options });
  }

  view(namespace: string, key: string, parent: string, options: CreateOptions = {}): Promise<Mount[]> {
    return this.#create({ namespace, key, parent, kind: 'view', options });
  }

  /** The plug-in commits first: should the daemon end before its record is written, the snapshot has to be made again. */
  async commit(namespace: string, name: string, key: string, options: CommitOptions = {}): Promise<void> {
    const { labels = {}, signal } = options;
    // The plug-in has to know the parent.
    await options.ready;
    await this.oneCommit(namespace, name, { key, options }, async (record) => {
      const { id } = record;
      const backendKey = this.#keys.of(id);
      const usage = await this.#usage(namespace, backendKey);
      // The plug-in knows the parent of a snapshot that has had one from the start.
      const newParent = this.records.get(namespace, key).parent === '' ? record.parentId : undefined;
      const parent = newParent === undefined ? '' : this.#keys.of(newParent);
      await this.#keys.withNew(namespace, { id, key: name }, async (backendName) => {
        const request = { snapshotter: this.#backend, name: backendName, key: backendKey, parent };
        const withLabels = { ...request, labels: inherited(labels) };
        await this.#client.unary(SnapshotsService.commit, withLabels, work(namespace, signal));
        this.records.db.transaction(() => {
          const { parentId } = this.recheckCommit(namespace, name, key, { id, options });
          this.records.commit(id, name, { parentId, labels, usage, nowNs: nowNs() });
          this.#keys.attach(id, namespace, backendName);
          options.within?.();
        });
      });
    });
  }

  /** The plug-in is told first: updates of one snapshot come one after the other. */
  override async update(
    namespace: string,
    key: string,
    change: LabelChange,
    options: UpdateOptions = {},
  ): Promise<SnapshotInfo> {
    const { id } = this.records.get(namespace, key);
    const before = this.#updates.get(id) ?? Promise.resolve();
    const update = before.then(async () => {
      const { labels } = this.records.get(namespace, key);
      await this.#tellLabels(namespace, id, { from: inherited(labels), to: inherited(change(labels)), ...options });
      return super.update(namespace, key, change);
    });
    const settled = update.then(
      () => {},
      () => {},
    );
    this.#updates.set(id, settled);
    void settled.then(() => this.#updates.get(id) === settled && this.#updates.delete(id));
    return update;
  }

  /**
   * Has the plug-in remove what no record stands for. What it holds for others is left alone. Ends with close().
   * @throws UNAVAILABLE without the plug-in; what is left goes with the next call
   */
  async cleanup(): Promise<CleanupReport> {
    try {
      return { count: await this.#removeLeftovers(), sizeBytes: 0n };
    } catch (error) {
      if (!this.#closing.signal.aborted) throw error;
      return { count: 0, sizeBytes: 0n };
    }
  }

  async lost(): Promise<SnapshotName[]> {
    return [];
  }

  /** Returns how many are gone. */
  async #removeLeftovers(): Promise<number> {
    const leftovers = this.#keys.leftovers();
    let removed = 0;
    for (const leftover of leftovers) if (await this.#removeLeftover(leftover)) removed += 1;
    for (const namespace of new Set(leftovers.map((leftover) => leftover.namespace))) {
      const request = { snapshotter: this.#backend };
      await this.#client.unary(SnapshotsService.cleanup, request, this.#query(namespace)).catch((error: unknown) => {
        if (!isNotImplemented(error)) throw error;
      });
    }
    return removed;
  }

  async #create(creation: Creation): Promise<Mount[]> {
    const { namespace, key, parent, kind, options } = creation;
    const parentRecord = this.checkNew(creation);
    const labels = options.labels ?? {};
    const backendParent = parentRecord === undefined ? '' : this.#keys.of(parentRecord.id);
    const id = this.#ids.next();
    return this.#keys.withNew(namespace, { id, key }, async (backendKey) => {
      const method = kind === 'view' ? SnapshotsService.view : SnapshotsService.prepare;
      const request = { snapshotter: this.#backend, key: backendKey, parent: backendParent, labels: inherited(labels) };
      let isMade = false;
      try {
        const { mounts } = await this.#client.unary(method, request, work(namespace, options.signal));
        isMade = true;
        this.records.db.transaction(() => {
          this.checkNew(creation);
          this.records.insert({ id, namespace, key, kind, parent, labels, nowNs: nowNs() });
          this.#keys.attach(id, namespace, backendKey);
          options.within?.();
        });
        return mounts;
      } catch (error) {
        // What cannot be removed now, and what may have been made by a call without an answer, goes with the next cleanup.
        if (isMade) await this.#removeLeftover({ namespace, backendKey }).catch(() => {});
        else if (isRefusal(error)) this.#keys.forget({ namespace, backendKey });
        // A parent that was removed meanwhile explains the failure.
        this.checkNew(creation);
        const target = labels[TARGET_LABEL];
        if (target && isAlreadyExists(error)) await this.#adopt(creation, target, backendParent);
        throw error;
      }
    });
  }

  /**
   * The plug-in has the layer that the snapshot was to be filled with: it gets a record.
   * @throws ALREADY_EXISTS naming the target, by which clients know that there is nothing to unpack
   */
  async #adopt({ namespace, parent, options }: Creation, target: string, backendParent: string): Promise<never> {
    const { name } = await this.#findTarget(namespace, target, backendParent);
    const usage = await this.#usage(namespace, name);
    const id = this.#ids.next();
    const labels = options.labels ?? {};
    this.records.db.transaction(() => {
      if (this.records.find(namespace, target) !== undefined) return;
      const now = nowNs();
      this.records.insert({ id, namespace, key: target, kind: 'committed', parent, labels, nowNs: now });
      const { parentId } = this.records.get(namespace, target);
      this.records.commit(id, target, { parentId, labels, usage, nowNs: now });
      this.#keys.attach(id, namespace, name);
    });
    throw alreadyExists(`target snapshot "${target}"`);
  }

  async #findTarget(namespace: string, target: string, parent: string): Promise<Info> {
    const filters = [`labels."${TARGET_LABEL}"==${JSON.stringify(target)},parent==${JSON.stringify(parent)}`];
    const request = { snapshotter: this.#backend, filters };
    const answers = await this.#client.list(SnapshotsService.list, request, this.#query(namespace));
    // Not every plug-in knows filters.
    const found = answers
      .flatMap(({ info }) => info)
      .find((info) => info.kind === Kind.COMMITTED && info.parent === parent && info.labels[TARGET_LABEL] === target);
    if (found !== undefined && !this.#removing.has(found.name)) return found;
    throw notFound(`target snapshot "${target}" in the backend of snapshotter "${this.name}"`);
  }

  async #tellLabels(namespace: string, id: number, { from, to, signal }: LabelTransition): Promise<void> {
    const changed = [...new Set([...Object.keys(from), ...Object.keys(to)])].filter((key) => from[key] !== to[key]);
    if (changed.length === 0) return;
    const request = {
      snapshotter: this.#backend,
      info: { name: this.#keys.of(id), labels: to },
      // What the plug-in has written itself stays.
      updateMask: { paths: changed.map((key) => `labels.${key}`) },
    };
    const options = this.#query(namespace);
    await this.#client.unary(SnapshotsService.update, request, { ...options, signal: signal ?? options.signal });
  }

  /** False while others of the plug-in's snapshots are on top of it. */
  async #removeLeftover(leftover: Leftover): Promise<boolean> {
    const { namespace, backendKey: key } = leftover;
    this.#removing.add(key);
    try {
      await this.#client.unary(SnapshotsService.remove, { snapshotter: this.#backend, key }, this.#query(namespace));
      this.#keys.forget(leftover);
    } catch (error) {
      if (isFailedPrecondition(error)) return false;
      if (!isNotFound(error)) throw error;
      this.#keys.forget(leftover);
    } finally {
      this.#removing.delete(key);
    }
    return true;
  }

  #query(namespace: string): CallOptions {
    return { namespace, timeoutMs: QUERY_TIMEOUT_MS, signal: this.#closing.signal };
  }

  async #usage(namespace: string, key: string): Promise<SnapshotUsage> {
    const request = { snapshotter: this.#backend, key };
    const { size, inodes } = await this.#client.unary(SnapshotsService.usage, request, this.#query(namespace));
    return { sizeBytes: size, inodes };
  }
}

/** Whether the plug-in has said that it made nothing. */
function isRefusal(error: unknown): boolean {
  return (
    isAlreadyExists(error) ||
    isNotFound(error) ||
    isFailedPrecondition(error) ||
    isNotImplemented(error) ||
    errorKind(error) === 'invalid argument'
  );
}

function inherited(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(labels).filter(([key]) => key === TARGET_LABEL || key.startsWith(INHERITED_PREFIX)),
  );
}

function work(namespace: string, signal: AbortSignal | undefined): CallOptions {
  return { namespace, timeoutMs: WORK_TIMEOUT_MS, signal };
}
