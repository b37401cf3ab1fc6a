// Cache and memory bandwidth of a container (runtime-spec config-linux.md, IntelRdt; kernel doc x86/resctrl).

import { existsSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, unknown } from '../../proto/errors';
import { refuse } from '../config/checks';
import { errorText } from '../failure';
import type { IntelRdt } from '../spec';

/** Lines for the file schemata: "L3:0=f", "MB:0=20". */
export type Schemata = Pick<IntelRdt, 'l3CacheSchema' | 'memBwSchema'>;

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

  /** @throws UNKNOWN in runc's words for what the processor or the kernel does not have */
  static check({ l3CacheSchema, memBwSchema }: Schemata, root = MOUNT_POINT): void {
    const has = (resource: string) => existsSync(join(root, 'info', resource));
    const hint = `resctrl, which tells what the processor has, is not mounted at ${root} or does not have it`;
    if (l3CacheSchema && !has('L3')) throw unknown(`Intel RDT/CAT: l3 cache schema is not enabled: ${hint}`);
    if (memBwSchema && !has('MB')) throw unknown(`Intel RDT/MBA: memory bandwidth schema is not enabled: ${hint}`);
  }

  /** What it makes is its own, remove() takes it back; groups that exist are shared. */
  create(): void {
    const isNew = this.make(this.group);
    if (!isNew && !this.rdt.closID) refuse('linux.intelRdt', `the group ${this.group} exists`);
    this.writeSchemata();
    if (this.monitor !== undefined) this.make(this.monitor);
  }

  remove(): void {
    for (const path of this.made.splice(0).reverse()) removeGroup(path);
  }

  /** Also for a container that another process has made: groups with a name of their own stay. */
  static removeFor(rdt: IntelRdt, id: string, root = MOUNT_POINT): void {
    removeGroup(rdt.closID ? join(root, rdt.closID, 'mon_groups', id) : join(root, id));
  }

  /** What the class may use; of a container that runs as well. */
  writeSchemata(): void {
    const { l3CacheSchema, memBwSchema, schemata } = this.rdt;
    const lines = [l3CacheSchema, memBwSchema, ...(schemata ?? [])].filter((line) => line);
    if (lines.length > 0) this.write(join(this.group, 'schemata'), `${lines.join('\n')}\n`);
  }

  /**
   * Makes it for processes that run already.
   * @param pids - those that there are at the moment of the call
   */
  createFor(pids: () => readonly number[]): void {
    try {
      this.create();
      this.takeIn(pids);
    } catch (error) {
      this.remove();
      throw error;
    }
  }

  /** Threads join one by one, and may start others meanwhile. */
  private takeIn(pids: () => readonly number[]): void {
    const joined = new Set<string>();
    for (let before = -1; joined.size > before; ) {
      before = joined.size;
      for (const thread of pids().flatMap(threadsOf)) {
        if (joined.has(thread)) continue;
        joined.add(thread);
        for (const file of this.joinFiles) writeThread(file, thread);
      }
    }
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

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return [];
    throw error;
  }
}

/** One that has ended is none to move. */
function writeThread(file: string, thread: string): void {
  try {
    writeFileSync(file, thread, { flag: 'a' });
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw unknown(`linux.intelRdt: write ${file}: ${errorText(error)}`, { cause: error });
  }
}

function removeGroup(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
