// A database, an event bus and snapshotters in a directory of their own, behind the Snapshots service.

import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EventBus } from '../../daemon/events/bus';
import type { Service } from '../../daemon/grpc/handler';
import { Database } from '../../daemon/metadata/database';
import { snapshotsService } from '../../daemon/services/snapshots';
import { unpackAny } from '../../proto/any';
import type { MessageType } from '../../proto/codec';
import * as eventTypes from '../../proto/generated/containerd.events';
import { unmountRecursive } from '../../runtime-native/index';
import { openSnapshotters } from '../../snapshotter/index';
import type { ProxyOptions } from '../../snapshotter/proxy';
import type { Snapshotter } from '../../snapshotter/snapshotter';
import { Records } from './records';

export interface SnapshotBench {
  readonly directory: string;
  readonly db: Database;
  readonly service: Service;
  /** Closes and opens the snapshotters, as a restart does. */
  reopen(): Promise<void>;
  lease(id: string): void;
  leased(id: string, snapshotter: string): string[];
  /** All events so far: namespace, topic, type, payload. */
  events(): unknown[];
  /** Numbers of the directories of a snapshotter. */
  directories(snapshotter: string): Promise<number[]>;
  strayDirectory(snapshotter: string, id: number): Promise<void>;
  loseDirectory(snapshotter: string, id: number): Promise<void>;
  close(): Promise<void>;
}

export interface BenchOptions {
  /** Mounts a file system of its own on the directory that it gets, for the snapshots. */
  readonly mountRoot?: ((root: string) => void) | undefined;
  readonly proxies?: readonly ProxyOptions[];
}

export async function openSnapshotBench({ mountRoot, proxies = [] }: BenchOptions = {}): Promise<SnapshotBench> {
  const directory = mkdtempSync(join(tmpdir(), 'snapshotter-'));
  const root = join(directory, 'root');
  mkdirSync(root);
  mountRoot?.(root);
  const db = Database.open(join(directory, 'test.db'));
  const bus = new EventBus(db);
  // The service holds the map, so that snapshotters can be opened again behind it.
  const snapshotters = new Map<string, Snapshotter>();
  const reopen = async () => {
    const opened = await openSnapshotters({
      root,
      db,
      overlayfs: { mountOptions: [] },
      proxies,
      erofs: { mountOptions: [], mkfsOptions: ['-zlz4'] },
    });
    for (const snapshotter of snapshotters.values()) snapshotter.close?.();
    for (const [name, snapshotter] of opened) snapshotters.set(name, snapshotter);
  };
  await reopen();
  const path = (snapshotter: string) => join(root, `io.containerd.snapshotter.v1.${snapshotter}`, 'snapshots');
  return {
    directory,
    db,
    service: snapshotsService({ db, events: bus, snapshotters }),
    reopen,
    lease: (id) => void new Records(db, 'default').lease(id, []),
    leased: (id, snapshotter) =>
      db
        .prepare('SELECT resource FROM lease_resources WHERE lease = ? AND type = ? ORDER BY resource')
        .pluck()
        .all(id, `snapshots/${snapshotter}`) as string[],
    events: () =>
      [...bus.replayFrom(0n)].map(({ envelope: { namespace, topic, event } }) => {
        const name = event?.typeUrl.split('.').at(-1) ?? '';
        const type = (eventTypes as unknown as Record<string, MessageType<unknown>>)[name];
        return [namespace, topic, type?.name, type && event ? { ...(unpackAny(type, event) as object) } : undefined];
      }),
    directories: async (snapshotter) =>
      readdirSync(path(snapshotter))
        .map(Number)
        .sort((left, right) => left - right),
    strayDirectory: async (snapshotter, id) => {
      mkdirSync(join(path(snapshotter), String(id), 'fs/deep/er'), { recursive: true });
      writeFileSync(join(path(snapshotter), String(id), 'fs/deep/file'), 'left over');
    },
    loseDirectory: async (snapshotter, id) => rmSync(join(path(snapshotter), String(id)), { recursive: true }),
    close: async () => {
      for (const snapshotter of snapshotters.values()) snapshotter.close?.();
      await db.close();
      unmountRecursive(directory);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
