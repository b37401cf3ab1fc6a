// A snapshotter over directories of this machine: records in SQLite, data through a driver. Order of work decides what a
// crash leaves: data is made before its record and removed after it, so only data without a record can be left over,
// which cleanup() finds; what is committed was synced before.

import { isErrno, resourceExhausted } from '../proto/errors';
import { nowNs } from '../proto/time';
import type { Mount } from '../runtime-native/index';
import type { Driver, Layer } from './driver';
import { type Creation, NOTHING, REBASE, RecordedSnapshotter } from './recorded';
import { type RecordDatabase, type SnapshotIds, type SnapshotRecord, SnapshotRecords } from './records';
import type {
  CleanupReport,
  CommitOptions,
  CreateOptions,
  SnapshotName,
  Snapshotter,
  SnapshotUsage,
} from './snapshotter';

export class LocalSnapshotter extends RecordedSnapshotter implements Snapshotter {
  readonly name: string;
  readonly root: string;
  readonly capabilities: readonly string[];
  readonly #driver: Driver;
  readonly #ids: SnapshotIds;
  /** Numbers whose data is made and whose record is not written yet. */
  readonly #pending = new Set<number>();

  private constructor(driver: Driver, records: SnapshotRecords, ids: SnapshotIds) {
    super(records);
    this.name = driver.name;
    this.root = driver.root;
    this.capabilities = driver.canRebase ? [REBASE] : [];
    this.#driver = driver;
    this.#ids = ids;
  }

  /** Opens the snapshots of a driver and repairs what a power cut may have taken of those in use. */
  static async open(driver: Driver, db: RecordDatabase, ids: SnapshotIds): Promise<LocalSnapshotter> {
    const records = new SnapshotRecords(db, driver.name);
    for (const record of records.unfinished()) await driver.repair(layerOf(records, record));
    if (driver.settle !== undefined) for (const id of records.committedIds()) await driver.settle(id);
    return new LocalSnapshotter(driver, records, ids);
  }

  async usage(namespace: string, key: string): Promise<SnapshotUsage> {
    const { id, kind, usage } = this.records.get(namespace, key);
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
    return this.#driver.mounts(layerOf(this.records, this.mountable(namespace, key)));
  }

  prepare(namespace: string, key: string, parent: string, options: CreateOptions = {}): Promise<Mount[]> {
    return this.#create({ namespace, key, parent, kind: 'active', options });
  }

  view(namespace: string, key: string, parent: string, options: CreateOptions = {}): Promise<Mount[]> {
    return this.#create({ namespace, key, parent, kind: 'view', options });
  }

  async commit(namespace: string, name: string, key: string, options: CommitOptions = {}): Promise<void> {
    await this.oneCommit(namespace, name, { key, options }, async ({ id }) => {
      const sealed = this.#driver.seal(id).catch((error: unknown) => {
        throw explain(error, key);
      });
      // Nothing of it runs any more when this fails.
      await Promise.allSettled([sealed, options.ready]);
      await options.ready;
      const usage = await sealed;
      this.records.db.transaction(() => {
        const { parentId } = this.recheckCommit(namespace, name, key, { id, options });
        this.records.commit(id, name, { parentId, labels: options.labels ?? {}, usage, nowNs: nowNs() });
        options.within?.();
      });
      // The snapshot is committed whatever becomes of this; the next start does what is left.
      await this.#driver.settle?.(id).catch(() => {});
    });
  }

  async cleanup({ isMeasured = false }: { readonly isMeasured?: boolean } = {}): Promise<CleanupReport> {
    const present = await this.#driver.list();
    const recorded = this.records.ids();
    const orphans = present.filter((id) => !recorded.has(id) && !this.#pending.has(id));
    let sizeBytes = 0n;
    for (const id of orphans) {
      // What a crash left may lack what is measured; that is nothing then.
      if (isMeasured) sizeBytes += (await this.#driver.usage(id).catch(() => NOTHING)).sizeBytes;
      await this.#driver.remove(id);
    }
    return { count: orphans.length, sizeBytes };
  }

  /** Data is made before its record: a record that is there before the look at the disk must have some. */
  async lost(): Promise<SnapshotName[]> {
    const records = this.records.withData();
    const present = new Set(await this.#driver.list());
    const recorded = this.records.ids();
    return records
      .filter(({ id }) => !present.has(id) && recorded.has(id))
      .map(({ namespace, key }) => ({ namespace, key }));
  }

  /** On a full disk, what removed snapshots still take is freed first. */
  async #create(creation: Creation): Promise<Mount[]> {
    try {
      return await this.#make(creation).catch(async (error: unknown) => {
        if (!isFull(error)) throw error;
        await this.cleanup();
        return await this.#make(creation);
      });
    } catch (error) {
      throw explain(error, creation.key);
    }
  }

  async #make(creation: Creation): Promise<Mount[]> {
    const { namespace, key, parent, kind, options } = creation;
    const parentId = this.checkNew(creation)?.id;
    const parents = parentId === undefined ? [] : [parentId, ...this.records.parentsOf(parentId)];
    const layer: Layer = { id: this.#ids.next(), kind, parents };
    this.#pending.add(layer.id);
    try {
      await this.#driver.create(layer);
      this.records.db.transaction(() => {
        this.checkNew(creation);
        const labels = options.labels ?? {};
        this.records.insert({ id: layer.id, namespace, key, kind, parent, labels, nowNs: nowNs() });
        options.within?.();
      });
    } catch (error) {
      // What cannot be removed now is without a record and goes with the next cleanup.
      await this.#driver.remove(layer.id).catch(() => {});
      // A parent that was removed meanwhile explains why its data was missing.
      this.checkNew(creation);
      throw error;
    } finally {
      this.#pending.delete(layer.id);
    }
    return this.#driver.mounts(layer);
  }
}

function layerOf(records: SnapshotRecords, { id, kind }: SnapshotRecord): Layer {
  return { id, kind, parents: records.parentsOf(id) };
}

function isFull(error: unknown): boolean {
  return isErrno(error, 'ENOSPC', 'EDQUOT');
}

function explain(error: unknown, key: string): unknown {
  if (!isFull(error)) return error;
  return resourceExhausted(`snapshot "${key}": no space left on device`, { cause: error });
}
