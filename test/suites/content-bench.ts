// A daemon's storage half in a temporary directory: real SQLite, real files, the services of content, images and leases.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ContentStore, type SharingPolicy } from '../../daemon/content/store';
import { EventBus } from '../../daemon/events/bus';
import { Collector } from '../../daemon/gc/collector';
import type { ResourceNode } from '../../daemon/gc/graph';
import type { Service } from '../../daemon/grpc/handler';
import { Database } from '../../daemon/metadata/database';
import { contentService } from '../../daemon/services/content';
import { imagesService } from '../../daemon/services/images';
import { leasesService } from '../../daemon/services/leases';

export interface Bench {
  readonly directory: string;
  readonly db: Database;
  readonly events: EventBus;
  readonly content: ContentStore;
  readonly collector: Collector;
  /** Everything that was collected so far. */
  readonly removed: ResourceNode[];
  readonly services: Service[];
  close(): Promise<void>;
}

/** The collector runs only when it is told to, unless `start()` is called on it. */
export async function openBench(sharing: SharingPolicy = 'shared', parent: string = tmpdir()): Promise<Bench> {
  const directory = mkdtempSync(join(parent, 'gantry-content-'));
  const db = Database.open(join(directory, 'meta.db'));
  const events = new EventBus(db);
  const content = await ContentStore.open({ root: join(directory, 'content'), db, events, sharing });
  const removed: ResourceNode[] = [];
  const collector = new Collector({
    db,
    events,
    options: { startupDelayMs: 0 },
    onError: (error) => console.error(error),
    onCollected: (result) => removed.push(...result.removed),
  });
  collector.addSweeper({ type: 'content', sweep: () => content.sweep(), lost: () => content.lost() });
  collector.addPins(() => content.openIngests());
  const services = [
    contentService({ content }),
    imagesService({ db, events, collector }),
    leasesService({ db, collector }),
  ];
  return {
    directory,
    db,
    events,
    content,
    collector,
    removed,
    services,
    close: async () => {
      await collector.stop();
      await db.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
