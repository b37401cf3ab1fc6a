// Hands the listener of a seccomp filter, and the state of the process that has loaded it, to the agent at listenerPath
// (runtime-spec config-linux.md, Containerprocess state).

import { closeSync, constants, openSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno, unknown } from '../../proto/errors';
import { errorText } from '../failure';
import type { HookState } from '../hooks';
import { connectAt, descriptorOf, sendDescriptor } from '../native';
import type { Seccomp } from '../spec';

export interface FilteredProcess {
  readonly pid: number;
  readonly pidfd: number;
  /** The number that the listener has there, as soon as the filter is loaded. */
  readonly listener: number;
}

const LISTENER_NAME = 'seccompFd';
const POLL_MS = 1;
const LOAD_TIMEOUT_MS = 10_000;

/**
 * Returns without a word when the process has ended, whose failure tells more.
 * @throws UNKNOWN `linux.seccomp.listenerPath: ...` when nobody takes it
 */
export async function deliverListener(process: FilteredProcess, profile: Seccomp, state: HookState): Promise<void> {
  const path = profile.listenerPath ?? '';
  const fd = await takeListener(process);
  if (fd === undefined) return;
  const document = {
    ociVersion: state.ociVersion,
    fds: [LISTENER_NAME],
    pid: process.pid,
    metadata: profile.listenerMetadata ?? '',
    state,
  };
  try {
    send(path, fd, JSON.stringify(document));
  } catch (error) {
    const reason = `cannot hand over the listener at ${path}: ${errorText(error)}`;
    throw unknown(`linux.seccomp.listenerPath: ${reason}`, { cause: error });
  } finally {
    closeSync(fd);
  }
}

function send(path: string, fd: number, text: string): void {
  const directory = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const socket = connectAt(directory, basename(path), 'stream');
    try {
      sendDescriptor(socket, fd, text);
    } finally {
      closeSync(socket);
    }
  } finally {
    closeSync(directory);
  }
}

/** The process itself cannot send it: what it calls from then on may wait for the agent. */
async function takeListener({ pidfd, listener }: FilteredProcess): Promise<number | undefined> {
  for (const end = Date.now() + LOAD_TIMEOUT_MS; Date.now() < end; await sleep(POLL_MS)) {
    try {
      return descriptorOf(pidfd, listener);
    } catch (error) {
      if (isErrno(error, 'ESRCH')) return undefined;
      if (!isErrno(error, 'EBADF')) throw error;
    }
  }
  throw unknown('the seccomp filter has not been loaded in time');
}
