// The table of gRPC services. Adding one is one line here.

import type { Snapshotter } from '../../snapshotter/snapshotter';
import type { ContentStore } from '../content/store';
import type { ApplyDeps } from '../diff/apply';
import type { EventBus } from '../events/bus';
import type { Collector } from '../gc/collector';
import type { Service } from '../grpc/handler';
import { ImageRecords } from '../images/image-records';
import { Unpacker } from '../images/unpack';
import type { Logger } from '../log';
import type { Database } from '../metadata/database';
import type { Registries } from '../registry/registries';
import { Streams } from '../streaming/streams';
import type { TaskManager } from '../tasks/task-manager';
import type { Trust } from '../trust/trust';
import { adminService } from './admin';
import { containersService } from './containers';
import { contentService } from './content';
import { diffService } from './diff';
import { eventsService } from './events';
import { healthService } from './health';
import { imagesService } from './images';
import { type IntrospectionDeps, introspectionService } from './introspection';
import { leasesService } from './leases';
import { namespacesService } from './namespaces';
import { reflectionServices } from './reflection';
import { snapshotsService } from './snapshots';
import { streamingService } from './streaming';
import { tasksService } from './tasks';
import { transferService } from './transfer';
import { versionService } from './version';

/** The parts of the daemon that services are made of. */
export interface ServiceParts {
  readonly db: Database;
  readonly events: EventBus;
  readonly content: ContentStore;
  readonly collector: Collector;
  readonly diff: ApplyDeps;
  readonly snapshotters: ReadonlyMap<string, Snapshotter>;
  readonly tasks: TaskManager;
  readonly registries: Registries;
  /** Undefined: every image is accepted. */
  readonly trust: Trust | undefined;
  readonly log: Logger;
  readonly introspection: IntrospectionDeps;
  readonly version: { readonly version: string; readonly revision: string };
}

export function buildServices(parts: ServiceParts): Service[] {
  const { db, events, content, collector, diff, snapshotters, tasks, registries, trust, log } = parts;
  const { introspection, version } = parts;
  const streams = new Streams(db);
  collector.addSweeper({
    type: 'leases',
    sweep: async () => {
      streams.sweep();
      return [];
    },
  });
  const transfer = {
    db,
    content,
    streams,
    images: new ImageRecords(db, events),
    unpacker: new Unpacker({ db, events, diff, snapshotters }),
    registries,
    trust,
    log,
  };
  const services: Service[] = [
    versionService(version.version, version.revision),
    introspectionService(introspection),
    namespacesService({ db, bus: events }),
    containersService({ db, bus: events, trust }),
    contentService({ content }),
    imagesService({ db, events, collector }),
    leasesService({ db, collector }),
    snapshotsService({ db, events, snapshotters }),
    diffService(diff),
    tasksService({ db, tasks, trust }),
    eventsService(events),
    streamingService({ streams }),
    transferService(transfer),
    adminService({ ...transfer, events, collector, snapshotters }),
  ];
  const names = () => services.map(serviceName);
  services.push(healthService(names), ...reflectionServices(names));
  return services;
}

/** The full name of a service, such as containerd.services.version.v1.Version. */
export function serviceName(service: Service): string {
  return Object.values(service.definition)[0]?.path.split('/')[1] ?? '';
}
