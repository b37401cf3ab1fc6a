// What a container leaves on disk, so that others can look after it when the process that made it is gone: its state, if
// wanted its configuration, and the socket over which it is started.

import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { alreadyExists, isErrno, notFound, unavailable, unknown } from '../proto/errors';
import { connectAt, listenAt, tryLock } from './native';
import type { Hook, Spec } from './spec';

export interface SavedState {
  readonly id: string;
  /** 0 as long as there is no process. */
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: tells the process from a later one with the same pid. */
  readonly pidStartTime: string;
  readonly bundle: string;
  readonly rootfs: string;
  readonly cgroupPaths: Readonly<Record<string, string>>;
  readonly poststop: readonly Hook[];
  readonly annotations: Readonly<Record<string, string>>;
  /** When its process had been made, RFC 3339. */
  readonly created: string;
  readonly noNewKeyring: boolean;
  readonly systemdCgroup: boolean;
}

const FILE = 'state.json';
const SPEC_FILE = 'config.json';
const START_SOCKET = 'start.sock';
const LOCK_WAIT_MAX_MS = 30_000;
const LOCK_POLL_MS = 10;
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;
const START_TIME_FIELD = 22;
/** The fields behind the command's name start with number 3, the state of the process. */
const FIRST_FIELD = 3;
const ENDED = ['Z', 'X', 'x'];

/** Takes the id. @throws ALREADY_EXISTS, UNKNOWN for an id that is no file name */
export function claimState(root: string, id: string): void {
  checkId(id);
  mkdirSync(root, { recursive: true, mode: DIRECTORY_MODE });
  try {
    mkdirSync(join(root, id), DIRECTORY_MODE);
  } catch (error) {
    if (isErrno(error, 'EEXIST')) throw alreadyExists('container with given ID already exists', { cause: error });
    throw error;
  }
}

/** @throws UNKNOWN for an id that is no file name */
export function checkId(id: string): void {
  if (!/^[\w+.-]+$/.test(id) || id === '.' || id === '..') throw unknown('invalid container ID format');
}

/** The ids in a state directory, sorted; also those of containers that are being made. */
export function containerIds(root: string): string[] {
  try {
    return readdirSync(root, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
      .sort();
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/**
 * Keeps other processes from changing the container until the returned function is called.
 * @throws NOT_FOUND, UNAVAILABLE when somebody else does not let go of it
 */
export async function lockContainer(root: string, id: string): Promise<() => void> {
  checkId(id);
  const directory = join(root, id);
  const deadline = Date.now() + LOCK_WAIT_MAX_MS;
  let fd: number;
  try {
    fd = openSync(directory, 'r');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) throw missing(id, error);
    throw error;
  }
  try {
    while (!tryLock(fd)) {
      if (Date.now() > deadline) throw unavailable(`container "${id}" is being changed by another process`);
      await sleep(LOCK_POLL_MS);
    }
    // Whoever had the lock may have deleted it, and somebody else may have made it anew.
    if (statSync(directory, { throwIfNoEntry: false })?.ino !== fstatSync(fd).ino) throw missing(id, undefined);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return () => closeSync(fd);
}

export function saveState(root: string, state: SavedState): void {
  const path = join(root, state.id, FILE);
  writeFileSync(`${path}.new`, JSON.stringify(state), { mode: FILE_MODE });
  renameSync(`${path}.new`, path);
}

export function saveSpec(root: string, id: string, spec: Spec): void {
  writeFileSync(join(root, id, SPEC_FILE), JSON.stringify(spec), { mode: FILE_MODE });
}

/** Undefined when it has not been kept. */
export function loadSpec(root: string, id: string): Spec | undefined {
  try {
    return JSON.parse(readFileSync(join(root, id, SPEC_FILE), 'utf8')) as Spec;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** The listening socket that init gets. The caller closes it. */
export function listenForStart(root: string, id: string): number {
  return withDirectory(join(root, id), (directory) => listenAt(directory, START_SOCKET));
}

/** A connection to a container that waits to be started; undefined when it does not (any more). The caller closes it. */
export function connectForStart(root: string, id: string): number | undefined {
  try {
    return withDirectory(join(root, id), (directory) => connectAt(directory, START_SOCKET, 'seqpacket'));
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ECONNREFUSED')) return undefined;
    throw error;
  }
}

export function waitsForStart(root: string, id: string): boolean {
  return statSync(join(root, id, START_SOCKET), { throwIfNoEntry: false }) !== undefined;
}

export function removeStartSocket(root: string, id: string): void {
  remove(() => unlinkSync(join(root, id, START_SOCKET)));
}

/** @throws NOT_FOUND */
export function loadState(root: string, id: string): SavedState {
  try {
    return JSON.parse(readFileSync(join(root, id, FILE), 'utf8')) as SavedState;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) throw missing(id, error);
    throw error;
  }
}

export function removeState(root: string, id: string): void {
  const directory = join(root, id);
  remove(() => unlinkSync(join(directory, FILE)));
  try {
    rmdirSync(directory);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return;
    if (!isErrno(error, 'ENOTEMPTY')) throw error;
    for (const file of [`${FILE}.new`, SPEC_FILE, START_SOCKET]) remove(() => unlinkSync(join(directory, file)));
    remove(() => rmdirSync(directory));
  }
}

/** Empty when there is no such process, or nothing but its exit status. */
export function processStartTime(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name is in brackets and may hold anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return ENDED.includes(fields[0] ?? '') ? '' : (fields[START_TIME_FIELD - FIRST_FIELD] ?? '');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return '';
    throw error;
  }
}

function missing(id: string, cause: unknown): Error {
  return notFound(`container "${id}" does not exist`, { cause });
}

function remove(body: () => void): void {
  try {
    body();
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

function withDirectory(path: string, body: (directory: number) => number): number {
  const directory = openSync(path, 'r');
  try {
    return body(directory);
  } finally {
    closeSync(directory);
  }
}
