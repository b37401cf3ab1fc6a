// containerd.services.containers.v1.Containers: records only; tasks.ts runs them.

import { invalidArgument } from '../../proto/errors';
import { ContainerCreate, ContainerDelete, ContainerUpdate } from '../../proto/generated/containerd.events';
import { Container, ContainersService } from '../../proto/generated/containerd.services.containers.v1';
import type { EventBus } from '../events/bus';
import { defineService, type Service } from '../grpc/handler';
import * as store from '../metadata/container-store';
import type { Database } from '../metadata/database';
import { type Lookup, parseFilters } from '../metadata/filters';
import { ensureNamespace } from '../metadata/namespaces';
import type { Trust } from '../trust/trust';

/** What a request without a container asks for; it fails as a container without an id does. */
const EMPTY = Container.decode(new Uint8Array());

export interface ContainersDeps {
  readonly db: Database;
  readonly bus: EventBus;
  /** Undefined: every image is accepted. */
  readonly trust: Trust | undefined;
}

export function containersService({ db, bus, trust }: ContainersDeps): Service {
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
    async create({ container }, context) {
      const namespace = context.requireNamespace();
      await trust?.checkContainer(namespace, container?.image ?? '', context.signal);
      const created = db.transaction(() => {
        ensureNamespace(db, namespace);
        const result = store.createContainer(db, namespace, container ?? EMPTY);
        const { id, image, runtime } = result;
        bus.publish(namespace, '/containers/create', ContainerCreate, { id, image, runtime });
        return result;
      });
      return { container: created };
    },
    update({ container, updateMask }, context) {
      const namespace = context.requireNamespace();
      if (container === undefined || container.id === '') throw invalidArgument('Container.ID required');
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
      db.essential(() => {
        store.deleteContainer(db, namespace, id);
        bus.publish(namespace, '/containers/delete', ContainerDelete, { id });
      });
      return {};
    },
  });
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
