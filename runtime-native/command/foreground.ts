// Waiting for a process in the foreground: its terminal is joined with ours, signals are passed on, its exit code is ours.

import { constants } from 'node:os';
import { isErrno } from '../../proto/errors';
import { openPidfd, signalPidfd } from '../native';
import { Reaper } from '../reaper';
import type { Console } from './console';

/** The kernel keeps two for itself, a fault is ours, and these are about our own children, reader and terminal. */
const NOT_PASSED_ON = new Set(
  'SIGKILL SIGSTOP SIGCHLD SIGPIPE SIGSEGV SIGBUS SIGFPE SIGILL SIGTRAP SIGABRT SIGIOT SIGWINCH SIGURG SIGTTIN SIGTTOU SIGSTKFLT SIGPROF SIGSYS SIGUNUSED'.split(
    ' ',
  ),
);

/** Passes the signals that we get on to a child that the reaper tracks, if it has not ended. */
export function passSignals(pid: number): void {
  if (Reaper.shared().hasReaped(pid)) return;
  const pidfd = openPidfd(pid);
  for (const [name, number] of Object.entries(constants.signals)) {
    if (NOT_PASSED_ON.has(name)) continue;
    process.on(name, () => {
      try {
        signalPidfd(pidfd, number);
      } catch (error) {
        if (!isErrno(error, 'ESRCH')) throw error;
      }
    });
  }
}

/** The exit code of a child of ours. */
export async function waitInForeground(pid: number, terminalFd: number | undefined): Promise<number> {
  const terminal = terminalFd === undefined ? undefined : await consoleOf(terminalFd);
  const { code } = await new Promise<{ code: number }>((resolve) => Reaper.shared().onExit(pid, resolve));
  await terminal?.close();
  return code;
}

/** Node's terminals are loaded only for this. */
async function consoleOf(master: number): Promise<Console> {
  const { Console } = await import('./console.js');
  return new Console(master);
}
