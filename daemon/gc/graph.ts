// The mark and the removal of records, in SQL, over gc_edges (metadata/reference-schema.ts). Everything happens in one
// transaction on the daemon's only writing connection, so no record can appear or change in between.

import type { Database } from '../metadata/database';
import { ROOT_TYPE } from '../metadata/reference-schema';
import { isConditionMet, USED_AT_LABEL } from './conditions';

/** An object that can be collected or referenced. `type` is a lease resource type, or containers. */
export interface ResourceNode {
  readonly namespace: string;
  readonly type: string;
  readonly key: string;
}

/** What the next collection would take, and what it would take without the images that no container has. */
export interface Unreferenced {
  readonly garbage: readonly ResourceNode[];
  /** With the garbage. */
  readonly unused: readonly ResourceNode[];
}

/** What keeps objects alive without being kept. `flat` roots keep structure but follow no labels. */
export const ROOTS = rootsWith('1');

/** The same with only those images that containers are made of. */
const USED_ROOTS = rootsWith('name IN (SELECT image FROM containers c WHERE c.namespace = images.namespace)');

/** `isRootImage` says which images count. */
function rootsWith(isRootImage: string): string {
  return `
  SELECT namespace, 'containers' AS type, id AS key, 0 AS flat, 'container' AS cause FROM containers
  UNION ALL SELECT namespace, 'images', name, 0, 'image' FROM images
    WHERE (expires_at = 0 OR expires_at >= :now) AND ${isRootImage}
  UNION ALL SELECT namespace, 'ingests', ref, 0, 'ingest in progress' FROM ingests WHERE expires_at >= :now
  UNION ALL SELECT namespace, type, key, 0, 'in use' FROM gc_pins
  UNION ALL SELECT namespace, to_type, to_key, 0, cause FROM gc_edges WHERE from_type = '${ROOT_TYPE}'
  UNION ALL SELECT l.namespace, r.type, r.resource,
      r.type != 'ingests' AND json_extract(l.labels, '$."containerd.io/gc.flat"') IS NOT NULL, 'lease ' || l.id
    FROM leases l JOIN lease_resources r ON r.namespace = l.namespace AND r.lease = l.id
    WHERE l.expires_at = 0 OR l.expires_at >= :now`;
}

/** What takeDirty() reports for a change that is no deletion. */
export const MUTATION = '';

const TEMPORARY_TABLES = [
  `CREATE TEMP TABLE IF NOT EXISTS gc_live (namespace TEXT, type TEXT, key TEXT, PRIMARY KEY (namespace, type, key))
    WITHOUT ROWID`,
  `CREATE TEMP TABLE IF NOT EXISTS gc_pins (namespace TEXT, type TEXT, key TEXT)`,
  `CREATE TEMP TABLE IF NOT EXISTS gc_dirty (type TEXT PRIMARY KEY) WITHOUT ROWID`,
  // What may have freed something, by whichever service. The end of an ingest is its commit and frees nothing.
  dirtyTrigger('DELETE', 'containers', `'containers'`),
  dirtyTrigger('DELETE', 'images', `'images'`),
  dirtyTrigger('UPDATE OF digest, labels', 'images', `'images'`),
  dirtyTrigger('DELETE', 'blobs', `'content'`),
  dirtyTrigger('DELETE', 'snapshots', `'snapshots/' || OLD.snapshotter`),
  dirtyTrigger('DELETE', 'leases', `'leases'`),
  dirtyTrigger('DELETE', 'lease_resources', `'leases'`, `WHEN OLD.type != 'ingests'`),
  ...['containers', 'images', 'blobs', 'ingests', 'snapshots', 'leases'].flatMap((table) => [
    dirtyTrigger('INSERT', table, `'${MUTATION}'`),
    dirtyTrigger('UPDATE', table, `'${MUTATION}'`),
  ]),
];

const MARK = markFrom(ROOTS);
const MARK_USED = markFrom(USED_ROOTS);

function markFrom(roots: string): string {
  return `
INSERT OR IGNORE INTO gc_live
WITH RECURSIVE live (namespace, type, key, flat) AS (
  SELECT namespace, type, key, flat FROM (${roots})
  UNION
  SELECT e.namespace, e.to_type, e.to_key, live.flat
    FROM live JOIN gc_edges e ON e.namespace = live.namespace AND e.from_type = live.type AND e.from_key = live.key
    WHERE e.is_active = 1 AND (live.flat = 0 OR e.is_label = 0)
)
SELECT namespace, type, key FROM live`;
}

/** What can be collected: table, type and key in SQL; children together with their parents. */
const COLLECTABLE = [
  ['snapshots', `'snapshots/' || snapshotter`, 'key'],
  ['ingests', `'ingests'`, 'ref'],
  ['blobs', `'content'`, 'digest'],
  ['images', `'images'`, 'name'],
] as const;

/** One statement each: what is not live goes. Leases go by their own time. */
const REMOVALS = [
  ...COLLECTABLE.map(
    ([table, type, key]) =>
      `DELETE FROM ${table} WHERE ${isDead(table, type, key)} RETURNING namespace, ${type} AS type, ${key} AS key`,
  ),
  `DELETE FROM leases WHERE expires_at > 0 AND expires_at < :now RETURNING namespace, 'leases' AS type, id AS key`,
];

