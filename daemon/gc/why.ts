// Answers "why is this kept?": the shortest chain of references from a root to an object. It walks gc_edges backwards,
// so it costs what the answer costs, not the size of the store.

import { invalidArgument, notFound } from '../../proto/errors';
import { nowNs } from '../../proto/time';
import type { Database } from '../metadata/database';
import { ROOT_TYPE } from '../metadata/reference-schema';
import { evaluateConditions, type ResourceNode, ROOTS, setPins } from './graph';

/** One step of a chain. `cause` says how the step before keeps this one; for the first, what makes it a root. */
export interface Step extends ResourceNode {
  readonly cause: string;
}

interface Visit {
  readonly step: Step;
  /** Whether every edge from here to the object is structural, as flat leases need. */
  readonly isStructural: boolean;
  readonly next: Visit | undefined;
}

/** The chain from a root to the object, the object last; empty when nothing keeps it. */
export function findWhy(db: Database, object: ResourceNode, pins: readonly ResourceNode[]): Step[] {
  return db.transaction(() => {
    const now = nowNs();
    setPins(db, pins);
    evaluateConditions(db, now);
    const seen = new Set<string>();
    const queue: Visit[] = [{ step: { ...object, cause: '' }, isStructural: true, next: undefined }];
    for (let visit = queue.shift(); visit !== undefined; visit = queue.shift()) {
      const id = JSON.stringify([visit.step.type, visit.step.key, visit.isStructural]);
      if (seen.has(id)) continue;
      seen.add(id);
      const cause = rootCause(db, visit, now);
      if (cause !== undefined) return chainOf(visit, cause);
      queue.push(...holdersOf(db, visit));
    }
    return [];
  });
}

/** By type; snapshots have their snapshotter in it. */
const OBJECTS: Readonly<Record<string, string>> = {
  containers: 'SELECT 1 FROM containers WHERE namespace = ? AND id = ?',
  content: 'SELECT 1 FROM blobs WHERE namespace = ? AND digest = ?',
  images: 'SELECT 1 FROM images WHERE namespace = ? AND name = ?',
  ingests: 'SELECT 1 FROM ingests WHERE namespace = ? AND ref = ?',
  snapshots: 'SELECT 1 FROM snapshots WHERE namespace = ? AND key = ? AND snapshotter = ?',
};

/** @throws NOT_FOUND, INVALID_ARGUMENT for a type that there is not */
export function requireObject(db: Database, { namespace, type, key }: ResourceNode): void {
  const [table = '', snapshotter] = type.split(/\/(.*)/s);
  const sql = Object.hasOwn(OBJECTS, table) ? OBJECTS[table] : undefined;
  if (sql === undefined || (table === 'snapshots') !== (snapshotter !== undefined)) {
    throw invalidArgument(`type "${type}" is none of containers, content, images, ingests and snapshots/NAME`);
  }
  const values = snapshotter === undefined ? [namespace, key] : [namespace, key, snapshotter];
  if (db.prepare(sql).get(...values) === undefined) {
    throw notFound(`${type} "${key}" in namespace "${namespace}"`);
  }
}

function rootCause(db: Database, { step, isStructural }: Visit, now: bigint): string | undefined {
  const row = db
    .prepare(
      `SELECT cause FROM (${ROOTS}) WHERE namespace = :namespace AND type = :type AND key = :key
        AND (flat = 0 OR :structural = 1) LIMIT 1`,
    )
    .get({ now, namespace: step.namespace, type: step.type, key: step.key, structural: isStructural ? 1 : 0 });
  return (row as { cause: string } | undefined)?.cause;
}

function holdersOf(db: Database, visit: Visit): Visit[] {
  const { namespace, type, key } = visit.step;
  const rows = db
    .prepare(
      `SELECT from_type, from_key, cause, is_label FROM gc_edges
        WHERE namespace = ? AND to_type = ? AND to_key = ? AND is_active = 1 AND from_type != '${ROOT_TYPE}'`,
    )
    .all(namespace, type, key) as { from_type: string; from_key: string; cause: string; is_label: bigint }[];
  return rows.map((row) => ({
    // The cause of an edge belongs to the step it leads to; it is moved there by chainOf().
    step: { namespace, type: row.from_type, key: row.from_key, cause: row.cause },
    isStructural: visit.isStructural && Number(row.is_label) === 0,
    next: visit,
  }));
}

function chainOf(root: Visit, cause: string): Step[] {
  const steps: Step[] = [];
  let edge = cause;
  for (let visit: Visit | undefined = root; visit !== undefined; visit = visit.next) {
    steps.push({ ...visit.step, cause: edge });
    edge = visit.step.cause;
  }
  return steps;
}
