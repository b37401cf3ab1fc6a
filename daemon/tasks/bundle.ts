// The bundle: the directory through which daemon, shim and runtime share what they need of one task (layout: shim v2
// protocol). It lives under the state directory, which a reboot empties; its work directory lives under the root
// directory. Calls are synchronous: a handful of tiny operations on tmpfs, quicker than a trip to the thread pool.

import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { alreadyExists, isErrno } from '../../proto/errors';
import type { TaskKey } from './task-store';

const TASKS_DIRECTORY = 'io.containerd.runtime.v2.task';

/** How to reach a shim: the content of bootstrap.json. version is that of the Task service, 2 or 3. */
export interface Bootstrap {
  readonly version: number;
  readonly address: string;
  readonly protocol: string;
}

export interface BundleDirectories {
  /** State and root directory of the daemon. */
  readonly state: string;
  readonly root: string;
}

export class Bundle {
  readonly key: TaskKey;
  readonly path: string;
  readonly workPath: string;

  constructor(directories: BundleDirectories, key: TaskKey) {
    this.key = key;
    this.path = join(directories.state, TASKS_DIRECTORY, key.namespace, key.id);
    this.workPath = join(directories.root, TASKS_DIRECTORY, key.namespace, key.id);
  }

  get rootfs(): string {
    return join(this.path, 'rootfs');
  }

  get logFifo(): string {
    return join(this.path, 'log');
  }

  /**
   * Creates the directories and config.json, whose bytes are `spec` unchanged.
   * @throws ALREADY_EXISTS when the bundle is there. Leaves nothing behind when it throws.
   */
  create(spec: Uint8Array): void {
    mkdirSync(join(this.path, '..'), { recursive: true, mode: 0o711 });
    mkdirSync(join(this.workPath, '..'), { recursive: true, mode: 0o711 });
    try {
      mkdirSync(this.path, { mode: 0o700 });
    } catch (error) {
      if (isErrno(error, 'EEXIST')) throw alreadyExists(`bundle ${this.path}`, { cause: error });
      throw error;
    }
    try {
      this.shareWithUserNamespace(spec);
      mkdirSync(this.rootfs, { mode: 0o711 });
      rmSync(this.workPath, { recursive: true, force: true });
      mkdirSync(this.workPath, { mode: 0o711 });
      symlinkSync(this.workPath, join(this.path, 'work'));
      writeFileSync(join(this.path, 'config.json'), spec, { mode: 0o600 });
    } catch (error) {
      rmSync(this.path, { recursive: true, force: true });
      rmSync(this.workPath, { recursive: true, force: true });
      throw error;
    }
  }

  writeShimPath(path: string): void {
    writeFileSync(join(this.path, 'shim-binary-path'), path, { mode: 0o600 });
  }

  writeBootstrap(bootstrap: Bootstrap): void {
    writeFileSync(join(this.path, 'bootstrap.json'), JSON.stringify(bootstrap), { mode: 0o644 });
  }

  shimPath(): string | undefined {
    return readText(join(this.path, 'shim-binary-path'));
  }

  /** Pid of gantry's own shim as it wrote it; 0 where it did not. */
  shimPid(): number {
    return Number(readText(join(this.path, 'shim.pid')) ?? 0) || 0;
  }

  /** Reads bootstrap.json, else the address file of older shims. */
  bootstrap(): Bootstrap | undefined {
    const json = readText(join(this.path, 'bootstrap.json'));
    if (json !== undefined) {
      try {
        return JSON.parse(json) as Bootstrap;
      } catch {
        return undefined;
      }
    }
    const address = readText(join(this.path, 'address'));
    return address === undefined ? undefined : { version: 2, address, protocol: 'ttrpc' };
  }

  exists(): boolean {
    return statSync(this.path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  }

  /**
   * Removes bundle and work directory; idempotent. The bundle disappears at once under its name, so that a new task can
   * take the id while the files are being removed. The caller has unmounted everything in it.
   */
  async remove(): Promise<void> {
    const work = this.linkedWorkPath();
    this.hide();
    await Promise.all([this.hiddenPath, work].map((path) => rm(path, { recursive: true, force: true })));
  }

  /** True for a working directory, as /proc tells it, that is or was this bundle: a removed one is known by its hidden name. */
  isAt(directory: string): boolean {
    return [this.path, this.hiddenPath, `${this.hiddenPath} (deleted)`].includes(directory);
  }

  /** Over a hidden one that an interrupted removal left, if need be. */
  private hide(): void {
    try {
      renameSync(this.path, this.hiddenPath);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return;
      if (!isErrno(error, 'ENOTEMPTY', 'EEXIST')) throw error;
      rmSync(this.hiddenPath, { recursive: true, force: true });
      renameSync(this.path, this.hiddenPath);
    }
  }

  private get hiddenPath(): string {
    return join(this.path, '..', `.${this.key.id}`);
  }

  private linkedWorkPath(): string {
    try {
      return readlinkSync(join(this.path, 'work'));
    } catch {
      return this.workPath;
    }
  }

  /** Lets the root user of the container's user namespace enter the bundle, as containerd does. */
  private shareWithUserNamespace(spec: Uint8Array): void {
    const gid = mappedRootGid(spec);
    if (gid === 0) return;
    chownSync(this.path, -1, gid);
    chmodSync(this.path, 0o710);
  }
}

/** All bundles, and the paths of hidden ones that an interrupted removal left behind. */
export function scanBundles(directories: BundleDirectories): { bundles: Bundle[]; hidden: string[] } {
  const base = join(directories.state, TASKS_DIRECTORY);
  const bundles: Bundle[] = [];
  const hidden: string[] = [];
  for (const namespace of directoryNames(base)) {
    for (const id of directoryNames(join(base, namespace))) {
      if (id.startsWith('.')) hidden.push(join(base, namespace, id));
      else bundles.push(new Bundle(directories, { namespace, id }));
    }
  }
  return { bundles, hidden };
}

/** True for a working directory, as /proc tells it, that was a bundle. */
export function isRemovedBundle(state: string, directory: string): boolean {
  return directory.startsWith(`${join(state, TASKS_DIRECTORY)}/`) && directory.endsWith(' (deleted)');
}

/** All work directories below the root directory. */
export function workPaths(directories: BundleDirectories): { key: TaskKey; path: string }[] {
  const base = join(directories.root, TASKS_DIRECTORY);
  return directoryNames(base).flatMap((namespace) =>
    directoryNames(join(base, namespace)).map((id) => ({ key: { namespace, id }, path: join(base, namespace, id) })),
  );
}

function directoryNames(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

interface IdMapping {
  readonly containerID?: number;
  readonly hostID?: number;
  readonly size?: number;
}

/** Host gid of the container's gid 0; 0 without a user namespace, and for a spec that is not JSON (the shim rejects it). */
function mappedRootGid(spec: Uint8Array): number {
  try {
    const document = JSON.parse(Buffer.from(spec).toString('utf8')) as { linux?: { gidMappings?: IdMapping[] } };
    const mapping = document.linux?.gidMappings?.find(({ containerID = 0, size = 0 }) => containerID === 0 && size > 0);
    return mapping?.hostID ?? 0;
  } catch {
    return 0;
  }
}
