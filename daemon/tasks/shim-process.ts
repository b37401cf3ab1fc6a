// Shims as processes: making sure that one is gone.

import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno } from '../../proto/errors';
import { type Bundle, isRemovedBundle } from './bundle';

const KILL_TIMEOUT_MS = 2000;
const POLL_MS = 5;

/**
 * Kills the processes that work on a bundle for a task: its shim, and a runtime that the shim runs. Waits until they
 * are gone. They are known by their working directory, so that a process that got a pid later is never touched.
 */
export async function killBundleProcesses(bundle: Bundle): Promise<void> {
  const deadline = Date.now() + KILL_TIMEOUT_MS;
  // A program may end between the listing of processes and the look at it, and leave one behind that was not listed.
  for (let emptyScans = 0; emptyScans < 2 && Date.now() < deadline; ) {
    const pids = processesIn((directory) => directory === bundle.path);
    emptyScans = pids.length === 0 ? emptyScans + 1 : 0;
    for (const pid of pids) kill(pid);
    if (pids.length > 0) await sleep(POLL_MS);
  }
}

/**
 * Kills shims whose bundle is gone: a daemon that died while it started them has left nobody who knows them.
 * @param keep shims that are in use all the same
 * @returns the pids of what was killed
 */
export function killStrayShims(state: string, keep: ReadonlySet<number>): number[] {
  const strays = processesIn((directory) => isRemovedBundle(state, directory)).filter((pid) => !keep.has(pid));
  for (const pid of strays) kill(pid);
  return strays;
}

/** As killBundleProcesses, for one process that is known: cheap, because most of the time it is gone already. */
export async function killShimProcess(pid: number, bundle: Bundle): Promise<void> {
  const deadline = Date.now() + KILL_TIMEOUT_MS;
  while (pid > 1 && worksIn(pid, bundle) && Date.now() < deadline) {
    kill(pid);
    await sleep(POLL_MS);
  }
}

/** Processes by their working directory. Containers have a root of their own, so none of theirs matches. */
function processesIn(isWanted: (directory: string) => boolean): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => isWanted(workingDirectory(pid)));
}

function worksIn(pid: number, bundle: Bundle): boolean {
  return bundle.isAt(workingDirectory(pid));
}

/** Empty for a process that is gone. The kernel adds a note for a directory that is gone (proc_pid_cwd(5)). */
function workingDirectory(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return '';
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error;
  }
}
