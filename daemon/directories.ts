// The daemon's directories and sockets at start: created with tight modes, checked, locked against a second daemon.

import { accessSync, chmodSync, constants, lstatSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { isErrno, isFailedPrecondition, messageOf } from '../proto/errors';
import { type Lock, lockFile } from './lock';
import { StartError } from './start-error';

/** Others may pass through to a path they know, such as a FIFO, but not list it. */
const TOP_MODE = 0o711;
const PRIVATE_MODE = 0o700;
/** Longest path of a Unix socket (sun_path of unix(7), less the final NUL), with room for ".ttrpc". */
export const ADDRESS_LENGTH_MAX = 107 - '.ttrpc'.length;
const PROBE_MS = 2000;

/** Creates the directory and its parents. @throws StartError "directory" when it cannot be written */
export function prepareDirectory(what: string, path: string): void {
  try {
    makeDirectory(path, TOP_MODE);
    chmodSync(path, TOP_MODE);
    accessSync(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new StartError('directory', `${what} directory "${path}" cannot be used: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** A directory inside root that only the daemon reads. @throws StartError "directory" */
export function privateDirectory(root: string, name: string): string {
  const path = join(root, name);
  try {
    makeDirectory(path, PRIVATE_MODE);
    chmodSync(path, PRIVATE_MODE);
  } catch (error) {
    throw new StartError('directory', `directory "${path}" cannot be used: ${messageOf(error)}`, { cause: error });
  }
  return path;
}

/**
 * Root and state each have a lock: a daemon with a root of its own would take the containers in another one's state
 * directory for strays.
 * @throws StartError "locked" while another daemon runs on the directory
 */
export function lockDirectory(what: 'root' | 'state', path: string): Lock {
  try {
    return lockFile(join(path, 'lock'));
  } catch (error) {
    if (isFailedPrecondition(error)) {
      throw new StartError('locked', `another gantryd is running on the ${what} directory "${path}"`, { cause: error });
    }
    throw new StartError('directory', `${what} directory "${path}" cannot be used: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * Makes the path free for a socket: the leftover of a dead server is removed.
 * @throws StartError "address" when a server answers there or something else is in the way
 */
export async function freeAddress(address: string): Promise<void> {
  if (Buffer.byteLength(address) > ADDRESS_LENGTH_MAX) {
    throw new StartError('address', `address "${address}" is longer than ${ADDRESS_LENGTH_MAX} bytes`);
  }
  try {
    makeDirectory(dirname(address), TOP_MODE);
    const found = lstatSync(address, { throwIfNoEntry: false });
    if (found === undefined) return;
    if (!found.isSocket())
      throw new StartError('address', `address "${address}" is taken by something that is no socket`);
    if (await isServed(address)) throw new StartError('address', `address "${address}" is in use by another server`);
    rmSync(address, { force: true });
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw new StartError('address', `address "${address}" cannot be used: ${messageOf(error)}`, { cause: error });
  }
}

/** Like `mkdir -p`. Node's own recursive mkdir never returns for a path such as /proc/x, where mkdir says ENOENT. */
function makeDirectory(path: string, mode: number): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  if (dirname(path) !== path) makeDirectory(dirname(path), mode);
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    if (!isErrno(error, 'EEXIST') || !statSync(path).isDirectory()) throw error;
  }
}

function isServed(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address);
    const settle = (served: boolean) => {
      socket.destroy();
      resolve(served);
    };
    socket.once('connect', () => settle(true));
    socket.once('error', (error) => settle(!isErrno(error, 'ECONNREFUSED', 'ENOENT')));
    socket.setTimeout(PROBE_MS, () => settle(true));
  });
}
