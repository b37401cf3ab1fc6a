// The last net under a container that was being made when its shim or the daemon died: a runtime that had no time to
// write its state leaves cgroups, perhaps with a half-made init in them, which its `delete` cannot find any more.

import { readdirSync, readFileSync, rmdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno } from '../../proto/errors';
import type { Bundle } from './bundle';

const CGROUP_ROOT = '/sys/fs/cgroup';
const REMOVE_TIMEOUT_MS = 2000;
const POLL_MS = 10;

/**
 * Kills what is in the container's cgroups and removes them. Only cgroups that are named after the task are touched.
 * Does nothing when there are none, which is the usual case.
 */
export async function removeCgroups(bundle: Bundle): Promise<void> {
  const path = cgroupsPathOf(bundle);
  if (path === undefined) return;
  const deadline = Date.now() + REMOVE_TIMEOUT_MS;
  let left = cgroupsAt(path);
  while (left.length > 0 && Date.now() < deadline) {
    for (const cgroup of left) killAll(cgroup);
    left = left.filter((cgroup) => !removeTree(cgroup));
    if (left.length > 0) await sleep(POLL_MS);
  }
  if (left.length > 0) throw new Error(`cgroups ${left.join(', ')} are busy`);
}

/** linux.cgroupsPath of the bundle's config, where it is a plain path that ends with the task's id. */
function cgroupsPathOf(bundle: Bundle): string | undefined {
  try {
    const config = JSON.parse(readFileSync(join(bundle.path, 'config.json'), 'utf8')) as {
      linux?: { cgroupsPath?: string };
    };
    const path = config.linux?.cgroupsPath;
    const isPlain = path !== undefined && !path.includes('..') && basename(path) === bundle.key.id;
    return isPlain ? path : undefined;
  } catch {
    return undefined;
  }
}

/** The cgroup in every hierarchy that has it: one on cgroup v2, one per controller on v1. */
function cgroupsAt(path: string): string[] {
  const hierarchies = ['.', ...readdirSync(CGROUP_ROOT)];
  return hierarchies.map((name) => join(CGROUP_ROOT, name, path)).filter(isCgroup);
}

const isCgroup = (path: string) => statSync(join(path, 'cgroup.procs'), { throwIfNoEntry: false }) !== undefined;

function killAll(cgroup: string): void {
  try {
    for (const pid of readFileSync(join(cgroup, 'cgroup.procs'), 'utf8').split('\n').map(Number)) {
      if (pid > 1) process.kill(pid, 'SIGKILL');
    }
  } catch (error) {
    if (!isErrno(error, 'ESRCH', 'ENOENT', 'ENODEV')) throw error;
  }
}

/** @returns false while a process keeps it. */
function removeTree(cgroup: string): boolean {
  try {
    for (const entry of readdirSync(cgroup, { withFileTypes: true })) {
      if (entry.isDirectory() && !removeTree(join(cgroup, entry.name))) return false;
    }
    rmdirSync(cgroup);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return true;
    if (isErrno(error, 'EBUSY')) return false;
    throw error;
  }
}
