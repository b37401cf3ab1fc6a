// cgroup v2: one directory for everything (kernel: admin-guide/cgroup-v2).

import { readFileSync, watch } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno, unknown } from '../../proto/errors';
import { errorText } from '../failure';
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
import { CGROUP_ROOT } from './layout';
import { checkForeign, signalEach } from './v1';
import { applyDevices } from './v2-devices';
import { applyResources } from './v2-resources';

const FREEZE_ATTEMPTS_MAX = 2000;
const FREEZE_WAIT_MS = 1;
const SIGKILL = 9;

export class CgroupV2 implements Cgroup {
  readonly paths: Readonly<Record<string, string>>;
  private readonly path: string;

  constructor(path: string) {
    this.path = path;
    this.paths = { '': path };
  }

  checkVacant(): void {
    checkVacant(this.path, () => this.isFrozen());
  }

  create(): void {
    makeGroup(this.path);
    try {
      enableControllers(dirname(this.path));
    } catch (error) {
      throw unknown(`unable to apply cgroup configuration: ${this.path}: ${errorText(error)}`, { cause: error });
    }
  }

  apply(resources: LinuxResources, update: boolean): void {
    applyResources(this.path, resources);
    if (!update) applyDevices(this.path, resources.devices ?? []);
  }

  settled(): void {}

  joinFiles(): string[] {
    return [];
  }

  cloneDirectory(): string {
    return this.path;
  }

  directoryOf(pid: number): string | undefined {
    const own = /^0::(.*)$/m.exec(readControl(`/proc/${pid}`, 'cgroup') ?? '')?.[1] ?? '';
    const directory = join(CGROUP_ROOT, own);
    return directory === this.path || directory.startsWith(`${this.path}/`) ? directory : undefined;
  }

  below(places: ReadonlyMap<string, string>): CgroupV2 {
    for (const name of places.keys()) if (name !== '') throw unknownController(name);
    return new CgroupV2(pathBelow(this.path, places.get('') ?? ''));
  }

  mountView(): { version: 2; path: string } {
    return { version: 2, path: this.path };
  }

  async freeze(): Promise<void> {
    writeControl(this.path, 'cgroup.freeze', '1');
    for (let attempt = 0; attempt < FREEZE_ATTEMPTS_MAX; attempt++) {
      if (readKeyed(this.path, 'cgroup.events').get('frozen') === 1n) return;
      await sleep(FREEZE_WAIT_MS);
    }
    this.thaw();
    throw unknown('unable to freeze');
  }

  thaw(): void {
    writeControl(this.path, 'cgroup.freeze', '0');
  }

  isFrozen(): boolean {
    return readKeyed(this.path, 'cgroup.events').get('frozen') === 1n;
  }

  pids(): number[] {
    return readPids(this.path);
  }

  signalAll(signal: number): void {
    checkForeign(this.pids());
    if (signal === SIGKILL && this.killAtOnce()) return;
    const frozen = readKeyed(this.path, 'cgroup.events').get('frozen') === 1n;
    if (!frozen) this.setFreeze('1');
    try {
      signalEach(this.pids(), signal);
    } finally {
      if (!frozen) this.setFreeze('0');
    }
  }

  stats(): EncodedStats {
    // Loaded when somebody asks: the encoder would be a good part of a short program.
    const { encodeStats } = require('./v2-stats') as typeof import('./v2-stats');
    return encodeStats(this.path);
  }

  oomCount(): number {
    return Number(readKeyed(this.path, 'memory.events').get('oom_kill') ?? 0n);
  }

  watchOom(listener: () => void): () => void {
    const file = join(this.path, 'memory.events');
    if (readControl(this.path, 'memory.events') === undefined) return () => {};
    let seen = this.oomCount();
    const watcher = watch(file, { persistent: false }, () => {
      const count = this.oomCount();
      if (count > seen) listener();
      seen = count;
    });
    watcher.on('error', () => watcher.close());
    return () => watcher.close();
  }

  async remove(): Promise<void> {
    await removeGroup(this.path);
  }

  /** cgroup.kill came with Linux 5.14. */
  private killAtOnce(): boolean {
    try {
      tryWriteControl(join(this.path, 'cgroup.kill'), '1');
      return true;
    } catch (error) {
      // ENODEV: removed since it was opened, by systemd, say.
      if (isErrno(error, 'ENOENT', 'ENODEV')) return readControl(this.path, 'cgroup.procs') === undefined;
      throw error;
    }
  }

  private setFreeze(value: string): void {
    try {
      tryWriteControl(join(this.path, 'cgroup.freeze'), value);
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENODEV')) throw error;
    }
  }
}

/**
 * Hands the controllers down from the root to the parent of the container's group. One that cannot be (real-time
 * processes keep cpu back, an ordinary user owns a part only) is left out; a limit that needs it fails by itself.
 */
function enableControllers(parent: string): void {
  const controllers = readControl(parent, 'cgroup.controllers');
  const above = dirname(parent);
  if (controllers === undefined) return;
  if (readControl(above, 'cgroup.subtree_control') !== undefined) enableControllers(above);
  const available = readFileSync(join(parent, 'cgroup.controllers'), 'utf8').trim().split(' ').filter(Boolean);
  const enabled = new Set((readControl(parent, 'cgroup.subtree_control') ?? '').split(' '));
  for (const name of available.filter((controller) => !enabled.has(controller))) {
    try {
      tryWriteControl(join(parent, 'cgroup.subtree_control'), `+${name}`);
    } catch (error) {
      if (!isErrno(error, 'EBUSY', 'EINVAL', 'ENOENT', 'EPERM', 'EACCES', 'EROFS', 'ENOTSUP')) throw error;
    }
  }
}
