// How cgroups are mounted on this host and where in them the calling process is.

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

export interface HierarchyLayout {
  /** Last component of the mount point. */
  readonly name: string;
  readonly mountpoint: string;
  /** Controllers, or "name=systemd". */
  readonly options: readonly string[];
  /** Path of the calling process in it. */
  readonly own: string;
}

export type HostLayout =
  | { readonly version: 1; readonly hierarchies: readonly HierarchyLayout[] }
  | { readonly version: 2; readonly mountpoint: string; readonly own: string };

export const CGROUP_ROOT = '/sys/fs/cgroup';
const MOUNT_FLAGS = new Set(['rw', 'ro', 'xattr', 'noprefix', 'clone_children', 'cpuset_v2_mode', 'nsdelegate']);

let layout: HostLayout | undefined;

/** Read once per process: hosts do not change this while they run. */
export function hostLayout(): HostLayout {
  layout ??= layoutOf('self');
  return layout;
}

/** The same with the place of another process. @throws ENOENT when there is none */
export function layoutOf(pid: number | 'self'): HostLayout {
  return parseLayout(readFileSync('/proc/self/mountinfo', 'utf8'), readFileSync(`/proc/${pid}/cgroup`, 'utf8'));
}

/** v2 only when it is what /sys/fs/cgroup itself is; next to v1 (hybrid) it has no controllers. */
export function parseLayout(mountinfo: string, ownCgroups: string): HostLayout {
  const hierarchies: HierarchyLayout[] = [];
  const own = parseOwn(ownCgroups);
  for (const line of mountinfo.split('\n')) {
    const [left = '', right = ''] = line.split(' - ');
    const [, , , root = '/', mountpoint = ''] = left.split(' ');
    const [type, , superOptions = ''] = right.split(' ');
    if (type === 'cgroup2' && mountpoint === CGROUP_ROOT) {
      return { version: 2, mountpoint, own: below(root, own.get('') ?? '/') };
    }
    if (type !== 'cgroup' || !mountpoint.startsWith(`${CGROUP_ROOT}/`)) continue;
    const options = superOptions
      .split(',')
      .filter((option) => !MOUNT_FLAGS.has(option) && !option.startsWith('release_agent='));
    const path = options.map((option) => own.get(option)).find((candidate) => candidate !== undefined) ?? '/';
    hierarchies.push({ name: basename(mountpoint), mountpoint, options, own: below(root, path) });
  }
  return { version: 1, hierarchies };
}

/** Controller, "name=X" or "" to path. */
function parseOwn(text: string): Map<string, string> {
  const own = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, controllers, ...path] = line.split(':');
    if (controllers === undefined) continue;
    for (const controller of controllers.split(',')) own.set(controller, path.join(':'));
  }
  return own;
}

/** A bind mount shows a hierarchy from root on. */
function below(root: string, path: string): string {
  if (root === '/' || !path.startsWith(root)) return path;
  return path.slice(root.length) || '/';
}
