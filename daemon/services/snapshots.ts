// containerd.services.snapshots.v1.Snapshots: leases, events and streams around the snapshotters.

import { invalidArgument, isAlreadyExists, messageOf, unknown } from '../../proto/errors';
import { SnapshotCommit, SnapshotPrepare, SnapshotRemove } from '../../proto/generated/containerd.events';
import {
  type Info,
  Kind,
  type ListSnapshotsRequest,
  type ListSnapshotsResponse,
  type PrepareSnapshotRequest,
  SnapshotsService,
} from '../../proto/generated/containerd.services.snapshots.v1';
import { toTimestamp } from '../../proto/time';
import {
  hasSnapshot,
  type SnapshotInfo,
  type SnapshotKind,
  type Snapshotter,
  TARGET_LABEL,
} from '../../snapshotter/snapshotter';
import type { EventBus } from '../events/bus';
import { type CallContext, defineService, type Service } from '../grpc/handler';
import type { Database } from '../metadata/database';
import { type Lookup, labelAt, parseFilters } from '../metadata/filters';
import { checkLabels, updateLabels } from '../metadata/labels';
import { attachToLease, detachFromLease } from '../metadata/lease-resources';
import { ensureNamespace } from '../metadata/namespaces';
import { leaseOf } from './leases';

export interface SnapshotsDeps {
  readonly db: Database;
  readonly events: EventBus;
  readonly snapshotters: ReadonlyMap<string, Snapshotter>;
}

const LIST_PAGE = 100;
const KINDS: Record<SnapshotKind, number> = { view: Kind.VIEW, active: Kind.ACTIVE, committed: Kind.COMMITTED };

export function snapshotsService({ db, events, snapshotters }: SnapshotsDeps): Service {
  const find = (name: string): Snapshotter => {
    if (name === '') throw invalidArgument('snapshotter argument missing');
    const snapshotter = snapshotters.get(name);
    if (snapshotter === undefined) throw invalidArgument(`snapshotter not loaded: ${name}`);
    return snapshotter;
  };

  return defineService(SnapshotsService, {
    prepare: async (request, context) => {
      const snapshotter = find(request.snapshotter);
      const { key, parent } = request;
      return {
        mounts: await create(db, snapshotter, { request, context, method: 'prepare' }, (namespace) => {
          events.publish(namespace, '/snapshot/prepare', SnapshotPrepare, {
            key,
            parent,
            snapshotter: snapshotter.name,
          });
        }),
      };
    },

    view: async (request, context) => ({
      mounts: await create(db, find(request.snapshotter), { request, context, method: 'view' }, () => {}),
    }),

    mounts: async ({ snapshotter, key }, context) => ({
      mounts: await find(snapshotter).mounts(context.requireNamespace(), key),
    }),

    commit: async ({ snapshotter: id, name, key, labels, parent }, context) => {
      const snapshotter = find(id);
      const namespace = context.requireNamespace();
      checkLabels(labels);
      const within = () => {
        const lease = leaseOf(context);
        attachToLease(db, namespace, lease, { type: typeOf(snapshotter), id: name });
        detachFromLease(db, namespace, lease, { type: typeOf(snapshotter), id: key });
        events.publish(namespace, '/snapshot/commit', SnapshotCommit, { key, name, snapshotter: snapshotter.name });
      };
      const { signal } = context;
      await snapshotter.commit(namespace, name, key, { labels, signal, within, ...(parent === '' ? {} : { parent }) });
      return {};
    },

    remove: ({ snapshotter: id, key }, context) => {
      const snapshotter = find(id);
      const namespace = context.requireNamespace();
      const within = () => {
        detachFromLease(db, namespace, leaseOf(context), { type: typeOf(snapshotter), id: key });
        events.publish(namespace, '/snapshot/remove', SnapshotRemove, { key, snapshotter: snapshotter.name });
      };
      snapshotter.remove(namespace, key, { within });
      return {};
    },

    stat: ({ snapshotter, key }, context) => ({
      info: toInfo(find(snapshotter).stat(context.requireNamespace(), key)),
    }),

    update: async ({ snapshotter: id, info, updateMask }, context) => {
      const snapshotter = find(id);
      const namespace = context.requireNamespace();
      const name = info?.name ?? '';
      if (name === '') throw invalidArgument('snapshot name must not be empty');
      const incoming = info?.labels ?? {};
      // Without a mask all labels are replaced.
      const paths = updateMask?.paths.length ? updateMask.paths : ['labels'];
      const change = (labels: Readonly<Record<string, string>>) =>
        updateLabels(labels, incoming, paths, `snapshot "${name}"`);
      return { info: toInfo(await snapshotter.update(namespace, name, change, { signal: context.signal })) };
    },

    list: (request, context) => list(find(request.snapshotter), request, context.requireNamespace()),

    usage: async ({ snapshotter, key }, context) => {
      const { sizeBytes, inodes } = await find(snapshotter).usage(context.requireNamespace(), key);
      return { size: sizeBytes, inodes };
    },

    cleanup: async ({ snapshotter }) => {
      await find(snapshotter).cleanup();
      return {};
    },
  });
}

interface Creation {
  readonly request: PrepareSnapshotRequest;
  readonly context: CallContext;
  readonly method: 'prepare' | 'view';
}

/** What exists already is put under the lease too, because the client goes on to use it. */
async function create(
  db: Database,
  snapshotter: Snapshotter,
  { request, context, method }: Creation,
  publish: (namespace: string) => void,
) {
  const { key, parent, labels } = request;
  const namespace = context.requireNamespace();
  checkLabels(labels);
  const attach = (id: string) => attachToLease(db, namespace, leaseOf(context), { type: typeOf(snapshotter), id });
  const within = () => {
    ensureNamespace(db, namespace);
    attach(key);
    publish(namespace);
  };
  try {
    return await snapshotter[method](namespace, key, parent, { labels, signal: context.signal, within });
  } catch (error) {
    if (isAlreadyExists(error)) {
      const target = labels[TARGET_LABEL];
      db.transaction(() => attach(target && hasSnapshot(snapshotter, namespace, target) ? target : key));
    }
    throw error;
  }
}

async function* list(
  snapshotter: Snapshotter,
  { filters }: ListSnapshotsRequest,
  namespace: string,
): AsyncIterable<Partial<ListSnapshotsResponse>> {
  const filter = readFilters(filters);
  const found = snapshotter.walk(namespace).filter((info) => filter.matches(fieldsOf(info)));
  for (let at = 0; at < found.length; at += LIST_PAGE) yield { info: found.slice(at, at + LIST_PAGE).map(toInfo) };
}

/** containerd answers a bad filter with UNKNOWN in this one place. */
function readFilters(filters: readonly string[]) {
  try {
    return parseFilters(filters);
  } catch (error) {
    throw unknown(messageOf(error), { cause: error });
  }
}

function fieldsOf(info: SnapshotInfo): Lookup {
  return (path) => {
    switch (path[0]) {
      case 'kind':
        return info.kind;
      case 'name':
        return info.name;
      case 'parent':
        return info.parent;
      case 'labels':
        return labelAt(info.labels, path);
      default:
        return undefined;
    }
  };
}

function typeOf(snapshotter: Snapshotter): string {
  return `snapshots/${snapshotter.name}`;
}

function toInfo(info: SnapshotInfo): Info {
  return {
    name: info.name,
    parent: info.parent,
    kind: KINDS[info.kind],
    createdAt: toTimestamp(info.createdAtNs),
    updatedAt: toTimestamp(info.updatedAtNs),
    labels: { ...info.labels },
  };
}
