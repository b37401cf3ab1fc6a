// containerd.services.namespaces.v1.Namespaces. Events are published inside the namespace they tell of.

import { alreadyExists, failedPrecondition, invalidArgument, notFound } from '../../proto/errors';
import { NamespaceCreate, NamespaceDelete, NamespaceUpdate } from '../../proto/generated/containerd.events';
import { NamespacesService } from '../../proto/generated/containerd.services.namespaces.v1';
import { checkIdentifier } from '../../proto/ids';
import type { EventBus } from '../events/bus';
import { defineService, type Service } from '../grpc/handler';
import type { Database } from '../metadata/database';
import { checkLabels } from '../metadata/labels';
import * as store from '../metadata/namespaces';

export function namespacesService({ db, bus }: { db: Database; bus: EventBus }): Service {
  return defineService(NamespacesService, {
    get: ({ name }) => ({ namespace: { name, labels: store.namespaceLabels(db, name) ?? {} } }),
    list: () => ({ namespaces: store.listNamespaces(db) }),
    create({ namespace }) {
      const { name, labels } = namespace ?? { name: '', labels: {} };
      checkIdentifier(name);
      const kept = checkLabels(labels, 'namespace.Labels');
      db.transaction(() => {
        if (store.namespaceLabels(db, name) !== undefined) throw alreadyExists(`namespace "${name}"`);
        store.putNamespace(db, name, kept);
        bus.publish(name, '/namespaces/create', NamespaceCreate, { name, labels: kept });
      });
      return { namespace: { name, labels: kept } };
    },
    update({ namespace, updateMask }) {
      const { name, labels } = namespace ?? { name: '', labels: {} };
      checkIdentifier(name);
      const paths = updateMask?.paths ?? [];
      for (const path of paths) {
        if (!path.startsWith('labels.')) throw invalidArgument(`cannot update "${path}" field`);
      }
      const updated = store.updateNamespace(db, { name, labels, paths }, (result) =>
        bus.publish(name, '/namespaces/update', NamespaceUpdate, { name, labels: result }),
      );
      return { namespace: { name, labels: updated } };
    },
    delete({ name }) {
      db.essential(() => {
        if (store.namespaceLabels(db, name) === undefined) throw notFound(`namespace "${name}"`);
        const left = store.objectsOf(db, name);
        if (left.length > 0) {
          throw failedPrecondition(`namespace "${name}" must be empty, but it still has ${left.join(', ')}`);
        }
        store.deleteNamespace(db, name);
        bus.publish(name, '/namespaces/delete', NamespaceDelete, { name });
      });
      return {};
    },
  });
}
