// Looks on the machine for what containers leave behind (processes, cgroups, mounts), and removes it. Everything is found
// by a name that only one test daemon uses: its socket, its namespace or its folder.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { isErrno } from '../../proto/errors';
import { waitFor } from './command';

/** Folder of bundles in the state directory, of gantryd as of containerd. */
const BUNDLES = 'io.containerd.runtime.v2.task/';
const CGROUP_ROOT = '/sys/fs/cgroup';

export interface FoundProcess {
  readonly pid: number;
  readonly commandLine: string;
  /** Its working directory. */
  readonly directory: string;
}

/** Running processes of a daemon: those that name its socket, and shims, which work in a bundle. */
export function processesOf(daemon: { address: string; state: string }): FoundProcess[] {
  const bundles = path.join(daemon.state, BUNDLES);
  const found: FoundProcess[] = [];
  for (const entry of fs.readdirSync('/proc')) {
    const words = /^\d+$/.test(entry) ? readIfThere(`/proc/${entry}/cmdline`)?.split('\0') : undefined;
    if (words === undefined) continue;
    const directory = workingDirectory(entry);
    if (words.includes(daemon.address) || directory.startsWith(bundles)) {
      found.push({ pid: Number(entry), commandLine: words.join(' ').trim(), directory });
    }
  }
  return found;
}

/** Pid of the shim that works in a bundle; undefined when there is none. */
export function shimIn(bundle: string): number | undefined {
  const pid = fs.readdirSync('/proc').find((entry) => /^\d+$/.test(entry) && workingDirectory(entry) === bundle);
  return pid === undefined ? undefined : Number(pid);
}

/** Kills a process with SIGKILL. It may be gone already. */
export function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) {
      throw error;
    }
  }
}

/** Cgroup folders of all hierarchies below top-level cgroups whose name begins with `namespace`, outermost first. */
export function cgroupsOf(namespace: string): string[] {
  const found: string[] = [];
  for (const top of [CGROUP_ROOT, ...foldersIn(CGROUP_ROOT)]) {
    for (const folder of foldersIn(top)) {
      if (path.basename(folder).startsWith(namespace)) {
        found.push(folder, ...foldersBelow(folder));
      }
    }
  }
  // Controllers mounted together appear under several names that are links to one folder.
  return [...new Set(found.flatMap(realPathIfThere))];
}

function realPathIfThere(file: string): string[] {
  try {
    return [fs.realpathSync(file)];
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/** Kills every process in the cgroups of a namespace, frozen ones too. */
export function killCgroups(namespace: string): void {
  for (const cgroup of cgroupsOf(namespace)) {
    for (const pid of (readIfThere(path.join(cgroup, 'cgroup.procs')) ?? '').split('\n').filter(Boolean)) {
      killIfThere(Number(pid));
    }
    const freezer = path.join(cgroup, 'freezer.state');
    try {
      if (fs.existsSync(freezer)) {
        fs.writeFileSync(freezer, 'THAWED');
      }
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENODEV')) throw error; // It has gone meanwhile.
    }
  }
}

/** Removes the cgroups of a namespace; their processes must be dead or dying. */
export async function removeCgroups(namespace: string): Promise<void> {
  await waitFor(`removal of the cgroups of ${namespace}`, () => {
    for (const cgroup of cgroupsOf(namespace).reverse()) {
      try {
        fs.rmdirSync(cgroup);
      } catch (error) {
        if (!isErrno(error, 'EBUSY', 'ENOENT')) {
          throw error;
        }
      }
    }
    return cgroupsOf(namespace).length === 0;
  });
}

/** False while something in it comes to its end. */
export function tryRemoveCgroup(cgroup: string): boolean {
  try {
    fs.rmdirSync(cgroup);
    return true;
  } catch {
    return !fs.existsSync(cgroup);
  }
}

/** Waits for what still ends in it: the zygote of a daemon that was killed goes on until it has rehearsed. */
export async function removeFolder(directory: string): Promise<void> {
  let failure: unknown;
  const isRemoved = () => {
    try {
      fs.rmSync(directory, { recursive: true, force: true });
      return true;
    } catch (error) {
      failure = error;
      return false;
    }
  };
  await waitFor(`removal of ${directory}`, isRemoved).catch(() => {
    throw failure;
  });
}

/** Mount points in or at a folder, innermost last. */
export function mountsBelow(directory: string): string[] {
  return fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => point === directory || point.startsWith(`${directory}/`));
}

export function unmountBelow(directory: string): void {
  for (const point of mountsBelow(directory).reverse()) {
    spawnSync('umount', ['-l', point]);
  }
}

/** Paths of the folders in one that may not be there. */
export function foldersIn(directory: string): string[] {
  try {
    return fs
      .readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => path.join(directory, entry.name));
  } catch (error) {
    // Cgroups of other tests come and go at any time.
    if (isErrno(error, 'ENOENT', 'ENODEV')) {
      return [];
    }
    throw error;
  }
}

function foldersBelow(directory: string): string[] {
  return foldersIn(directory).flatMap((folder) => [folder, ...foldersBelow(folder)]);
}

/** Empty for a process that is gone, and for one that must not be looked at. */
function workingDirectory(pid: string): string {
  try {
    return fs.readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return '';
  }
}

function readIfThere(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH', 'ENODEV')) {
      return undefined;
    }
    throw error;
  }
}
