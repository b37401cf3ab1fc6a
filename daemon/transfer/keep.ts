// What a pull has fetched before it failed stays for a while, so that the next try need not fetch it again: under a lease
// that ends by itself.

import { randomBytes } from 'node:crypto';
import { errorKind } from '../../proto/errors';
import { nowNs } from '../../proto/time';
import type { Owner } from '../images/blobs';
import type { Database } from '../metadata/database';
import { EXPIRE_LABEL } from '../metadata/expiry';
import { attachToLease, type LeaseResource } from '../metadata/lease-resources';
import { LeaseStore } from '../metadata/lease-store';

const KEPT_MS = 3_600_000;
/** Failures that another try may get over. A full disk is none of them: there, everything has to go. */
const PASSING = new Set(['unavailable', 'deadline exceeded']);

/** Does nothing when the error is one that would come again. */
export function keepForNextTry(
  db: Database,
  { namespace }: Owner,
  error: unknown,
  resources: readonly LeaseResource[],
): void {
  if (!PASSING.has(errorKind(error) ?? '') || resources.length === 0) return;
  const labels = { [EXPIRE_LABEL]: new Date(Date.now() + KEPT_MS).toISOString() };
  db.transaction(() => {
    const id = `kept-${randomBytes(8).toString('hex')}`;
    new LeaseStore(db).create(namespace, { id, labels, nowNs: nowNs() });
    for (const resource of resources) attachToLease(db, namespace, id, resource);
  });
}
