// The records of one snapshotter in the table `snapshots`. Plain SQL with containerd's errors; no directories, no events.

import type { Statement } from 'better-sqlite3';
import { alreadyExists, failedPrecondition, invalidArgument, notFound } from '../proto/errors';
import type { SnapshotInfo, SnapshotKind, SnapshotName, SnapshotUsage } from './snapshotter';

/** The part of the daemon's database that records need. */
export interface RecordDatabase {
  prepare(sql: string): Statement<unknown[], unknown>;
  transaction<T>(body: () => T extends PromiseLike<unknown> ? never : T): T;
  /** The same for what must succeed on a full disk. */
  essential<T>(body: () => T extends PromiseLike<unknown> ? never : T): T;
}

export interface SnapshotRecord extends SnapshotInfo {
  readonly id: number;
  readonly parentId: number | undefined;
  readonly usage: SnapshotUsage;
}

export interface NewSnapshot {
  readonly id: number;
  readonly namespace: string;
  readonly key: string;
  readonly kind: SnapshotKind;
  readonly parent: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly nowNs: bigint;
}

interface Row {
  readonly id: bigint;
  readonly key: string;
  readonly kind: SnapshotKind;
  readonly parent_id: bigint | null;
  readonly parent: string | null;
  readonly labels: string;
  readonly size: bigint;
  readonly inodes: bigint;
  readonly created_at: bigint;
  readonly updated_at: bigint;
}

/** As long as a key can be with containerd (bbolt's limit). */
const KEY_BYTES_MAX = 32768;
const SELECT = `SELECT s.id, s.key, s.kind, s.parent_id, p.key AS parent, s.labels, s.size, s.inodes, s.created_at, s.updated_at
  FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent_id WHERE s.snapshotter = ?`;

export class SnapshotRecords {
  readonly db: RecordDatabase;
  readonly #snapshotter: string;

  constructor(db: RecordDatabase, snapshotter: string) {
    this.db = db;
    this.#snapshotter = snapshotter;
  }

