// cgroup v1: one directory in each mounted hierarchy (kernel: admin-guide/cgroup-v1).

import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno, unknown } from '../../proto/errors';
import { watchOom } from '../native';
import type { CgroupHierarchy } from '../plan/mounts';
import type { LinuxResources } from '../spec';
import type { Cgroup, EncodedStats } from './cgroup';
import {
  checkVacant,
  makeGroup,
  pathBelow,
  readControl,
  readKeyed,
  readPids,
  removeGroup,
  tryWriteControl,
  unknownController,
  writeControl,
} from './files';
import type { HierarchyLayout } from './layout';
import { applyResources } from './v1-resources';

export interface Hierarchy extends HierarchyLayout {
  readonly path: string;
}

const CPUSET_FILES = ['cpuset.cpus', 'cpuset.mems'] as const;
const FREEZE_ATTEMPTS_MAX = 1000;
const FREEZE_WAIT_MS = 1;
/** A process in the middle of a fork can keep a group from freezing until it is thawed once. */
const FREEZE_ATTEMPTS_PER_THAW = 25;
const SIGKILL = 9;

export class CgroupV1 implements Cgroup {
  readonly paths: Readonly<Record<string, string>>;
  private readonly hierarchies: readonly Hierarchy[];
  private readonly byController: ReadonlyMap<string, string>;

  constructor(hierarchies: readonly Hierarchy[]) {
    this.hierarchies = hierarchies;
    this.paths = Object.fromEntries(hierarchies.map(({ name, path }) => [name, path]));
    this.byController = new Map(hierarchies.flatMap(({ options, path }) => options.map((option) => [option, path])));
  }

  checkVacant(): void {
    for (const { path, options } of this.hierarchies) {
      checkVacant(path, () => options.includes('freezer') && readControl(path, 'freezer.state') !== 'THAWED');
    }
  }

  create(): void {
    for (const { path, options } of this.hierarchies) {
      makeGroup(path);
      if (options.includes('cpuset')) inheritCpuset(path);
    }
  }

  apply(resources: LinuxResources, update: boolean): void {
    applyResources(this.byController, resources, update);
  }

  settled(): void {}

  joinFiles(): string[] {
    return this.hierarchies.map(({ path }) => `${path}/tasks`);
  }

  cloneDirectory(): undefined {
    return undefined;
  }

  directoryOf(): undefined {
    return undefined;
  }

  below(places: ReadonlyMap<string, string>): CgroupV1 {
    for (const name of places.keys()) if (name !== '' && !this.byController.has(name)) throw unknownController(name);
    return new CgroupV1(
      this.hierarchies.map((hierarchy) => {
        const [place] = ['', ...hierarchy.options].flatMap((name) => places.get(name) ?? []);
        return place === undefined ? hierarchy : { ...hierarchy, path: pathBelow(hierarchy.path, place) };
      }),
    );
  }

  mountView(): { version: 1; hierarchies: CgroupHierarchy[] } {
    return { version: 1, hierarchies: this.hierarchies.map(({ name, options, path }) => ({ name, options, path })) };
  }

  async freeze(): Promise<void> {
    const path = this.freezer();
    for (let attempt = 1; attempt <= FREEZE_ATTEMPTS_MAX; attempt++) {
      if (attempt % FREEZE_ATTEMPTS_PER_THAW === 0) writeControl(path, 'freezer.state', 'THAWED');
      writeControl(path, 'freezer.state', 'FROZEN');
      if (readControl(path, 'freezer.state') === 'FROZEN') return;
      await sleep(FREEZE_WAIT_MS);
    }
    writeControl(path, 'freezer.state', 'THAWED');
    throw unknown('unable to freeze');
  }

  thaw(): void {
    writeControl(this.freezer(), 'freezer.state', 'THAWED');
  }

  isFrozen(): boolean {
    const path = this.byController.get('freezer');
    return path !== undefined && readControl(path, 'freezer.state') === 'FROZEN';
  }

  pids(): number[] {
    return readPids(this.any());
  }

  signalAll(signal: number): void {
    checkForeign(this.pids());
    const path = this.byController.get('freezer');
    const setState = (state: string) => {
      if (path === undefined) return;
      try {
        tryWriteControl(`${path}/freezer.state`, state);
      } catch (error) {
        if (!isErrno(error, 'ENOENT', 'ENODEV')) throw error;
      }
    };
    const wasFrozen = path !== undefined && readControl(path, 'freezer.state') === 'FROZEN';
    if (!wasFrozen) setState('FROZEN');
    try {
      signalEach(this.pids(), signal);
    } finally {
      // Killed processes must run to die.
      if (!wasFrozen || signal === SIGKILL) setState('THAWED');
    }
  }

  stats(): EncodedStats {
    // Loaded when somebody asks: the encoder would be a good part of a short program.
    const { encodeStats } = require('./v1-stats') as typeof import('./v1-stats');
    return encodeStats(this.byController);
  }

  oomCount(): number {
    const path = this.byController.get('memory');
    return path === undefined ? 0 : Number(readKeyed(path, 'memory.oom_control').get('oom_kill') ?? 0n);
  }

  watchOom(listener: () => void): () => void {
    const path = this.byController.get('memory');
    if (path === undefined) return () => {};
    const fd = watchOom(path);
    const { Socket } = require('node:net') as typeof import('node:net');
    const socket = new Socket({ fd, readable: true, writable: false });
    socket.unref();
    // Closing the fd is the socket's; an error says that the group has gone.
    socket.on('error', () => socket.destroy());
    // The notice comes before the kill, so counting kills here would miss it. Removing the group gives one as well.
    socket.on('data', () => {
      if (readControl(path, 'memory.oom_control') !== undefined) listener();
    });
    return () => socket.destroy();
  }

  async remove(): Promise<void> {
    const results = await Promise.allSettled(this.hierarchies.map(({ path }) => removeGroup(path)));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  private any(): string {
    return this.byController.get('freezer') ?? this.hierarchies[0]?.path ?? '';
  }

  private freezer(): string {
    const path = this.byController.get('freezer');
    if (path === undefined) throw unknown('cgroup freezer is not mounted');
    return path;
  }
}

/**
 * To be called before anything is done to all processes of a group: what froze or killed us would not undo it.
 * @throws UNKNOWN for a group that holds the host's first process or this one, which is not a container's
 */
export function checkForeign(pids: readonly number[]): void {
  if (pids.some((pid) => pid <= 1 || pid === process.pid)) {
    throw unknown('refusing to signal a cgroup that holds process 1 of the host, or this one');
  }
}

/** Sends a signal to processes; those that have gone meanwhile are left out. */
export function signalEach(pids: readonly number[], signal: number): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if (!isErrno(error, 'ESRCH')) throw error;
    }
  }
}

/** A new cpuset has no processors and takes no process; it gets those of its parent, which may be new as well. */
function inheritCpuset(path: string): void {
  for (const file of CPUSET_FILES) inheritCpusetFile(path, file);
}

/** The value; undefined when there is no such file, which is so above the hierarchy. */
function inheritCpusetFile(path: string, file: string): string | undefined {
  const own = readControl(path, file);
  if (own !== '') return own;
  const value = inheritCpusetFile(dirname(path), file);
  if (value !== undefined) writeControl(path, file, value);
  return value;
}