/** Creates what the statements of this file need. Call once per connection, before anything else here. */
export function prepareGraph(db: Database): void {
  for (const sql of TEMPORARY_TABLES) db.prepare(sql).run();
}

/** Deletes every record that nothing keeps and returns them. `pins` are roots known only to the running daemon. */
export function removeUnreferenced(db: Database, pins: readonly ResourceNode[], nowNs: bigint): ResourceNode[] {
  return db.essential(() => {
    setPins(db, pins);
    evaluateConditions(db, nowNs);
    mark(db, MARK, nowNs);
    const removed = REMOVALS.flatMap((sql) => {
      const statement = db.prepare(sql);
      return (sql.includes(':now') ? statement.all({ now: nowNs }) : statement.all()) as ResourceNode[];
    });
    takeDirty(db);
    return removed;
  });
}

/** What removeUnreferenced() would delete, now and without unused images. Nothing is changed. */
export function findUnreferenced(db: Database, pins: readonly ResourceNode[], nowNs: bigint): Unreferenced {
  return db.transaction(() => {
    setPins(db, pins);
    evaluateConditions(db, nowNs);
    mark(db, MARK, nowNs);
    const garbage = dead(db);
    mark(db, MARK_USED, nowNs);
    return { garbage, unused: dead(db) };
  });
}

function mark(db: Database, sql: string, nowNs: bigint): void {
  db.prepare('DELETE FROM gc_live').run();
  db.prepare(sql).run({ now: nowNs });
}

function dead(db: Database): ResourceNode[] {
  return COLLECTABLE.flatMap(([table, type, key]) => {
    const select = `SELECT namespace, ${type} AS type, ${key} AS key FROM ${table} WHERE ${isDead(table, type, key)}`;
    return db.prepare(select).all() as ResourceNode[];
  });
}

/** The types of which something was deleted since the last call, and MUTATION for other changes. */
export function takeDirty(db: Database): string[] {
  const rows = db.prepare('SELECT type FROM gc_dirty').all() as { type: string }[];
  if (rows.length > 0) db.prepare('DELETE FROM gc_dirty').run();
  return rows.map(({ type }) => type);
}

/** Replaces the roots that are known only to the running daemon. */
export function setPins(db: Database, pins: readonly ResourceNode[]): void {
  db.prepare('DELETE FROM gc_pins').run();
  for (const { namespace, type, key } of pins) {
    db.prepare('INSERT INTO gc_pins VALUES (?, ?, ?)').run(namespace, type, key);
  }
}

/** The next moment after `nowNs` at which something expires, or undefined. */
export function nextExpiryNs(db: Database, nowNs: bigint): bigint | undefined {
  const row = db
    .prepare(
      `SELECT min(expires_at) AS next FROM (
        SELECT expires_at FROM leases UNION ALL SELECT expires_at FROM images UNION ALL SELECT expires_at FROM ingests
      ) WHERE expires_at >= :now`,
    )
    .safeIntegers()
    .get({ now: nowNs }) as { next: bigint | null };
  return row.next ?? undefined;
}

/** Switches the conditional edges on and off. Few exist, so they are looked at one by one. */
export function evaluateConditions(db: Database, nowNs: bigint): void {
  const rows = db
    .prepare(
      `SELECT e.namespace, e.from_type, e.from_key, e.to_type, e.to_key, e.cause, e.condition, e.is_active,
          json_extract(s.labels, '$."${USED_AT_LABEL}"') AS used_at
        FROM gc_edges e LEFT JOIN snapshots s
          ON s.namespace = e.namespace AND 'snapshots/' || s.snapshotter = e.to_type AND s.key = e.to_key
        WHERE e.condition IS NOT NULL`,
    )
    .all() as ConditionalEdge[];
  for (const row of rows) {
    const isActive = isConditionMet(row.condition, row.used_at ?? undefined, nowNs) ? 1 : 0;
    if (isActive === Number(row.is_active)) continue;
    db.prepare(
      `UPDATE gc_edges SET is_active = ? WHERE namespace = ? AND from_type = ? AND from_key = ? AND to_type = ?
        AND to_key = ? AND cause = ?`,
    ).run(isActive, row.namespace, row.from_type, row.from_key, row.to_type, row.to_key, row.cause);
  }
}

interface ConditionalEdge {
  readonly namespace: string;
  readonly from_type: string;
  readonly from_key: string;
  readonly to_type: string;
  readonly to_key: string;
  readonly cause: string;
  readonly condition: string;
  readonly is_active: bigint;
  readonly used_at: string | null;
}

function dirtyTrigger(change: string, table: string, type: string, when = ''): string {
  const name = `gc_dirty_${table}_${change.replaceAll(/\W+/g, '_')}`;
  return `CREATE TEMP TRIGGER IF NOT EXISTS ${name} AFTER ${change} ON ${table} ${when}
    BEGIN INSERT OR IGNORE INTO gc_dirty VALUES (${type}); END`;
}

function isDead(table: string, type: string, key: string): string {
  return `NOT EXISTS (
      SELECT 1 FROM gc_live l WHERE l.namespace = ${table}.namespace AND l.type = ${type} AND l.key = ${table}.${key})`;
}
