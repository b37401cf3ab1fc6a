// A snapshotter over directories of this machine: records in SQLite, data through a driver. Order of work decides what a
// crash leaves: data is made before its record and removed after it, so only data without a record can be left over,
// which cleanup() finds; what is committed was synced before.

import { alreadyExists, failedPrecondition, isErrno, notImplemented, resourceExhausted } from '../proto/errors';
import { nowNs } from '../proto/time';
import type { Mount } from '../runtime-native/index';
import type { Driver, Layer } from './driver';
import { fullKey, type RecordDatabase, type SnapshotIds, type SnapshotRecord, SnapshotRecords } from './records';
import {
  type CommitOptions,
  type CreateOptions,
  type RemoveOptions,
  type SnapshotInfo,
  type SnapshotKind,
  type Snapshotter,
  type SnapshotUsage,
  TARGET_LABEL,
} from './snapshotter';

const NOTHING: SnapshotUsage = { sizeBytes: 0n, inodes: 0n };

interface Creation {
  readonly namespace: string;
  readonly key: string;
  readonly parent: string;
  readonly kind: Exclude<SnapshotKind, 'committed'>;
  readonly options: CreateOptions;
}

export class LocalSnapshotter implements Snapshotter {
  readonly name: string;
  readonly root: string;
  readonly capabilities: readonly string[];
  readonly #driver: Driver;
  readonly #records: SnapshotRecords;
  readonly #ids: SnapshotIds;
  /** Numbers whose data is made and whose record is not written yet. */
  readonly #pending = new Set<number>();

  private constructor(driver: Driver, records: SnapshotRecords, ids: SnapshotIds) {
    this.name = driver.name;
    this.root = driver.root;
    this.capabilities = driver.canRebase ? ['rebase'] : [];
    this.#driver = driver;
    this.#records = records;
    this.#ids = ids;
  }

  /** Opens the snapshots of a driver and repairs what a power cut may have taken of those in use. */
  static async open(driver: Driver, db: RecordDatabase, ids: SnapshotIds): Promise<LocalSnapshotter> {
    const records = new SnapshotRecords(db, driver.name);
    for (const record of records.unfinished()) await driver.repair(layerOf(records, record));
    if (driver.settle !== undefined) for (const id of records.committedIds()) await driver.settle(id);
    return new LocalSnapshotter(driver, records, ids);
  }

  stat(namespace: string, key: string): SnapshotInfo {
    return this.#records.get(namespace, key);
  }

  update(
    namespace: string,
    key: string,
    change: (labels: Readonly<Record<string, string>>) => Record<string, string>,
  ): SnapshotInfo {
    return this.#records.db.transaction(() => {
      const { id, labels } = this.#records.get(namespace, key);
      this.#records.setLabels(id, change(labels), nowNs());
      return this.#records.get(namespace, key) as SnapshotInfo;
    });
  }

  async usage(namespace: string, key: string): Promise<SnapshotUsage> {
    const { id, kind, usage } = this.#records.get(namespace, key);
    switch (kind) {
      case 'committed':
        return usage;
      case 'view':
        return NOTHING;
      case 'active':
        return this.#driver.usage(id);
    }
  }

  async mounts(namespace: string, key: string): Promise<Mount[]> {
    const record = this.#records.get(namespace, key);
    if (record.kind === 'committed') {
      throw failedPrecondition(
        `failed to get active mount: requested snapshot ${fullKey(namespace, record)} not active or view`,
      );
    }
    return this.#driver.mounts(layerOf(this.#records, record));
  }

  prepare(namespace: string, key: string, parent: string, options: CreateOptions = {}): Promise<Mount[]> {
    return this.#create({ namespace, key, parent, kind: 'active', options });
  }

  view(namespace: string, key: string, parent: string, options: CreateOptions = {}): Promise<Mount[]> {
    return this.#create({ namespace, key, parent, kind: 'view', options });
  }

  async commit(namespace: string, name: string, key: string, options: CommitOptions = {}): Promise<void> {
    const { id } = this.#checkCommit(namespace, name, key, options);
    const usage = await this.#driver.seal(id).catch((error: unknown) => {
      throw explain(error, key);
    });
    this.#records.db.transaction(() => {
      // Whatever became of the key and the name meanwhile.
      const record = this.#checkCommit(namespace, name, key, options);
      if (record.id !== id) throw failedPrecondition(`snapshot "${key}" was replaced while it was committed`);
      const { parentId } = record;
      this.#records.commit(id, name, { parentId, labels: options.labels ?? {}, usage, nowNs: nowNs() });
      options.within?.();
    });
    // The snapshot is committed whatever becomes of this; the next start does what is left.
    await this.#driver.settle?.(id).catch(() => {});
  }

  remove(namespace: string, key: string, options: RemoveOptions = {}): void {
    this.#records.db.essential(() => {
      this.#records.remove(namespace, key);
      options.within?.();
    });
  }

  walk(namespace: string): SnapshotInfo[] {
    return this.#records.list(namespace);
  }

  async cleanup(): Promise<void> {
    const present = await this.#driver.list();
    const recorded = this.#records.ids();
    const orphans = present.filter((id) => !recorded.has(id) && !this.#pending.has(id));
    for (const id of orphans) await this.#driver.remove(id);
  }

  async #create({ namespace, key, parent, kind, options }: Creation): Promise<Mount[]> {
    const parentId = this.#checkNew(namespace, key, parent, options)?.id;
    const parents = parentId === undefined ? [] : [parentId, ...this.#records.parentsOf(parentId)];
    const layer: Layer = { id: this.#ids.next(), kind, parents };
    this.#pending.add(layer.id);
    try {
      await this.#driver.create(layer);
      this.#records.db.transaction(() => {
        this.#checkNew(namespace, key, parent, options);
        const labels = options.labels ?? {};
        this.#records.insert({ id: layer.id, namespace, key, kind, parent, labels, nowNs: nowNs() });
        options.within?.();
      });
    } catch (error) {
      // What cannot be removed now is without a record and goes with the next cleanup.
      await this.#driver.remove(layer.id).catch(() => {});
      // A parent that was removed meanwhile explains why its data was missing.
      this.#checkNew(namespace, key, parent, options);
      throw explain(error, key);
    } finally {
      this.#pending.delete(layer.id);
    }
    return this.#driver.mounts(layer);
  }

  /** The snapshot of the key with the parent that it will have: one without may get one now. */
  #checkCommit(namespace: string, name: string, key: string, { parent = '' }: CommitOptions): SnapshotRecord {
    const record = this.#records.checkCommit(namespace, name, key);
    if (parent === '' || record.parent !== '') return record;
    if (!this.#driver.canRebase) {
      throw notImplemented(`snapshot "${key}": snapshotter "${this.name}" cannot set a parent on commit`);
    }
    return { ...record, parent, parentId: this.#records.checkParent(namespace, parent).id };
  }

  #checkNew(namespace: string, key: string, parent: string, options: CreateOptions): SnapshotRecord | undefined {
    const target = options.labels?.[TARGET_LABEL];
    if (target && this.#records.find(namespace, target) !== undefined)
      throw alreadyExists(`target snapshot "${target}"`);
    return this.#records.checkNew(namespace, key, parent);
  }
}

function layerOf(records: SnapshotRecords, { id, kind }: SnapshotRecord): Layer {
  return { id, kind, parents: records.parentsOf(id) };
}

function explain(error: unknown, key: string): unknown {
  if (!isErrno(error, 'ENOSPC', 'EDQUOT')) return error;
  return resourceExhausted(`snapshot "${key}": no space left on device`, { cause: error });
}