  find(namespace: string, key: string): SnapshotRecord | undefined {
    const row = this.db.prepare(`${SELECT} AND s.namespace = ? AND s.key = ?`).safeIntegers();
    const found = row.get(this.#snapshotter, namespace, key) as Row | undefined;
    return found === undefined ? undefined : toRecord(found);
  }

  /** @throws NOT_FOUND */
  get(namespace: string, key: string): SnapshotRecord {
    const found = this.find(namespace, key);
    if (found === undefined) throw notFound(`snapshot ${key} does not exist`);
    return found;
  }

  list(namespace: string): SnapshotRecord[] {
    const rows = this.db.prepare(`${SELECT} AND s.namespace = ? ORDER BY s.key`).safeIntegers();
    return (rows.all(this.#snapshotter, namespace) as Row[]).map(toRecord);
  }

  /** All snapshots that may be written or looked at, of all namespaces. */
  unfinished(): SnapshotRecord[] {
    const rows = this.db.prepare(`${SELECT} AND s.kind != 'committed' ORDER BY s.id`).safeIntegers();
    return (rows.all(this.#snapshotter) as Row[]).map(toRecord);
  }

  committedIds(): number[] {
    const rows = this.db.prepare(`SELECT id FROM snapshots WHERE snapshotter = ? AND kind = 'committed'`).pluck();
    return (rows.all(this.#snapshotter) as (number | bigint)[]).map(Number);
  }

  /** Snapshots of all namespaces that have data of their own: all but views of something. */
  withData(): (SnapshotName & { readonly id: number })[] {
    const rows = this.db.prepare(
      `SELECT id, namespace, key FROM snapshots WHERE snapshotter = ? AND (kind != 'view' OR parent_id IS NULL)`,
    );
    const found = rows.all(this.#snapshotter) as { id: number | bigint; namespace: string; key: string }[];
    return found.map(({ id, namespace, key }) => ({ id: Number(id), namespace, key }));
  }

  ids(): Set<number> {
    const rows = this.db.prepare('SELECT id FROM snapshots WHERE snapshotter = ?').pluck();
    return new Set((rows.all(this.#snapshotter) as (number | bigint)[]).map(Number));
  }

  /** The ids of a snapshot's parents, nearest first. */
  parentsOf(id: number): number[] {
    const rows = this.db
      .prepare(
        `WITH RECURSIVE chain (id, depth) AS (
          SELECT parent_id, 1 FROM snapshots WHERE id = ?
          UNION ALL SELECT s.parent_id, depth + 1 FROM chain JOIN snapshots s ON s.id = chain.id
        ) SELECT id FROM chain WHERE id IS NOT NULL ORDER BY depth`,
      )
      .pluck();
    return (rows.all(id) as (number | bigint)[]).map(Number);
  }

  /** Checks what insert() needs, and finds the parent. @throws ALREADY_EXISTS, NOT_FOUND, INVALID_ARGUMENT */
  checkNew(namespace: string, key: string, parent: string): SnapshotRecord | undefined {
    checkKey(key);
    if (this.find(namespace, key) !== undefined) throw alreadyExists(`snapshot "${key}"`);
    if (parent === '') return undefined;
    const record = this.#findParent(namespace, parent);
    if (record.kind !== 'committed') {
      const full = fullKey(namespace, record);
      throw invalidArgument(`failed to create snapshot: parent "${full}" is not committed snapshot`);
    }
    return record;
  }

  /** The parent that a snapshot gets when it is committed. @throws NOT_FOUND, FAILED_PRECONDITION */
  checkParent(namespace: string, parent: string): SnapshotRecord {
    const record = this.#findParent(namespace, parent);
    if (record.kind !== 'committed') {
      throw failedPrecondition(`failed to commit snapshot: parent "${fullKey(namespace, record)}" is not committed`);
    }
    return record;
  }

  insert({ id, namespace, key, kind, parent, labels, nowNs }: NewSnapshot): void {
    const parentRecord = this.checkNew(namespace, key, parent);
    this.db
      .prepare(
        `INSERT INTO snapshots (id, namespace, snapshotter, key, kind, parent_id, labels, created_at, updated_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(id, namespace, this.#snapshotter, key, kind, parentRecord?.id ?? null, serialize(labels), nowNs, nowNs);
  }

  /** Checks what commit() needs. @throws ALREADY_EXISTS, NOT_FOUND, FAILED_PRECONDITION */
  checkCommit(namespace: string, name: string, key: string): SnapshotRecord {
    checkKey(name);
    if (this.find(namespace, name) !== undefined) throw alreadyExists(`snapshot "${name}"`);
    const record = this.get(namespace, key);
    if (record.kind !== 'active') {
      throw failedPrecondition(`failed to commit snapshot: snapshot "${fullKey(namespace, record)}" is not active`);
    }
    return record;
  }

  commit(
    id: number,
    name: string,
    values: {
      parentId: number | undefined;
      labels: Readonly<Record<string, string>>;
      usage: SnapshotUsage;
      nowNs: bigint;
    },
  ): void {
    const { parentId, labels, usage, nowNs } = values;
    this.db
      .prepare(
        `UPDATE snapshots SET key = ?, kind = 'committed', parent_id = ?, labels = ?, size = ?, inodes = ?, created_at = ?,
        updated_at = ? WHERE id = ?`,
      )
      .run(name, parentId ?? null, serialize(labels), usage.sizeBytes, usage.inodes, nowNs, nowNs, id);
  }

  setLabels(id: number, labels: Readonly<Record<string, string>>, nowNs: bigint): void {
    this.db.prepare('UPDATE snapshots SET labels = ?, updated_at = ? WHERE id = ?').run(serialize(labels), nowNs, id);
  }

  /** @throws NOT_FOUND, FAILED_PRECONDITION */
  remove(namespace: string, key: string): void {
    const { id } = this.get(namespace, key);
    const child = this.db.prepare('SELECT 1 FROM snapshots WHERE parent_id = ? LIMIT 1').get(id);
    if (child !== undefined) throw failedPrecondition('cannot remove snapshot with child');
    this.db.prepare('DELETE FROM snapshots WHERE id = ?').run(id);
  }

  #findParent(namespace: string, parent: string): SnapshotRecord {
    const record = this.find(namespace, parent);
    if (record === undefined) throw notFound(`parent snapshot ${parent} does not exist`);
    return record;
  }
}

/**
 * Numbers for new snapshots of all snapshotters, which are directory names too. They are handed out before the record is
 * written, so that no directory has to be made inside a transaction.
 */
export class SnapshotIds {
  readonly #db: RecordDatabase;
  #last = 0;

  constructor(db: RecordDatabase) {
    this.#db = db;
  }

  next(): number {
    const used = this.#db.prepare(`SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'`).pluck().get();
    this.#last = Math.max(this.#last, Number((used as number | bigint | undefined) ?? 0)) + 1;
    return this.#last;
  }
}

/** How containerd names a snapshot in messages that come from its backend. */
export function fullKey(namespace: string, record: SnapshotRecord): string {
  return `${namespace}/${record.id}/${record.name}`;
}

function checkKey(key: string): void {
  if (key === '') throw invalidArgument('snapshot key must not be empty');
  if (Buffer.byteLength(key) > KEY_BYTES_MAX)
    throw invalidArgument(`snapshot key is longer than ${KEY_BYTES_MAX} bytes`);
}

function serialize(labels: Readonly<Record<string, string>>): string {
  return JSON.stringify(Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== '')));
}

function toRecord(row: Row): SnapshotRecord {
  return {
    id: Number(row.id),
    kind: row.kind,
    name: row.key,
    parentId: row.parent_id === null ? undefined : Number(row.parent_id),
    parent: row.parent ?? '',
    labels: Object.assign(Object.create(null), JSON.parse(row.labels)),
    usage: { sizeBytes: row.size, inodes: row.inodes },
    createdAtNs: row.created_at,
    updatedAtNs: row.updated_at,
  };
}
