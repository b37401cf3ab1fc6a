// Lease records. What a lease holds is in lease-resources.ts; what deleting one frees is garbage collection's.

import { randomBytes } from 'node:crypto';
import { alreadyExists } from '../../proto/errors';
import type { Database } from './database';
import { expiryOf } from './expiry';
import { checkLabels, type Labels, parseLabels, serializeLabels } from './labels';
import { requireLease } from './lease-resources';
import { ensureNamespace } from './namespaces';

export interface LeaseRecord {
  readonly id: string;
  readonly labels: Labels;
  readonly createdAtNs: bigint;
}

interface Row {
  id: string;
  labels: string;
  created_at: bigint;
}

const NS_PER_SECOND = 1_000_000_000n;

export class LeaseStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** An empty id gets a generated one. @throws ALREADY_EXISTS, INVALID_ARGUMENT for a label */
  create(namespace: string, lease: { id: string; labels: Labels; nowNs: bigint }): LeaseRecord {
    const labels = checkLabels(lease.labels);
    const id = lease.id === '' ? newLeaseId(lease.nowNs) : lease.id;
    return this.#db.transaction(() => {
      ensureNamespace(this.#db, namespace);
      const { changes } = this.#db
        .prepare(
          `INSERT INTO leases (namespace, id, labels, expires_at, created_at) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (namespace, id) DO NOTHING`,
        )
        .run(namespace, id, serializeLabels(labels), expiryOf(labels), lease.nowNs);
      if (changes === 0) throw alreadyExists(`lease "${id}"`);
      return { id, labels, createdAtNs: lease.nowNs };
    });
  }

  /** All of a namespace, by id. */
  list(namespace: string): LeaseRecord[] {
    const rows = this.#db
      .prepare('SELECT id, labels, created_at FROM leases WHERE namespace = ? ORDER BY id')
      .safeIntegers()
      .all(namespace) as Row[];
    return rows.map((row) => ({ id: row.id, labels: parseLabels(row.labels), createdAtNs: row.created_at }));
  }

  /** Drops the lease with its list of resources, not the resources. @throws NOT_FOUND */
  remove(namespace: string, id: string): void {
    this.#db.essential(() => {
      requireLease(this.#db, namespace, id);
      this.#db.prepare('DELETE FROM leases WHERE namespace = ? AND id = ?').run(namespace, id);
    });
  }
}

/** The form of containerd's own: nanoseconds of the second, a dash, three random bytes in base64url. */
function newLeaseId(nowNs: bigint): string {
  return `${nowNs % NS_PER_SECOND}-${randomBytes(3).toString('base64url')}`;
}
