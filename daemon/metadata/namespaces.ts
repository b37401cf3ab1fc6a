// Namespace records. They come to exist by the first write in them, or by Namespaces.Create.

import type { Database } from './database';
import { type Labels, parseLabels, serializeLabels, updateLabels } from './labels';

/** Creates the record of a namespace unless it exists. Call inside the write's transaction. */
export function ensureNamespace(db: Database, name: string): void {
  db.prepare('INSERT OR IGNORE INTO namespaces (name) VALUES (?)').run(name);
}

/** Undefined when there is no such namespace. */
export function namespaceLabels(db: Database, name: string): Labels | undefined {
  const row = db.prepare('SELECT labels FROM namespaces WHERE name = ?').get(name) as { labels: string } | undefined;
  return row && parseLabels(row.labels);
}

export function listNamespaces(db: Database): { name: string; labels: Labels }[] {
  const rows = db.prepare('SELECT name, labels FROM namespaces ORDER BY name').all() as {
    name: string;
    labels: string;
  }[];
  return rows.map(({ name, labels }) => ({ name, labels: parseLabels(labels) }));
}

export function putNamespace(db: Database, name: string, labels: Labels): void {
  db.prepare('INSERT OR REPLACE INTO namespaces (name, labels) VALUES (?, ?)').run(name, serializeLabels(labels));
}

/** Replaces all labels without paths, else those named. Creates the namespace when unknown. */
export function updateNamespace(
  db: Database,
  change: { name: string; labels: Labels; paths: readonly string[] },
  onUpdated: (labels: Labels) => void,
): Labels {
  return db.transaction(() => {
    const paths = change.paths.length > 0 ? change.paths : ['labels'];
    const labels = updateLabels(namespaceLabels(db, change.name) ?? {}, change.labels, paths, 'namespace.Labels');
    putNamespace(db, change.name, labels);
    onUpdated(labels);
    return labels;
  }) as Labels;
}

/** What keeps a namespace from being deleted, in words such as "images". */
export function objectsOf(db: Database, name: string): string[] {
  const has = (table: string) =>
    db.prepare(`SELECT 1 FROM ${table} WHERE namespace = ? LIMIT 1`).get(name) !== undefined;
  const snapshotters = db
    .prepare('SELECT DISTINCT snapshotter FROM snapshots WHERE namespace = ? ORDER BY snapshotter')
    .pluck()
    .all(name) as string[];
  return [
    ...['images', 'blobs', 'containers'].filter(has),
    ...snapshotters.map((snapshotter) => `snapshots on "${snapshotter}" snapshotter`),
  ];
}

/** Deletes the record and what does not keep it: its leases and unfinished ingests. Files go by garbage collection. */
export function deleteNamespace(db: Database, name: string): void {
  for (const table of ['leases', 'ingests']) db.prepare(`DELETE FROM ${table} WHERE namespace = ?`).run(name);
  db.prepare('DELETE FROM namespaces WHERE name = ?').run(name);
}
