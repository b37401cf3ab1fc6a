// Driver native: plain directories, ROOT/snapshots/ID; a snapshot with a parent is a full copy of it. Slow and large, but
// works on any file system and in any nesting.

import { chmodSync, existsSync } from 'node:fs';
import type { Mount } from '../runtime-native/index';
import { copyTree, treeUsage } from '../runtime-native/layers/tree';
import { SnapshotDirectories } from './directories';
import type { Driver, Layer } from './driver';
import type { SnapshotUsage } from './snapshotter';

const LAYER_MODE = 0o755;

export class NativeDriver implements Driver {
  readonly name = 'native';
  readonly canRebase = false;
  readonly root: string;
  readonly #directories: SnapshotDirectories;

  constructor({ root }: { readonly root: string }) {
    this.root = root;
    this.#directories = new SnapshotDirectories(root);
  }

  /** The copy is on disk before it counts: half of a root file system is worse than none. */
  async create({ id, kind, parents }: Layer): Promise<void> {
    const [nearest] = parents;
    if (kind === 'view' && nearest !== undefined) return;
    const path = await this.#directories.make(id, LAYER_MODE);
    chmodSync(path, LAYER_MODE);
    if (nearest === undefined) return;
    await copyTree(this.#directories.path(nearest), path);
    await this.#directories.sync();
  }

  async repair(layer: Layer): Promise<void> {
    if (!existsSync(this.#directories.path(layer.id))) await this.create(layer);
  }

  mounts({ id, kind, parents }: Layer): Mount[] {
    const isView = kind === 'view';
    const source = this.#directories.path(isView ? (parents[0] ?? id) : id);
    return [{ type: 'bind', source, target: '', options: ['rbind', isView ? 'ro' : 'rw'] }];
  }

  usage(id: number): Promise<SnapshotUsage> {
    return treeUsage(this.#directories.path(id));
  }

  async seal(id: number): Promise<SnapshotUsage> {
    const [usage] = await Promise.all([this.usage(id), this.#directories.sync()]);
    return usage;
  }

  list(): Promise<number[]> {
    return this.#directories.list();
  }

  remove(id: number): Promise<void> {
    return this.#directories.remove(id);
  }
}
