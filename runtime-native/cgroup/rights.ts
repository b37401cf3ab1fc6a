// Which groups a caller without rights over the host may use: those in what has been handed to it (cgroups(7),
// delegation; kernel: admin-guide/cgroup-v2, Delegation).

import { accessSync, constants, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isErrno } from '../../proto/errors';

/** Whether a group of v1 is there and can be joined, or can be made. */
export function mayUseV1(directory: string): boolean {
  return isWritable(existsSync(directory) ? join(directory, 'tasks') : nearest(directory));
}

/** The same for v2, where a process moves only within what its mover may write. @param own - where this process is */
export function mayUseV2(directory: string, own: string): boolean {
  const place = existsSync(directory) ? join(directory, PROCESSES) : nearest(directory);
  return isWritable(place) && isWritable(join(commonGroup(directory, own), PROCESSES));
}

const PROCESSES = 'cgroup.procs';

function nearest(directory: string): string {
  return existsSync(directory) ? directory : nearest(dirname(directory));
}

function commonGroup(directory: string, other: string): string {
  const holds = other === directory || other.startsWith(`${directory === '/' ? '' : directory}/`);
  return holds ? directory : commonGroup(dirname(directory), other);
}

/** Also whether the filesystem is. */
function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch (error) {
    if (isErrno(error, 'EACCES', 'EPERM', 'EROFS', 'ENOENT')) return false;
    throw error;
  }
}
