// Driver btrfs: each snapshot is a subvolume, ROOT/snapshots/ID, one with a parent a btrfs snapshot of it, which takes
// no time and shares its blocks (btrfs-subvolume(8)). Mounts are bind mounts of the subvolume.

import { chmodSync, existsSync, statfsSync } from 'node:fs';
import type { Mount } from '../runtime-native/index';
import { treeUsage } from '../runtime-native/layers/tree';
import { SnapshotDirectories } from './directories';
import type { Driver, Layer } from './driver';
import { findProgram, runProgram } from './program';
import type { SnapshotUsage } from './snapshotter';

const BTRFS = 'btrfs';
/** statfs(2). */
const BTRFS_SUPER_MAGIC = 0x9123683e;
const LAYER_MODE = 0o755;

/** Why the driver cannot work in a directory; undefined when it can. */
export function btrfsObstacle(root: string): string | undefined {
  if (statfsSync(root).type !== BTRFS_SUPER_MAGIC) return `${root} is not on a btrfs file system`;
  return findProgram(BTRFS) === undefined ? `${BTRFS} is not installed (Debian package btrfs-progs)` : undefined;
}

export class BtrfsDriver implements Driver {
  readonly name = 'btrfs';
  readonly canRebase = false;
  readonly root: string;
  readonly #directories: SnapshotDirectories;

  constructor({ root }: { readonly root: string }) {
    this.root = root;
    this.#directories = new SnapshotDirectories(root);
  }

  async create({ id, kind, parents }: Layer): Promise<void> {
    const [nearest] = parents;
    if (kind === 'view' && nearest !== undefined) return;
    const path = this.#directories.path(id);
    if (existsSync(path)) await this.remove(id);
    if (nearest === undefined) {
      await subvolume('create', path);
      chmodSync(path, LAYER_MODE);
    } else await subvolume('snapshot', this.#directories.path(nearest), path);
  }

  async repair(layer: Layer): Promise<void> {
    if (!existsSync(this.#directories.path(layer.id))) await this.create(layer);
  }

  mounts({ id, kind, parents }: Layer): Mount[] {
    const isView = kind === 'view';
    const source = this.#directories.path(isView ? (parents[0] ?? id) : id);
    return [{ type: 'bind', source, target: '', options: ['rbind', isView ? 'ro' : 'rw'] }];
  }

  /** Bytes that no other snapshot shares, inodes of the whole tree. Data that is not written yet has no place to count. */
  async usage(id: number): Promise<SnapshotUsage> {
    await this.#directories.sync();
    const path = this.#directories.path(id);
    const table = await run(['filesystem', 'du', '-s', '--raw', path], `cannot measure snapshot ${id}`);
    // A head line, then total, exclusive, set shared, name.
    const exclusive = /^\s*\d+\s+(\d+)\s/m.exec(table)?.[1] ?? '0';
    const { inodes } = await treeUsage(path);
    return { sizeBytes: BigInt(exclusive), inodes };
  }

  /** Measuring syncs. */
  seal(id: number): Promise<SnapshotUsage> {
    return this.usage(id);
  }

  list(): Promise<number[]> {
    return this.#directories.list();
  }

  /** A container can make subvolumes of its own, with which the quick way fails. */
  async remove(id: number): Promise<void> {
    const path = this.#directories.path(id);
    if (!existsSync(path)) return;
    await subvolume('delete', path).catch(() => this.#directories.remove(id));
  }
}

async function subvolume(command: 'create' | 'snapshot' | 'delete', ...paths: string[]): Promise<void> {
  await run(['subvolume', command, ...paths], `cannot ${command} the subvolume ${paths.at(-1)}`);
}

function run(args: readonly string[], what: string): Promise<string> {
  return runProgram(findProgram(BTRFS) ?? BTRFS, args, what);
}
