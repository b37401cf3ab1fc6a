// Records of blobs: which namespace has which digest, with labels. The files behind them are content/'s.

import { notFound } from '../../proto/errors';
import type { Database } from './database';
import { type Labels, parseLabels, serializeLabels, updateLabels } from './labels';

export interface BlobRecord {
  readonly digest: string;
  readonly sizeBytes: bigint;
  readonly labels: Labels;
  readonly createdAtNs: bigint;
  readonly updatedAtNs: bigint;
}

interface Row {
  digest: string;
  size: bigint;
  labels: string;
  created_at: bigint;
  updated_at: bigint;
}

const COLUMNS = 'digest, size, labels, created_at, updated_at';

/** Label by which clients learn the diff id of a compressed layer. */
export const UNCOMPRESSED_LABEL = 'containerd.io/uncompressed';

export class BlobStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** @throws NOT_FOUND */
  get(namespace: string, digest: string): BlobRecord {
    const row = this.#db
      .prepare(`SELECT ${COLUMNS} FROM blobs WHERE namespace = ? AND digest = ?`)
      .safeIntegers()
      .get(namespace, digest) as Row | undefined;
    if (row === undefined) throw notFound(`content digest ${digest}`);
    return toRecord(row);
  }

  has(namespace: string, digest: string): boolean {
    return (
      this.#db.prepare('SELECT 1 FROM blobs WHERE namespace = ? AND digest = ?').get(namespace, digest) !== undefined
    );
  }

  /** Whether any namespace has it. */
  isRecorded(digest: string): boolean {
    return this.#db.prepare('SELECT 1 FROM blobs WHERE digest = ? LIMIT 1').get(digest) !== undefined;
  }

  /** At most `limit` digests after `after` that any namespace has, by digest. */
  digests(after: string, limit: number): string[] {
    const rows = this.#db.prepare('SELECT DISTINCT digest FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?').pluck();
    return rows.all(after, limit) as string[];
  }

  namespacesOf(digest: string): string[] {
    const rows = this.#db.prepare('SELECT namespace FROM blobs WHERE digest = ? ORDER BY namespace').pluck();
    return rows.all(digest) as string[];
  }

  /** Whether a namespace that shares its content by label has it. */
  isShareable(digest: string): boolean {
    return (
      this.#db
        .prepare(
          `SELECT 1 FROM blobs b JOIN namespaces n ON n.name = b.namespace
            WHERE b.digest = ? AND json_extract(n.labels, '$."containerd.io/namespace.shareable"') = 'true' LIMIT 1`,
        )
        .get(digest) !== undefined
    );
  }

  /** A blob of the namespace that decompresses to the one with this digest, as its label says. */
  findCompressed(namespace: string, digest: string): BlobRecord | undefined {
    const row = this.#db
      .prepare(
        `SELECT ${COLUMNS} FROM blobs
          WHERE namespace = ? AND digest <> ? AND json_extract(labels, '$."${UNCOMPRESSED_LABEL}"') = ?
          ORDER BY digest LIMIT 1`,
      )
      .safeIntegers()
      .get(namespace, digest, digest) as Row | undefined;
    return row && toRecord(row);
  }

  /** At most `limit` records with digests after `after`, by digest. */
  page(namespace: string, after: string, limit: number): BlobRecord[] {
    const rows = this.#db
      .prepare(`SELECT ${COLUMNS} FROM blobs WHERE namespace = ? AND digest > ? ORDER BY digest LIMIT ?`)
      .safeIntegers()
      .all(namespace, after, limit) as Row[];
    return rows.map(toRecord);
  }

  /** False when the namespace has it already. Inside the caller's transaction. */
  insert(namespace: string, blob: BlobRecord): boolean {
    const { changes } = this.#db
      .prepare(
        `INSERT INTO blobs (namespace, ${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (namespace, digest) DO NOTHING`,
      )
      .run(namespace, blob.digest, blob.sizeBytes, serializeLabels(blob.labels), blob.createdAtNs, blob.updatedAtNs);
    return changes > 0;
  }

  /** Changes labels as the paths say, all of them when there are none. @throws NOT_FOUND, INVALID_ARGUMENT */
  update(
    namespace: string,
    change: { digest: string; labels: Labels; paths: readonly string[]; nowNs: bigint },
  ): BlobRecord {
    return this.#db.transaction(() => {
      const { digest, paths, nowNs } = change;
      const current = this.get(namespace, digest);
      const labels = updateLabels(current.labels, change.labels, paths.length === 0 ? ['labels'] : paths);
      this.#db
        .prepare('UPDATE blobs SET labels = ?, updated_at = ? WHERE namespace = ? AND digest = ?')
        .run(serializeLabels(labels), nowNs, namespace, digest);
      return { ...current, labels, updatedAtNs: nowNs };
    });
  }

  /** Inside the caller's transaction. @throws NOT_FOUND */
  remove(namespace: string, digest: string): void {
    const { changes } = this.#db.prepare('DELETE FROM blobs WHERE namespace = ? AND digest = ?').run(namespace, digest);
    if (changes === 0) throw notFound(`content digest ${digest}`);
  }
}

function toRecord(row: Row): BlobRecord {
  return {
    digest: row.digest,
    sizeBytes: row.size,
    labels: parseLabels(row.labels),
    createdAtNs: row.created_at,
    updatedAtNs: row.updated_at,
  };
}
