// What a container leaves on disk, so that it can be cleaned up when the process that made it is gone.

import { mkdirSync, readFileSync, renameSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { alreadyExists, isErrno, notFound, unknown } from '../proto/errors';
import type { Hook } from './spec';

export interface SavedState {
  readonly id: string;
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: tells the process from a later one with the same pid. */
  readonly pidStartTime: string;
  readonly bundle: string;
  readonly rootfs: string;
  readonly cgroupPaths: Readonly<Record<string, string>>;
  readonly poststop: readonly Hook[];
  readonly annotations: Readonly<Record<string, string>>;
}

const FILE = 'state.json';
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;
const START_TIME_FIELD = 22;
/** The fields behind the command's name start with number 3. */
const FIRST_FIELD = 3;

/** Takes the id. @throws ALREADY_EXISTS, UNKNOWN for an id that is no file name */
export function claimState(root: string, id: string): void {
  if (!/^[\w+.-]+$/.test(id) || id === '.' || id === '..') throw unknown('invalid container ID format');
  mkdirSync(root, { recursive: true, mode: DIRECTORY_MODE });
  try {
    mkdirSync(join(root, id), DIRECTORY_MODE);
  } catch (error) {
    if (isErrno(error, 'EEXIST')) throw alreadyExists('container with given ID already exists', { cause: error });
    throw error;
  }
}

export function saveState(root: string, state: SavedState): void {
  const path = join(root, state.id, FILE);
  writeFileSync(`${path}.new`, JSON.stringify(state), { mode: FILE_MODE });
  renameSync(`${path}.new`, path);
}

/** @throws NOT_FOUND */
export function loadState(root: string, id: string): SavedState {
  try {
    return JSON.parse(readFileSync(join(root, id, FILE), 'utf8')) as SavedState;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) throw notFound(`container "${id}" does not exist`, { cause: error });
    throw error;
  }
}

export function removeState(root: string, id: string): void {
  const directory = join(root, id);
  for (const remove of [() => unlinkSync(join(directory, FILE)), () => rmdirSync(directory)]) {
    try {
      remove();
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
  }
}

/** Empty when there is no such process. */
export function processStartTime(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name is in brackets and may hold anything.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[START_TIME_FIELD - FIRST_FIELD] ?? '';
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return '';
    throw error;
  }
}
