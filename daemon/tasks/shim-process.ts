// Shims as processes: making sure that one is gone.

import { readdirSync, readlinkSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno } from '../../proto/errors';
import type { Bundle } from './bundle';

const KILL_TIMEOUT_MS = 2000;
const POLL_MS = 5;

/**
 * Kills the processes that work on a bundle for a task: its shim, and a runtime that the shim runs. Waits until they
 * are gone. They are known by their working directory, so that a process that got a pid later is never touched.
 */
export async function killBundleProcesses(bundle: Bundle): Promise<void> {
  const deadline = Date.now() + KILL_TIMEOUT_MS;
  for (let pids = workingIn(bundle); pids.length > 0 && Date.now() < deadline; pids = workingIn(bundle)) {
    for (const pid of pids) kill(pid);
    await sleep(POLL_MS);
  }
}

/** As killBundleProcesses, for one process that is known: cheap, because most of the time it is gone already. */
export async function killShimProcess(pid: number, bundle: Bundle): Promise<void> {
  const deadline = Date.now() + KILL_TIMEOUT_MS;
  while (pid > 1 && worksIn(pid, bundle) && Date.now() < deadline) {
    kill(pid);
    await sleep(POLL_MS);
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

function workingIn(bundle: Bundle): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => worksIn(pid, bundle));
}

/** Containers have a root of their own, so none of their processes matches. */
function worksIn(pid: number, bundle: Bundle): boolean {
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === bundle.path;
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
