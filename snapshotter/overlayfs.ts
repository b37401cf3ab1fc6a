// Driver overlayfs: each snapshot is one layer, ROOT/snapshots/ID/fs, and a work directory beside it; the kernel stacks
// them (kernel doc, filesystems/overlayfs.rst). Options are in the order of containerd 1.6 and 1.7, index=off first:
// most installed clients print or compare those.

import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import type { Mount } from '../runtime-native/index';
import { treeUsage } from '../runtime-native/layers/tree';
import { SnapshotDirectories } from './directories';
import type { Driver, Layer } from './driver';
import type { SnapshotUsage } from './snapshotter';

export interface OverlayfsOptions {
  readonly root: string;
  /** Added to every overlay mount, before the options of the snapshot. */
  readonly mountOptions?: readonly string[];
  /** Where the files of a committed snapshot are; ROOT/snapshots/ID/fs unless given. @throws ENOENT */
  readonly committedPath?: (id: number) => string;
}

const LAYER_MODE = 0o755;
const WORK_MODE = 0o711;
const PRIVATE_MODE = 0o700;
/** Present when the kernel can index; layers of one snapshot are mounted in several places, which index forbids. */
const INDEX_PARAMETER = '/sys/module/overlay/parameters/index';
/** What /proc/self/uid_map says outside of any user namespace. */
const ALL_IDS = 4294967295;

export class OverlayfsDriver implements Driver {
  readonly name = 'overlayfs';
  readonly canRebase: boolean;
  readonly root: string;
  readonly #directories: SnapshotDirectories;
  readonly #options: readonly string[];
  readonly #committedPath: (id: number) => string;

  constructor({ root, mountOptions = [], committedPath }: OverlayfsOptions) {
    this.root = root;
    this.#directories = new SnapshotDirectories(root);
    this.#committedPath = committedPath ?? ((id) => this.#layerPath(id));
    this.#options = [
      ...mountOptions,
      ...(isInUserNamespace() && !mountOptions.includes('userxattr') ? ['userxattr'] : []),
      ...(existsSync(INDEX_PARAMETER) && !mountOptions.some(isIndexOption) ? ['index=off'] : []),
    ];
    // Whoever fills a snapshot without a parent writes whiteouts as devices, which are not read then.
    this.canRebase = !this.#options.includes('userxattr');
  }

  async create(layer: Layer): Promise<void> {
    if (!hasData(layer)) return;
    await this.#directories.make(layer.id, PRIVATE_MODE);
    this.#fill(layer);
  }

  /** A lost layer comes back empty: its data was not on disk either, as with any file system after a power cut. */
  async repair(layer: Layer): Promise<void> {
    if (!hasData(layer)) return;
    mkdirSync(this.#directories.path(layer.id), { recursive: true, mode: PRIVATE_MODE });
    this.#fill(layer);
  }

  mounts(layer: Layer): Mount[] {
    const [nearest] = layer.parents;
    const isView = layer.kind === 'view';
    if (nearest === undefined || (isView && layer.parents.length === 1)) {
      const source = nearest === undefined ? this.#layerPath(layer.id) : this.#committedPath(nearest);
      return [{ type: 'bind', source, target: '', options: [isView ? 'ro' : 'rw', 'rbind'] }];
    }
    const writable = isView
      ? []
      : [`workdir=${this.#directories.path(layer.id, 'work')}`, `upperdir=${this.#layerPath(layer.id)}`];
    const lower = `lowerdir=${layer.parents.map((id) => this.#committedPath(id)).join(':')}`;
    return [{ type: 'overlay', source: 'overlay', target: '', options: [...this.#options, ...writable, lower] }];
  }

  usage(id: number): Promise<SnapshotUsage> {
    return treeUsage(this.#layerPath(id));
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

  #layerPath(id: number): string {
    return this.#directories.path(id, 'fs');
  }

  /** The root directory belongs to whom the parent's belongs to. */
  #fill({ id, kind, parents }: Layer): void {
    const path = this.#layerPath(id);
    if (!existsSync(path)) {
      makeDirectory(path, LAYER_MODE);
      if (parents[0] !== undefined) {
        const { uid, gid } = statSync(this.#committedPath(parents[0]));
        chownSync(path, uid, gid);
      }
    }
    const work = this.#directories.path(id, 'work');
    if (kind === 'active' && !existsSync(work)) makeDirectory(work, WORK_MODE);
  }
}

/** A view with parents shows only theirs. */
function hasData({ kind, parents }: Layer): boolean {
  return kind === 'active' || parents.length === 0;
}

/** The mode does not depend on the umask. */
function makeDirectory(path: string, mode: number): void {
  mkdirSync(path, { mode });
  chmodSync(path, mode);
}

function isIndexOption(option: string): boolean {
  return option.startsWith('index=');
}

/** In a user namespace overlayfs keeps its own attributes under user.*, where the kernel lets it write them. */
export function isInUserNamespace(uidMap = readFileSync('/proc/self/uid_map', 'utf8')): boolean {
  const [inside, outside, count] = uidMap.trim().split(/\s+/).map(Number);
  return !(inside === 0 && outside === 0 && count === ALL_IDS);
}
