// Groups that root hands to an ordinary user, as systemd does for a session: in every hierarchy of v1, or one of v2 with
// a place in it for the user's own processes.

import { chownSync, existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hostLayout } from '../../runtime-native/cgroup/layout';

const CPUSET = ['cpuset.cpus', 'cpuset.mems'];
const CONTROLLERS = '+pids +memory';
const layout = hostLayout();

export class DelegatedGroup {
  /** Where a process of the user has to go first; empty on v1, where it need not. */
  readonly joinFile: string;
  readonly #name: string;
  readonly #directories: readonly string[];

  constructor(name: string, uid: number) {
    this.#name = name;
    const mountpoints = layout.version === 2 ? [layout.mountpoint] : layout.hierarchies.map((each) => each.mountpoint);
    this.#directories = mountpoints.map((mountpoint) => join(mountpoint, name));
    for (const [index, directory] of this.#directories.entries()) {
      mkdirSync(directory);
      chownSync(directory, uid, uid);
      if (layout.version === 1) inheritCpuset(mountpoints[index] ?? '', directory);
    }
    this.joinFile = layout.version === 2 ? handOver(layout.mountpoint, name, uid) : '';
  }

  /** As linux.cgroupsPath has it. */
  path(name: string): string {
    return join('/', this.#name, name);
  }

  file(controller: string, name: string): string {
    if (layout.version === 2) return join(layout.mountpoint, this.#name, name);
    const hierarchy = layout.hierarchies.find(({ options }) => options.includes(controller));
    return join(hierarchy?.mountpoint ?? '', this.#name, name);
  }

  remove(): void {
    for (const directory of this.#directories) {
      for (const path of [join(directory, 'self'), directory]) if (existsSync(path)) rmdirSync(path);
    }
  }
}

/** What root has to do more on v2. */
function handOver(mountpoint: string, name: string, uid: number): string {
  const directory = join(mountpoint, name);
  const self = join(directory, 'self');
  mkdirSync(self);
  for (const parent of [mountpoint, directory]) writeFileSync(join(parent, 'cgroup.subtree_control'), CONTROLLERS);
  for (const path of [join(directory, 'cgroup.procs'), join(directory, 'cgroup.subtree_control'), self]) {
    chownSync(path, uid, uid);
  }
  return join(self, 'cgroup.procs');
}

/** What a new group of v1 has is nothing. */
function inheritCpuset(mountpoint: string, directory: string): void {
  for (const file of CPUSET) {
    if (!existsSync(join(directory, file))) continue;
    writeFileSync(join(directory, file), readFileSync(join(mountpoint, file)));
  }
}
