// Cache and memory bandwidth of a container (runtime-spec config-linux.md, IntelRdt; kernel doc x86/resctrl).

import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, unknown } from '../../proto/errors';
import { refuse } from '../config/checks';
import { errorText } from '../failure';
import type { IntelRdt } from '../spec';

const MOUNT_POINT = '/sys/fs/resctrl';

/**
 * A class of service and, if asked for, a monitoring group in it.
 * @throws UNKNOWN `linux.intelRdt: ...` where the kernel has none
 */
export class ResourceControl {
  /** Files into which a process writes "0" to join. */
  readonly joinFiles: readonly string[];
  private readonly group: string;
  private readonly monitor: string | undefined;
  private readonly rdt: IntelRdt;
  private readonly made: string[] = [];

  /** @param root - the mounted filesystem, of which a test has its own */
  constructor(rdt: IntelRdt, id: string, root = MOUNT_POINT) {
    if (!existsSync(join(root, 'schemata')))
      refuse('linux.intelRdt', `needs the kernel's resctrl filesystem, which is not mounted at ${root}`);
    this.rdt = rdt;
    this.group = join(root, rdt.closID || id);
    this.monitor = rdt.enableMonitoring ? join(this.group, 'mon_groups', id) : undefined;
    this.joinFiles = [this.group, ...(this.monitor === undefined ? [] : [this.monitor])].map((path) =>
      join(path, 'tasks'),
    );
  }

  /** What it makes is its own, remove() takes it back; groups that exist are shared. */
  create(): void {
    const { closID, l3CacheSchema, memBwSchema, schemata } = this.rdt;
    const lines = [l3CacheSchema, memBwSchema, ...(schemata ?? [])].filter((line) => line);
    const isNew = this.make(this.group);
    if (!isNew && !closID) refuse('linux.intelRdt', `the group ${this.group} exists`);
    if (lines.length > 0) this.write(join(this.group, 'schemata'), `${lines.join('\n')}\n`);
    if (this.monitor !== undefined) this.make(this.monitor);
  }

  remove(): void {
    for (const path of this.made.splice(0).reverse()) removeGroup(path);
  }

  /** Also for a container that another process has made: groups with a name of their own stay. */
  static removeFor(rdt: IntelRdt, id: string, root = MOUNT_POINT): void {
    removeGroup(rdt.closID ? join(root, rdt.closID, 'mon_groups', id) : join(root, id));
  }

  private make(path: string): boolean {
    try {
      mkdirSync(path);
    } catch (error) {
      if (isErrno(error, 'EEXIST')) return false;
      throw unknown(`linux.intelRdt: mkdir ${path}: ${errorText(error)}`, { cause: error });
    }
    this.made.push(path);
    return true;
  }

  private write(path: string, text: string): void {
    try {
      writeFileSync(path, text);
    } catch (error) {
      throw unknown(`linux.intelRdt.schemata: write ${path}: ${errorText(error)}`, { cause: error });
    }
  }
}

function removeGroup(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
