// The table of snapshotters. Adding a local one is a driver and one line here.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { BtrfsDriver, btrfsObstacle } from './btrfs';
import type { Driver } from './driver';
import { ErofsDriver, erofsObstacle } from './erofs';
import { LocalSnapshotter } from './local';
import { NativeDriver } from './native';
import { OverlayfsDriver } from './overlayfs';
import { type ProxyOptions, ProxySnapshotter } from './proxy';
import { type RecordDatabase, SnapshotIds } from './records';
import type { Snapshotter } from './snapshotter';

export interface SnapshottersOptions {
  /** The daemon's root directory. */
  readonly root: string;
  readonly db: RecordDatabase;
  readonly overlayfs: { readonly mountOptions: readonly string[] };
  readonly erofs?: { readonly mountOptions: readonly string[]; readonly mkfsOptions: readonly string[] };
  readonly proxies?: readonly ProxyOptions[];
  /** Told of each that cannot work here, and why. */
  readonly onSkipped?: (name: string, reason: string) => void;
}

interface Entry {
  readonly name: string;
  readonly obstacle?: (root: string) => string | undefined;
  readonly open: (root: string) => Driver;
}

/** Clients know these from containerd, and are told. */
const NOT_YET = ['devmapper', 'zfs'];
/** Names that no proxy plug-in can have. */
export const OWN_NAMES: readonly string[] = ['overlayfs', 'native', 'erofs', 'btrfs', ...NOT_YET];
const PRIVATE_MODE = 0o700;

/** All snapshotters that work here, by name; close() those that have it. @throws when a directory cannot be made */
export async function openSnapshotters(options: SnapshottersOptions): Promise<Map<string, Snapshotter>> {
  const { root, db, onSkipped = () => {} } = options;
  const ids = new SnapshotIds(db);
  const snapshotters = new Map<string, Snapshotter>();
  for (const { name, obstacle, open } of drivers(options)) {
    const path = join(root, `io.containerd.snapshotter.v1.${name}`);
    mkdirSync(path, { recursive: true, mode: PRIVATE_MODE });
    const reason = obstacle?.(path);
    if (reason === undefined) snapshotters.set(name, await LocalSnapshotter.open(open(path), db, ids));
    else onSkipped(name, reason);
  }
  for (const proxy of options.proxies ?? []) snapshotters.set(proxy.name, new ProxySnapshotter(proxy, db, ids));
  for (const name of NOT_YET) onSkipped(name, 'gantry does not have this snapshotter');
  return snapshotters;
}

function drivers({ overlayfs, erofs }: SnapshottersOptions): Entry[] {
  return [
    { name: 'overlayfs', open: (root) => new OverlayfsDriver({ root, mountOptions: overlayfs.mountOptions }) },
    { name: 'native', open: (root) => new NativeDriver({ root }) },
    { name: 'erofs', obstacle: erofsObstacle, open: (root) => new ErofsDriver({ root, ...erofs }) },
    { name: 'btrfs', obstacle: btrfsObstacle, open: (root) => new BtrfsDriver({ root }) },
  ];
}
