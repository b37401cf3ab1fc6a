// Driver erofs: a committed layer is one file, ROOT/snapshots/ID/layer.erofs, an EROFS image (kernel doc,
// filesystems/erofs.rst) that is built when the layer is committed and mounted at ID/layer when it is first needed.
// Everything above is overlayfs, so any client can mount what it gets. An active snapshot is as that of overlayfs.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { messageOf, unknown } from '../proto/errors';
import { type Mount, mountAll, unmountRecursive } from '../runtime-native/index';
import { removeTree } from '../runtime-native/layers/tree';
import { SnapshotDirectories } from './directories';
import type { Driver, Layer } from './driver';
import { isInUserNamespace, OverlayfsDriver } from './overlayfs';
import { findProgram, runProgram } from './program';
import type { SnapshotUsage } from './snapshotter';

export interface ErofsOptions {
  readonly root: string;
  /** Added to every overlay mount. */
  readonly mountOptions?: readonly string[];
  /** Added to mkfs.erofs (mkfs.erofs(1)). */
  readonly mkfsOptions?: readonly string[];
}

const MKFS = 'mkfs.erofs';
const IMAGE = 'layer.erofs';
const MOUNT_POINT = 'layer';
const MOUNT_POINT_MODE = 0o755;
const BLOCK_BYTES = 512n;

/** Why the driver cannot work on this machine; undefined when it can. */
export function erofsObstacle(): string | undefined {
  if (!/^\s*erofs$/m.test(readFileSync('/proc/filesystems', 'utf8'))) {
    return 'the kernel has no EROFS, or its module is not loaded (modprobe erofs)';
  }
  if (findProgram(MKFS) === undefined) return `${MKFS} is not installed (Debian package erofs-utils)`;
  return isInUserNamespace() ? 'EROFS images cannot be mounted in a user namespace' : undefined;
}

export class ErofsDriver implements Driver {
  readonly name = 'erofs';
  readonly canRebase = true;
  readonly root: string;
  readonly #directories: SnapshotDirectories;
  readonly #overlay: OverlayfsDriver;
  readonly #mkfsOptions: readonly string[];

  constructor({ root, mountOptions = [], mkfsOptions = [] }: ErofsOptions) {
    this.root = root;
    this.#directories = new SnapshotDirectories(root);
    this.#overlay = new OverlayfsDriver({ root, mountOptions, committedPath: (id) => this.#mounted(id) });
    this.#mkfsOptions = mkfsOptions;
  }

  create(layer: Layer): Promise<void> {
    return this.#overlay.create(layer);
  }

  repair(layer: Layer): Promise<void> {
    return this.#overlay.repair(layer);
  }

  mounts(layer: Layer): Mount[] {
    return this.#overlay.mounts(layer);
  }

  async usage(id: number): Promise<SnapshotUsage> {
    const image = this.#directories.path(id, IMAGE);
    const isSettled = existsSync(image) && !existsSync(this.#directories.path(id, 'fs'));
    return isSettled ? { sizeBytes: sizeOf(image), inodes: 1n } : this.#overlay.usage(id);
  }

  /** What an earlier, failed commit has built is built again: the files may have changed. */
  async seal(id: number): Promise<SnapshotUsage> {
    const { inodes } = await this.usage(id);
    const image = this.#directories.path(id, IMAGE);
    const mountPoint = this.#directories.path(id, MOUNT_POINT);
    if (existsSync(mountPoint)) unmountRecursive(mountPoint);
    else mkdirSync(mountPoint, { mode: MOUNT_POINT_MODE });
    rmSync(image, { force: true });
    const args = ['--quiet', ...this.#mkfsOptions, image, this.#directories.path(id, 'fs')];
    await runProgram(findProgram(MKFS) ?? MKFS, args, `cannot build the EROFS image of layer ${id}`);
    await this.#directories.sync();
    return { sizeBytes: sizeOf(image), inodes };
  }

  /** The files are in the image now. */
  async settle(id: number): Promise<void> {
    for (const name of ['fs', 'work']) {
      const path = this.#directories.path(id, name);
      if (existsSync(path)) await removeTree(path);
    }
  }

  list(): Promise<number[]> {
    return this.#directories.list();
  }

  async remove(id: number): Promise<void> {
    unmountRecursive(this.#directories.path(id, MOUNT_POINT));
    await this.#directories.remove(id);
  }

  /** The mount point of a layer, mounted: after a reboot nothing is, and an administrator may have unmounted it. */
  #mounted(id: number): string {
    const path = this.#directories.path(id, MOUNT_POINT);
    if (statSync(path).dev === statSync(this.#directories.path(id)).dev) {
      mountImage(this.#directories.path(id, IMAGE), path);
    }
    return path;
  }
}

/** On disk, in bytes. */
function sizeOf(file: string): bigint {
  return BigInt(statSync(file).blocks) * BLOCK_BYTES;
}

/** Linux mounts the file itself since 6.12; before, and where that is not built in, mount(8) makes a loop device. */
function mountImage(image: string, path: string): void {
  try {
    mountAll([{ type: 'erofs', source: image, target: '', options: ['ro'] }], path);
  } catch (error) {
    if ((error as { cause?: { code?: string } }).cause?.code !== 'ENOTBLK') throw error;
    mountThroughLoop(image, path);
  }
}

/** The loop device goes when the image is unmounted. @throws UNKNOWN */
export function mountThroughLoop(image: string, path: string): void {
  try {
    execFileSync('mount', ['-t', 'erofs', '-o', 'ro,loop', image, path], { stdio: 'pipe' });
  } catch (error) {
    throw unknown(`failed to mount erofs "${image}" on ${path}: ${messageOf(error)}`, { cause: error });
  }
}
