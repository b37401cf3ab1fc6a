// Reading and writing the control files of cgroups, with the errors of runc.

import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno, messageOf, unknown } from '../../proto/errors';
import { errorText } from '../failure';

const COUNT_MAX = (1n << 64n) - 1n;
const DEPTH_MAX = 64;
const GROUP_MODE = 0o755;
const PIDS_NAMED_MAX = 10;
const REMOVE_RETRIES_MAX = 12;
const REMOVE_WAIT_MIN_MS = 1;
const REMOVE_WAIT_MAX_MS = 500;

/** @throws UNKNOWN `failed to write "99": write /sys/fs/...: numerical result out of range` */
export function writeControl(directory: string, file: string, value: string): void {
  const path = join(directory, file);
  try {
    tryWriteControl(path, value);
  } catch (error) {
    const { syscall = 'write' } = error as NodeJS.ErrnoException;
    throw unknown(`failed to write "${value}": ${syscall} ${path}: ${errorText(error)}`, { cause: error });
  }
}

/**
 * Writes what a field of linux.resources asks for.
 * @param field - named by the error when the kernel has no such file or device
 * @throws UNKNOWN `failed to write "5": open /sys/fs/...: no such file or directory (linux.resources.rdma)`
 */
export function setControl(field: string, directory: string, file: string, value: string): void {
  try {
    writeControl(directory, file, value);
  } catch (error) {
    const { cause } = error as Error;
    if (isErrno(cause, 'ENOENT', 'ENODEV', 'ENOTSUP')) throw refusal(field, messageOf(error), error);
    throw error;
  }
}

/** A field that cannot be obeyed here. */
export function refusal(field: string, reason: string, cause?: unknown): Error {
  return unknown(`${reason} (linux.resources.${field})`, { cause });
}

/** The same as writeControl() with the errors of Node. A file is never made. */
export function tryWriteControl(path: string, value: string): void {
  const fd = openSync(path, constants.O_WRONLY);
  try {
    writeSync(fd, value);
  } finally {
    closeSync(fd);
  }
}

/** The content without the newline at the end; undefined when there is no such file. */
export function readControl(directory: string, file: string): string | undefined {
  try {
    return readFileSync(join(directory, file), 'utf8').trimEnd();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV', 'ENOTSUP')) return undefined;
    throw error;
  }
}

/** A number, "max" as the largest. Zero when there is no such file. */
export function readNumber(directory: string, file: string): bigint {
  const text = readControl(directory, file);
  return text === undefined ? 0n : toCount(text);
}

export function toCount(text: string): bigint {
  if (text === 'max') return COUNT_MAX;
  return /^\d+$/.test(text) ? BigInt(text) : 0n;
}

/** Beyond 2^53 without an exponent, and never beyond what the kernel's counters hold. */
export function countText(value: number): string {
  const count = BigInt(value);
  return (count > COUNT_MAX ? COUNT_MAX : count).toString();
}

/** Lines "key value". */
export function readKeyed(directory: string, file: string): Map<string, bigint> {
  const values = new Map<string, bigint>();
  for (const line of (readControl(directory, file) ?? '').split('\n')) {
    const space = line.lastIndexOf(' ');
    if (space > 0) values.set(line.slice(0, space), toCount(line.slice(space + 1)));
  }
  return values;
}

/** The processes of a group and of all below it. */
export function readPids(directory: string, depth = 0): number[] {
  const text = readControl(directory, 'cgroup.procs');
  if (text === undefined) return [];
  const own = text === '' ? [] : text.split('\n').map(Number);
  if (depth >= DEPTH_MAX) return own;
  return own.concat(...subgroups(directory).map((name) => readPids(join(directory, name), depth + 1)));
}

/** With those above it, one by one: what Node makes at once fails without the reason. One that exists is taken over. */
export function makeGroup(path: string): void {
  try {
    mkdirSync(path, GROUP_MODE);
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return;
    if (!isErrno(error, 'ENOENT')) {
      throw unknown(`unable to apply cgroup configuration: mkdir ${path}: ${errorText(error)}`, { cause: error });
    }
    makeGroup(dirname(path));
    makeGroup(path);
  }
}

/** As Cgroup.checkVacant(), for one directory. @param isFrozen - of one that exists */
export function checkVacant(directory: string, isFrozen: () => boolean): void {
  if (!existsSync(directory)) return;
  const pids = readPids(directory);
  const advice = 'give the container a linux.cgroupsPath of its own';
  if (pids.length > 0) {
    const named = pids.slice(0, PIDS_NAMED_MAX).join(', ') + (pids.length > PIDS_NAMED_MAX ? ', ...' : '');
    const found = `${pids.length} process(es) found in ${directory}: ${named}`;
    throw unknown(`container's cgroup is not empty: ${found}; end them, or ${advice}`);
  }
  if (isFrozen()) throw unknown(`container's cgroup unexpectedly frozen: ${directory}; thaw it, or ${advice}`);
}

/** Where a path leads in a group. @throws UNKNOWN when that is outside of it */
export function pathBelow(group: string, path: string): string {
  const directory = join(group, path, '.');
  if (directory === group || directory.startsWith(`${group}/`)) return directory;
  throw unknown(`unable to create new parent process: ${path} is not a sub cgroup path`);
}

export function unknownController(name: string): Error {
  return unknown(`unable to create new parent process: unknown controller ${name} in SubCgroupPaths`);
}

/** Removes a group with those below it, waiting shortly between attempts while it is busy. */
export async function removeGroup(directory: string): Promise<void> {
  let waitMs = REMOVE_WAIT_MIN_MS;
  for (let attempt = 1; ; attempt++) {
    try {
      removeTree(directory, 0);
      return;
    } catch (error) {
      // Where nothing may be written the kernel does not say that there is nothing.
      if (!existsSync(directory)) return;
      if (!isErrno(error, 'EBUSY', 'ENOTEMPTY') || attempt === REMOVE_RETRIES_MAX) {
        throw unknown(`unable to remove cgroup ${directory}: ${errorText(error)}`, { cause: error });
      }
    }
    await sleep(waitMs);
    waitMs = Math.min(waitMs * 2, REMOVE_WAIT_MAX_MS);
  }
}

function removeTree(directory: string, depth: number): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return;
    if (!isErrno(error, 'EBUSY', 'ENOTEMPTY') || depth >= DEPTH_MAX) throw error;
    const below = subgroups(directory);
    if (below.length === 0) throw error;
    for (const name of below) removeTree(join(directory, name), depth + 1);
    rmdirSync(directory);
  }
}

function subgroups(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return [];
    throw error;
  }
}
