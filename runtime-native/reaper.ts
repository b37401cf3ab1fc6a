// Exit statuses of child processes. The process becomes the reaper of its descendants (child subreaper), so orphans of
// containers end here too. Children of node:child_process are left to libuv.

/** code is the exit status (128 + signal when a signal ended the process); signal is 0 otherwise. */
export interface ExitStatus {
  readonly code: number;
  readonly signal: number;
  /** When it was reaped, nanoseconds since 1970. */
  readonly exitedAt: bigint;
}

export class Reaper {
  /** The one of this process: makes it a subreaper and listens for SIGCHLD at the first call. */
  static shared(): Reaper {
    return new Reaper();
  }

  /** Calls the listener once, never before this call has returned; also when the process has exited before. */
  onExit(_pid: number, _listener: (status: ExitStatus) => void): void {
    throw new Error('not yet');
  }
}
