// Records of ingests: which ref of a namespace writes into which directory, and until when it is kept without a lease.

import { createHash } from 'node:crypto';
import { notFound } from '../../proto/errors';
import type { Database } from './database';

export interface IngestRecord {
  readonly namespace: string;
  readonly ref: string;
  /** Name of its directory under ingest/, never used twice. */
  readonly directory: string;
  /** Digest of the shared blob that stands in for its data; usually empty. */
  readonly expected: string;
  readonly totalBytes: bigint;
  readonly startedAtNs: bigint;
  /** 0 when a lease decides. */
  readonly expiresAtNs: bigint;
}

interface Row {
  namespace: string;
  ref: string;
  directory: string;
  expected: string;
  total: bigint;
  started_at: bigint;
  expires_at: bigint;
}

const COLUMNS = 'namespace, ref, directory, expected, total, started_at, expires_at';

export class IngestStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  find(namespace: string, ref: string): IngestRecord | undefined {
    const row = this.#db
      .prepare(`SELECT ${COLUMNS} FROM ingests WHERE namespace = ? AND ref = ?`)
      .safeIntegers()
      .get(namespace, ref) as Row | undefined;
    return row === undefined ? undefined : toRecord(row);
  }

  /** @throws NOT_FOUND */
  get(namespace: string, ref: string): IngestRecord {
    const record = this.find(namespace, ref);
    if (record === undefined) throw notFound(`reference ${ref}`);
    return record;
  }

  /** All of a namespace, by ref. */
  list(namespace: string): IngestRecord[] {
    const rows = this.#db
      .prepare(`SELECT ${COLUMNS} FROM ingests WHERE namespace = ? ORDER BY ref`)
      .safeIntegers()
      .all(namespace) as Row[];
    return rows.map(toRecord);
  }

  /** Inserts or replaces, inside the caller's transaction. */
  put(record: IngestRecord): void {
    this.#db
      .prepare(
        `INSERT INTO ingests (${COLUMNS}, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
          ON CONFLICT (namespace, ref) DO UPDATE SET expected = excluded.expected, total = excluded.total,
            expires_at = excluded.expires_at`,
      )
      .run(
        record.namespace,
        record.ref,
        record.directory,
        record.expected,
        record.totalBytes,
        record.startedAtNs,
        record.expiresAtNs,
        record.startedAtNs,
      );
  }

  /** Inside the caller's transaction; does nothing when it is gone. */
  remove(namespace: string, ref: string): void {
    this.#db.prepare('DELETE FROM ingests WHERE namespace = ? AND ref = ?').run(namespace, ref);
  }

  hasDirectory(directory: string): boolean {
    return this.#db.prepare('SELECT 1 FROM ingests WHERE directory = ?').get(directory) !== undefined;
  }

  /** Whether an ingest of any namespace relies on the blob file. */
  isExpected(digest: string): boolean {
    return this.#db.prepare('SELECT 1 FROM ingests WHERE expected = ? LIMIT 1').get(digest) !== undefined;
  }
}

let sequence = 0;

/** A directory name for a new ingest: the hash of namespace, time, a sequence number and ref. */
export function newIngestDirectory(namespace: string, ref: string, nowNs: bigint): string {
  sequence += 1;
  return createHash('sha256').update(`${namespace}/${nowNs}-${sequence}/${ref}`).digest('hex');
}

function toRecord(row: Row): IngestRecord {
  return {
    namespace: row.namespace,
    ref: row.ref,
    directory: row.directory,
    expected: row.expected,
    totalBytes: row.total,
    startedAtNs: row.started_at,
    expiresAtNs: row.expires_at,
  };
}
