// The control groups of a container behind one interface, whatever the host has mounted. All calls but freeze and remove
// are quick file operations.

import { writeFileSync } from 'node:fs';
import { posix } from 'node:path';
import { unknown } from '../../proto/errors';
import { isPrivileged, runsInUserNamespace } from '../launcher/user-namespace';
import type { CgroupHierarchy } from '../plan/mounts';
import type { LinuxResources } from '../spec';
import { type HierarchyLayout, hostLayout, layoutOf } from './layout';
import { NoCgroup } from './none';
import { mayUseV1, mayUseV2 } from './rights';
import { groupOfUnit, type Unit } from './systemd-group';
import { CgroupV1 } from './v1';
import { CgroupV2 } from './v2';

/** Encoded io.containerd.cgroups.v1.Metrics or v2.Metrics, as the fields of an Any. */
export interface EncodedStats {
  readonly typeUrl: string;
  readonly value: Buffer;
}

export interface Cgroup {
  /** What load() needs to find it again: v1 hierarchy name (or "" for v2) to absolute directory. */
  readonly paths: Readonly<Record<string, string>>;
  /**
   * That a new container may have it: what exists of it holds no process and is not frozen. Everything in it would count
   * as the container's, and end with it.
   * @throws UNKNOWN in runc's words, with the path and the pids
   */
  checkVacant(): void;
  /** Makes the directories; those that exist are taken over. */
  create(): void | Promise<void>;
  /** @param update - of a running container: devices stay as they are */
  apply(resources: LinuxResources, update: boolean): void | Promise<void>;
  /** To be called when the container's first process is in it. */
  settled(): void;
  /** Files into which a process writes "0" to join. */
  joinFiles(): string[];
  /** A directory for CLONE_INTO_CGROUP, opened by the caller; undefined when joinFiles has to be used. */
  cloneDirectory(): string | undefined;
  /** Where in or below the group a process is, if it is there and cloneDirectory() is defined. */
  directoryOf(pid: number): string | undefined;
  /**
   * The same for further processes in groups below it, which have to exist.
   * @param places - controller ("name=systemd" for a hierarchy without), or "" for all, to a path in the group
   * @throws UNKNOWN in runc's words
   */
  below(places: ReadonlyMap<string, string>): Cgroup;
  mountView(): { version: 1; hierarchies: CgroupHierarchy[] } | { version: 2; path: string };
  freeze(): Promise<void>;
  thaw(): void;
  isFrozen(): boolean;
  /** With those of groups below. Empty when it does not exist. */
  pids(): number[];
  /** Signals every process, also those that fork meanwhile. */
  signalAll(signal: number): void;
  stats(): EncodedStats;
  oomCount(): number;
  /** Calls the listener whenever the group is out of memory, until the returned function is called. */
  watchOom(listener: () => void): () => void;
  /** Removes the directories and those below; retries for a while when the kernel is still busy with them. Idempotent. */
  remove(): Promise<void>;
}

