// A lease for calls that have none: what a transfer writes stays until something refers to it.

import { randomBytes } from 'node:crypto';
import { isNotFound } from '../../proto/errors';
import { nowNs } from '../../proto/time';
import type { Database } from '../metadata/database';
import { EXPIRE_LABEL } from '../metadata/expiry';
import { requireLease } from '../metadata/lease-resources';
import { LeaseStore } from '../metadata/lease-store';

/** Should the daemon be killed, the lease ends by itself. */
const LIFETIME_MS = 24 * 3_600_000;

/** Runs `body` under the caller's lease, or under one that ends with it. @throws NOT_FOUND for an unknown lease */
export async function withLease<T>(
  db: Database,
  { namespace, lease }: { readonly namespace: string; readonly lease: string | undefined },
  body: (lease: string) => Promise<T>,
): Promise<T> {
  if (lease !== undefined) {
    requireLease(db, namespace, lease);
    return body(lease);
  }
  const leases = new LeaseStore(db);
  const labels = { [EXPIRE_LABEL]: new Date(Date.now() + LIFETIME_MS).toISOString() };
  const { id } = leases.create(namespace, { id: `transfer-${randomBytes(8).toString('hex')}`, labels, nowNs: nowNs() });
  try {
    return await body(id);
  } finally {
    removeIfThere(leases, namespace, id);
  }
}

/** Somebody may have removed it before. */
function removeIfThere(leases: LeaseStore, namespace: string, id: string): void {
  try {
    leases.remove(namespace, id);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}
