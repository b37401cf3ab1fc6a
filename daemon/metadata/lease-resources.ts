// What a lease holds. Types are those of the Leases API: content, ingests, images and snapshots/NAME.

import { invalidArgument, messageOf, notFound, notImplemented } from '../../proto/errors';
import { checkDigest } from '../../proto/ids';
import type { Database } from './database';

export interface LeaseResource {
  readonly type: string;
  readonly id: string;
}

/**
 * Puts an object under the caller's lease; does nothing without one. Inside the transaction that writes the object.
 * @throws NOT_FOUND when there is no such lease.
 */
export function attachToLease(
  db: Database,
  namespace: string,
  lease: string | undefined,
  resource: LeaseResource,
): void {
  if (lease === undefined) return;
  requireLease(db, namespace, lease);
  db.prepare('INSERT OR IGNORE INTO lease_resources (namespace, lease, type, resource) VALUES (?, ?, ?, ?)').run(
    namespace,
    lease,
    resource.type,
    resource.id,
  );
}

/** Takes an object from a lease, which may be absent. Inside the caller's transaction. */
export function detachFromLease(
  db: Database,
  namespace: string,
  lease: string | undefined,
  resource: LeaseResource,
): void {
  if (lease === undefined) return;
  db.prepare('DELETE FROM lease_resources WHERE namespace = ? AND lease = ? AND type = ? AND resource = ?').run(
    namespace,
    lease,
    resource.type,
    resource.id,
  );
}

/** @throws NOT_FOUND */
export function requireLease(db: Database, namespace: string, lease: string): void {
  const row = db.prepare('SELECT 1 FROM leases WHERE namespace = ? AND id = ?').get(namespace, lease);
  if (row === undefined) throw notFound(`lease "${lease}"`);
}

/** By type, then id. */
export function listLeaseResources(db: Database, namespace: string, lease: string): LeaseResource[] {
  return db
    .prepare(
      'SELECT type, resource AS id FROM lease_resources WHERE namespace = ? AND lease = ? ORDER BY type, resource',
    )
    .all(namespace, lease) as LeaseResource[];
}

/**
 * Checks what a client names in AddResource and DeleteResource.
 * @throws INVALID_ARGUMENT for a malformed type or digest, UNIMPLEMENTED for another type
 */
export function checkLeaseResource({ type, id }: LeaseResource): LeaseResource {
  const [kind, ...rest] = type.split('/');
  switch (kind) {
    case 'content':
    case 'ingests':
    case 'images':
      if (rest.length > 0) throw invalidArgument(`invalid resource type "${type}"`);
      if (kind === 'content') checkContentId(id);
      return { type, id };
    case 'snapshots':
      if (rest.length !== 1) throw invalidArgument(`invalid snapshot resource type "${type}"`);
      return { type, id };
    default:
      throw notImplemented(`resource type "${type}" not supported yet`);
  }
}

function checkContentId(id: string): void {
  try {
    checkDigest(id);
  } catch (error) {
    throw invalidArgument(`invalid content resource id "${id}": ${messageOf(error)}`, { cause: error });
  }
}
