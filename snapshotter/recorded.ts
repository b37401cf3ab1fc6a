// What all snapshotters share: records in SQLite, and the rules that need nothing else.

import { alreadyExists, failedPrecondition, notImplemented } from '../proto/errors';
import { nowNs } from '../proto/time';
import { fullKey, type SnapshotRecord, type SnapshotRecords } from './records';
import {
  type CommitOptions,
  type CreateOptions,
  type LabelChange,
  type RemoveOptions,
  type SnapshotInfo,
  type SnapshotKind,
  type SnapshotUsage,
  TARGET_LABEL,
  type UpdateOptions,
} from './snapshotter';

export interface Creation {
  readonly namespace: string;
  readonly key: string;
  readonly parent: string;
  readonly kind: Exclude<SnapshotKind, 'committed'>;
  readonly options: CreateOptions;
}

/** The capability to set a parent on commit. */
export const REBASE = 'rebase';
export const NOTHING: SnapshotUsage = { sizeBytes: 0n, inodes: 0n };

export abstract class RecordedSnapshotter {
  abstract readonly name: string;
  abstract readonly capabilities: readonly string[];
  protected readonly records: SnapshotRecords;
  /** Commits under way, by number of the snapshot. */
  readonly #commits = new Map<number, Promise<void>>();

  constructor(records: SnapshotRecords) {
    this.records = records;
  }

  stat(namespace: string, key: string): SnapshotInfo {
    return this.records.get(namespace, key);
  }

  async update(
    namespace: string,
    key: string,
    change: LabelChange,
    _options: UpdateOptions = {},
  ): Promise<SnapshotInfo> {
    return this.records.db.transaction(() => {
      const { id, labels } = this.records.get(namespace, key);
      this.records.setLabels(id, change(labels), nowNs());
      return this.records.get(namespace, key);
    });
  }

  remove(namespace: string, key: string, options: RemoveOptions = {}): void {
    this.records.db.essential(() => {
      this.records.remove(namespace, key);
      options.within?.();
    });
  }

  walk(namespace: string): SnapshotInfo[] {
    return this.records.list(namespace);
  }

  /** @throws FAILED_PRECONDITION for a committed snapshot */
  protected mountable(namespace: string, key: string): SnapshotRecord {
    const record = this.records.get(namespace, key);
    if (record.kind !== 'committed') return record;
    throw failedPrecondition(
      `failed to get active mount: requested snapshot ${fullKey(namespace, record)} not active or view`,
    );
  }

  /** Runs the body with what checkCommit() finds; commits of one snapshot one after the other. */
  protected async oneCommit(
    namespace: string,
    name: string,
    { key, options }: { readonly key: string; readonly options: CommitOptions },
    body: (record: SnapshotRecord) => Promise<void>,
  ): Promise<void> {
    for (;;) {
      const record = this.#checkCommit(namespace, name, key, options);
      const other = this.#commits.get(record.id);
      if (other === undefined) {
        const own = body(record).finally(() => this.#commits.delete(record.id));
        this.#commits.set(record.id, own);
        return own;
      }
      await other.catch(() => {});
    }
  }

  /** The snapshot of the key with the parent that it will have: one without may get one now, or when that is ready. */
  #checkCommit(namespace: string, name: string, key: string, { parent = '', ready }: CommitOptions): SnapshotRecord {
    const record = this.records.checkCommit(namespace, name, key);
    if (parent === '' || record.parent !== '') return record;
    if (!this.capabilities.includes(REBASE)) {
      throw notImplemented(`snapshot "${key}": snapshotter "${this.name}" cannot set a parent on commit`);
    }
    if (ready !== undefined) return record;
    return { ...record, parent, parentId: this.records.checkParent(namespace, parent).id };
  }

  /** The same inside the transaction that commits, with all ready: whatever became of the key and the name meanwhile. */
  protected recheckCommit(
    namespace: string,
    name: string,
    key: string,
    { id, options }: { readonly id: number; readonly options: CommitOptions },
  ): SnapshotRecord {
    const { ready: _, ...rest } = options;
    const record = this.#checkCommit(namespace, name, key, rest);
    if (record.id !== id) throw failedPrecondition(`snapshot "${key}" was replaced while it was committed`);
    return record;
  }

  /** Whether a creation is possible, and the record of its parent. */
  protected checkNew({ namespace, key, parent, options }: Creation): SnapshotRecord | undefined {
    const target = options.labels?.[TARGET_LABEL];
    if (target && this.records.find(namespace, target) !== undefined)
      throw alreadyExists(`target snapshot "${target}"`);
    return this.records.checkNew(namespace, key, parent);
  }
}
