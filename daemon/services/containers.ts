// containerd.services.containers.v1.Containers: records only; tasks.ts runs them.

import { invalidArgument } from '../../proto/errors';
import { ContainerCreate, ContainerDelete, ContainerUpdate } from '../../proto/generated/containerd.events';
import { type Container, ContainersService } from '../../proto/generated/containerd.services.containers.v1';
import { checkIdentifier } from '../../proto/ids';
import type { EventBus } from '../events/bus';
import { defineService, type Service } from '../grpc/handler';
import * as store from '../metadata/container-store';
import type { Database } from '../metadata/database';
import { type Lookup, parseFilters } from '../metadata/filters';
import { ensureNamespace } from '../metadata/namespaces';

export interface ContainersDeps {
  readonly db: Database;
  readonly bus: EventBus;
}

export function containersService({ db, bus }: ContainersDeps): Service {
  const matching = (namespace: string, filters: readonly string[]) => {
    const filter = parseFilters(filters);
    return store.listContainers(db, namespace).filter((container) => filter.matches(fieldsOf(container)));
  };
  return defineService(ContainersService, {
    get: ({ id }, context) => ({ container: store.getContainer(db, context.requireNamespace(), id) }),
    list: ({ filters }, context) => ({ containers: matching(context.requireNamespace(), filters) }),
    async *listStream({ filters }, context) {
      for (const container of matching(context.requireNamespace(), filters)) yield { container };
    },
    create({ container }, context) {
      const namespace = context.requireNamespace();
      const checked = check(container);
      const created = db.transaction(() => {
        ensureNamespace(db, namespace);
        const result = store.createContainer(db, namespace, checked);
        const { id, image, runtime } = result;
        bus.publish(namespace, '/containers/create', ContainerCreate, { id, image, runtime });
        return result;
      });
      return { container: created };
    },
    update({ container, updateMask }, context) {
      const namespace = context.requireNamespace();
      if (container === undefined || container.id === '') throw invalidArgument('container.id is required');
      const updated = db.transaction(() => {
        const result = store.updateContainer(db, namespace, { given: container, paths: updateMask?.paths ?? [] });
        const { id, image, labels, snapshotKey } = result;
        bus.publish(namespace, '/containers/update', ContainerUpdate, { id, image, labels, snapshotKey });
        return result;
      });
      return { container: updated };
    },
    delete({ id }, context) {
      const namespace = context.requireNamespace();
      db.transaction(() => {
        store.deleteContainer(db, namespace, id);
        bus.publish(namespace, '/containers/delete', ContainerDelete, { id });
      });
      return {};
    },
  });
}

/** @throws INVALID_ARGUMENT naming the field that is missing. */
function check(container: Container | undefined): Container {
  if (container === undefined) throw invalidArgument('container is required');
  checkIdentifier(container.id);
  const what = `container "${container.id}"`;
  if (Object.hasOwn(container.extensions, '')) throw invalidArgument(`${what}: extension keys must not be zero-length`);
  if (!container.runtime?.name) throw invalidArgument(`${what}: runtime.name must be set`);
  if (container.spec === undefined) throw invalidArgument(`${what}: spec must be set`);
  if (container.snapshotKey !== '' && container.snapshotter === '') {
    throw invalidArgument(`${what}: snapshotter must be set with snapshot_key`);
  }
  return container;
}

function fieldsOf(container: Container): Lookup {
  return ([head, ...rest]) => {
    switch (head) {
      case 'id':
        return container.id || undefined;
      case 'image':
        return container.image || undefined;
      case 'runtime':
        return rest[0] === 'name' ? container.runtime?.name || undefined : undefined;
      case 'labels':
        return container.labels[rest.join('.')];
      default:
        return undefined;
    }
  };
}
