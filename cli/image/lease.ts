// Short leases: they keep new objects from garbage collection until something refers to them.

import { randomBytes } from 'node:crypto';
import { isNotFound } from '../../proto/errors';
import { nowNs } from '../../proto/time';
import type { Session } from '../session';

const LEASE_HOURS = 24;

/** Runs a body under a lease of its own, which ends with it; should this process die, it expires by itself. */
export async function withLease<T>(session: Session, body: (lease: string) => Promise<T>): Promise<T> {
  const id = `${nowNs() % 1_000_000_000n}-${randomBytes(3).toString('base64url')}`;
  const expire = new Date(Date.now() + LEASE_HOURS * 3_600_000).toISOString();
  await session.connection.leases.create({ id, labels: { 'containerd.io/gc.expire': expire } });
  try {
    return await body(id);
  } finally {
    await session.connection.leases.delete({ id }).catch((error: unknown) => {
      if (!isNotFound(error)) throw error;
    });
  }
}