export interface CgroupPlace {
  /** linux.cgroupsPath: absolute from the root of each hierarchy, else below the caller's own. */
  readonly cgroupsPath: string | undefined;
  /** Taken in its place when there is none. */
  readonly id: string;
  /** The path is "slice:prefix:name" and names a scope. */
  readonly systemd: boolean;
  /** Hierarchies, or the one, on which the caller has no rights are gone without, and so are device rules. */
  readonly rootless: boolean;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

/** @throws UNKNOWN when the host has no cgroups mounted, and for a path that is no more than a root */
export function openCgroup({ cgroupsPath, id, systemd, rootless, annotations }: CgroupPlace): Cgroup {
  if (!systemd && clean(cgroupsPath || id) === '/') {
    // The host's root group, or our own: what is done to all processes of a container would be done to all of these.
    throw unknown(`linux.cgroupsPath: "${cgroupsPath}" names no group of the container's own`);
  }
  if (rootless && !(systemd && isPrivileged())) return systemd ? new NoCgroup() : openPermitted(cgroupsPath || id);
  if (!systemd) return openPath(cgroupsPath || id);
  const path = systemdPath(cgroupsPath ?? '', id);
  return groupOfUnit(openPath(path), { ...unitOf(path), ...(annotations && { annotations }) });
}

function openPath(path: string): CgroupV1 | CgroupV2 {
  const layout = hostLayout();
  if (layout.version === 2) return new CgroupV2(directoryIn(layout, path));
  if (layout.hierarchies.length === 0) throw unknown('no cgroup mount found in mountinfo');
  return new CgroupV1(layout.hierarchies.map((hierarchy) => ({ ...hierarchy, path: directoryIn(hierarchy, path) })));
}

function openPermitted(path: string): Cgroup {
  const layout = hostLayout();
  if (layout.version === 2) {
    const directory = directoryIn(layout, path);
    const own = posix.join(layout.mountpoint, layout.own);
    return mayUseV2(directory, own) ? withoutDevices(new CgroupV2(directory)) : new NoCgroup();
  }
  const permitted = layout.hierarchies
    .map((hierarchy) => ({ ...hierarchy, path: directoryIn(hierarchy, path) }))
    .filter(({ path: directory }) => mayUseV1(directory));
  const hasDevices = permitted.some(({ options }) => options.includes('devices'));
  if (permitted.length === 0) return new NoCgroup();
  return withoutDevices(new CgroupV1(permitted), hasDevices);
}

/** Device rules are for root of the host to make; without, nodes cannot be made. */
function withoutDevices(group: CgroupV1 | CgroupV2, hasDevices = true): Cgroup {
  if (hasDevices && isPrivileged() && !runsInUserNamespace()) return group;
  const apply: Cgroup['apply'] = (resources) => group.apply(resources, true);
  return Object.assign(Object.create(group) as Cgroup, { apply });
}

function directoryIn({ mountpoint, own }: Pick<HierarchyLayout, 'mountpoint' | 'own'>, path: string): string {
  return posix.join(mountpoint, path.startsWith('/') ? '/' : own, clean(path));
}

/** The same from a saved state. */
export function reopenCgroup(paths: Readonly<Record<string, string>>, systemd: boolean): Cgroup {
  const group = reopenPaths(paths);
  const [path] = Object.values(paths);
  return systemd && path !== undefined ? groupOfUnit(group, unitOf(path)) : group;
}

function reopenPaths(paths: Readonly<Record<string, string>>): CgroupV1 | CgroupV2 {
  if (Object.keys(paths).length === 0) return new NoCgroup();
  const layout = hostLayout();
  const unified = paths[''];
  if (layout.version === 2 || unified !== undefined) return new CgroupV2(unified ?? '');
  return new CgroupV1(
    layout.hierarchies.flatMap((hierarchy) => {
      const path = paths[hierarchy.name];
      return path === undefined ? [] : [{ ...hierarchy, path }];
    }),
  );
}

/** The cgroup in which a process is; undefined when it is the caller's own, or there are no cgroups. @throws ENOENT */
export function cgroupOfProcess(pid: number): Cgroup | undefined {
  const own = hostLayout();
  const layout = layoutOf(pid);
  if (layout.version === 2) {
    if (own.version === 2 && own.own === layout.own) return undefined;
    return new CgroupV2(posix.join(layout.mountpoint, layout.own));
  }
  const foreign = layout.hierarchies.filter(
    ({ name, own: path }) =>
      own.version === 1 && own.hierarchies.every((mine) => mine.name !== name || mine.own !== path),
  );
  if (foreign.length === 0) return undefined;
  return new CgroupV1(
    foreign.map((hierarchy) => ({ ...hierarchy, path: posix.join(hierarchy.mountpoint, hierarchy.own) })),
  );
}

/** Moves a process into the cgroup of a path as in cgroupsPath, which is made if need be. */
export function joinCgroup(pid: number, path: string): void {
  const cgroup = openPath(path);
  cgroup.create();
  for (const directory of Object.values(cgroup.paths)) {
    writeFileSync(posix.join(directory, 'cgroup.procs'), String(pid));
  }
}

/** ".." never leads above the root of the hierarchy. */
function clean(path: string): string {
  return posix.normalize(`/${path}`);
}

/** "system.slice:docker:ID" is /system.slice/docker-ID.scope; "a-b.slice" lies in "a.slice". */
export function systemdPath(cgroupsPath: string, id: string): string {
  const [slice = '', prefix = '', name = ''] =
    cgroupsPath === '' ? ['system.slice', 'runc', id] : cgroupsPath.split(':');
  if (name === '')
    throw unknown(
      `expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "${cgroupsPath}" instead`,
    );
  const unit = name.endsWith('.slice') ? name : `${prefix === '' ? name : `${prefix}-${name}`}.scope`;
  if (unit.includes('/')) throw unknown(`invalid unit name: ${unit}`);
  return posix.join('/', expandSlice(slice === '' ? 'system.slice' : slice), unit);
}

function unitOf(path: string): Unit {
  const slice = posix.basename(posix.dirname(path));
  return { name: posix.basename(path), slice: slice.endsWith('.slice') ? slice : '-.slice' };
}

function expandSlice(slice: string): string {
  const base = slice.replace(/\.slice$/, '');
  if (base === '-') return '/';
  const parts = base.split('-');
  if (base === slice || slice.includes('/') || parts.includes('')) throw unknown(`invalid slice name: ${slice}`);
  return parts.map((_, index) => `${parts.slice(0, index + 1).join('-')}.slice`).join('/');
}
