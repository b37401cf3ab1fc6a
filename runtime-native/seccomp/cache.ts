// Compiled filters on disk. A file holds its whole profile, so a collision of the short hash in its name cannot lead to
// a wrong filter.

import { closeSync, constants, fstatSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '../../proto/errors';

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;
const SECOND_OFFSET = 0x9747b28c;
const LENGTH_SIZE = 4;
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;
const OTHERS_WRITE = 0o022;

/** undefined when there is none, or one that somebody else could have written. */
export function readFilter(directory: string, key: string): Buffer | undefined {
  let fd: number;
  try {
    fd = openSync(pathOf(directory, key), constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ELOOP', 'ENOTDIR')) return undefined;
    throw error;
  }
  try {
    const { uid, mode } = fstatSync(fd);
    if (uid !== process.geteuid?.() || (mode & OTHERS_WRITE) !== 0) return undefined;
    const content = readFileSync(fd);
    const wanted = Buffer.from(key);
    const end = LENGTH_SIZE + wanted.length;
    const matches = content.length > end && content.readUInt32LE(0) === wanted.length;
    return matches && content.subarray(LENGTH_SIZE, end).equals(wanted) ? content.subarray(end) : undefined;
  } finally {
    closeSync(fd);
  }
}

/** A cache that cannot be written is no failure of the launch. */
export function writeFilter(directory: string, key: string, program: Buffer): void {
  const path = pathOf(directory, key);
  const temporary = `${path}.${process.pid}`;
  const wanted = Buffer.from(key);
  const length = Buffer.alloc(LENGTH_SIZE);
  length.writeUInt32LE(wanted.length);
  try {
    mkdirSync(directory, { recursive: true, mode: DIRECTORY_MODE });
    writeFileSync(temporary, Buffer.concat([length, wanted, program]), { mode: FILE_MODE });
    renameSync(temporary, path);
  } catch (error) {
    if (!isErrno(error, 'EACCES', 'EROFS', 'ENOSPC', 'EDQUOT', 'ENOTDIR', 'EPERM')) throw error;
  }
}

/** Two FNV-1a hashes; loading a cryptographic one would take longer than reading the file. */
function pathOf(directory: string, key: string): string {
  let [first, second] = [FNV_OFFSET, SECOND_OFFSET];
  for (let i = 0; i < key.length; i++) {
    const code = key.charCodeAt(i);
    first = Math.imul(first ^ code, FNV_PRIME);
    second = Math.imul(second ^ (code + i), FNV_PRIME);
  }
  const hex = (value: number) => (value >>> 0).toString(16).padStart(8, '0');
  return join(directory, `${hex(first)}${hex(second)}.bpf`);
}
