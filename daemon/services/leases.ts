// containerd.services.leases.v1: leases and what they hold, over gRPC.

import { invalidArgument } from '../../proto/errors';
import { type Lease, LeasesService, type Resource } from '../../proto/generated/containerd.services.leases.v1';
import { nowNs, toTimestamp } from '../../proto/time';
import type { Collector } from '../gc/collector';
import { type CallContext, defineService, type Service } from '../grpc/handler';
import type { Database } from '../metadata/database';
import { parseFilters } from '../metadata/filters';
import {
  attachToLease,
  checkLeaseResource,
  detachFromLease,
  type LeaseResource,
  listLeaseResources,
  requireLease,
} from '../metadata/lease-resources';
import { type LeaseRecord, LeaseStore } from '../metadata/lease-store';

export interface LeasesDeps {
  readonly db: Database;
  readonly collector: Collector;
}

/** The lease of a call, if it names one. */
export function leaseOf(context: CallContext): string | undefined {
  return context.lease === '' ? undefined : context.lease;
}

export function leasesService({ db, collector }: LeasesDeps): Service {
  const leases = new LeaseStore(db);
  return defineService(LeasesService, {
    create: ({ id, labels }, context) => ({
      lease: toWire(leases.create(context.requireNamespace(), { id, labels, nowNs: nowNs() })),
    }),

    delete: async ({ id, sync }, context) => {
      leases.remove(context.requireNamespace(), id);
      if (sync) await collector.run();
      return {};
    },

    list: ({ filters }, context) => {
      const filter = parseFilters(filters);
      const records = leases.list(context.requireNamespace());
      return { leases: records.filter((lease) => filter.matches((path) => lookup(lease, path))).map(toWire) };
    },

    addResource: ({ id, resource }, context) => {
      const namespace = context.requireNamespace();
      db.transaction(() => {
        requireLease(db, namespace, id);
        attachToLease(db, namespace, id, fromWire(resource));
      });
      return {};
    },

    deleteResource: ({ id, resource }, context) => {
      const namespace = context.requireNamespace();
      db.essential(() => {
        requireLease(db, namespace, id);
        detachFromLease(db, namespace, id, fromWire(resource));
      });
      return {};
    },

    listResources: ({ id }, context) => {
      const namespace = context.requireNamespace();
      return db.transaction(() => {
        requireLease(db, namespace, id);
        return { resources: listLeaseResources(db, namespace, id) };
      });
    },
  });
}

function fromWire(resource: Resource | undefined): LeaseResource {
  if (resource === undefined) throw invalidArgument('resource required');
  return checkLeaseResource(resource);
}

function toWire({ id, labels, createdAtNs }: LeaseRecord): Lease {
  return { id, labels, createdAt: toTimestamp(createdAtNs) };
}

function lookup(lease: LeaseRecord, [field, ...rest]: readonly string[]): string | undefined {
  if (field === 'id') return lease.id;
  return field === 'labels' ? lease.labels[rest.join('.')] : undefined;
}
