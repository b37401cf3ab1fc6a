// The local snapshotters that the contract suite runs on, and what each needs of the machine.

import { execFileSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { needsFile } from '../setup/needs';

export interface SnapshotterCase {
  readonly snapshotter: string;
  readonly canRebase: boolean;
  /** What the machine lacks for it. */
  readonly missing: string | undefined;
  /** Mounts the file system that it needs on a directory. */
  readonly mountRoot?: (root: string) => void;
}

/** mkfs.btrfs wants 109 MiB at least. The file has holes. */
const BTRFS_BYTES = 256 << 20;

export const SNAPSHOTTERS: readonly SnapshotterCase[] = [
  { snapshotter: 'overlayfs', canRebase: true, missing: undefined },
  { snapshotter: 'native', canRebase: false, missing: undefined },
  {
    snapshotter: 'erofs',
    canRebase: true,
    missing: needsKernelFileSystem('erofs') ?? needsFile('/usr/bin/mkfs.erofs', 'Debian package erofs-utils'),
  },
  {
    snapshotter: 'btrfs',
    canRebase: false,
    missing: needsKernelFileSystem('btrfs') ?? needsFile('/usr/bin/btrfs', 'Debian package btrfs-progs'),
    mountRoot: (root) => mountBtrfs(root),
  },
];

export function needsKernelFileSystem(name: string): string | undefined {
  const names = readFileSync('/proc/filesystems', 'utf8').split(/\s+/);
  return names.includes(name) ? undefined : `needs ${name} in the kernel`;
}

/** A file system of its own on a loop device, which goes when it is unmounted. */
export function mountBtrfs(root: string, bytes = BTRFS_BYTES): void {
  const image = `${root}.btrfs`;
  writeFileSync(image, '');
  truncateSync(image, bytes);
  execFileSync('mkfs.btrfs', ['-q', image]);
  execFileSync('mount', ['-o', 'loop', image, root]);
}
