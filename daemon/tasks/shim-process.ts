// Shims as processes: making sure that one is gone.

import { readlinkSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno } from '../../proto/errors';

const KILL_TIMEOUT_MS = 2000;
const POLL_MS = 5;

/**
 * Kills the shim of a bundle unless it has ended, and waits until it is gone. A shim is known by its working directory,
 * the bundle, so that a process that got the pid later is never touched.
 */
export async function killShimProcess(pid: number, bundlePath: string): Promise<void> {
  const deadline = Date.now() + KILL_TIMEOUT_MS;
  for (let killed = false; isShim(pid, bundlePath) && Date.now() < deadline; await sleep(POLL_MS)) {
    if (!killed) kill(pid);
    killed = true;
  }
}

/** Removes a shim's socket unless somebody listens on it. */
export async function removeDeadSocket(path: string): Promise<void> {
  if (await isListening(path)) return;
  try {
    await unlink(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

function isShim(pid: number, bundlePath: string): boolean {
  if (pid <= 1) return false;
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === bundlePath;
  } catch {
    return false;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error;
  }
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', (error) => resolve(!isErrno(error, 'ECONNREFUSED', 'ENOENT')));
  });
}
