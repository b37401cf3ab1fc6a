// The table of snapshotters. Adding a local one is a driver and one line here.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Driver } from './driver';
import { LocalSnapshotter } from './local';
import { NativeDriver } from './native';
import { OverlayfsDriver } from './overlayfs';
import { type RecordDatabase, SnapshotIds } from './records';
import type { Snapshotter } from './snapshotter';

export interface SnapshottersOptions {
  /** The daemon's root directory. */
  readonly root: string;
  readonly db: RecordDatabase;
  readonly overlayfs: { readonly mountOptions: readonly string[] };
}

const PRIVATE_MODE = 0o700;

/** All snapshotters by name. @throws when a directory cannot be made */
export async function openSnapshotters({
  root,
  db,
  overlayfs,
}: SnapshottersOptions): Promise<Map<string, Snapshotter>> {
  const directory = (name: string) => {
    const path = join(root, `io.containerd.snapshotter.v1.${name}`);
    mkdirSync(path, { recursive: true, mode: PRIVATE_MODE });
    return path;
  };
  const drivers: Driver[] = [
    new OverlayfsDriver({ root: directory('overlayfs'), mountOptions: overlayfs.mountOptions }),
    new NativeDriver({ root: directory('native') }),
  ];
  const ids = new SnapshotIds(db);
  const snapshotters = new Map<string, Snapshotter>();
  for (const driver of drivers) snapshotters.set(driver.name, await LocalSnapshotter.open(driver, db, ids));
  return snapshotters;
}
