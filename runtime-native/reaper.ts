// Exit statuses of child processes. The process becomes the reaper of its descendants (child subreaper), so orphans of
// containers end here too. Children of node:child_process are left to libuv.

import { nowNs } from '../proto/time';
import { becomeSubreaper, peekExited, reap, type WaitResult } from './native';

/** code is the exit status (128 + signal when a signal ended the process); signal is 0 otherwise. */
export interface ExitStatus {
  readonly code: number;
  readonly signal: number;
  /** When it was reaped, nanoseconds since 1970. */
  readonly exitedAt: bigint;
}

type Listener = (status: ExitStatus) => void;

const CLD_EXITED = 1;
const SIGNAL_BASE = 128;
/** libuv reaps its own children in the turn in which SIGCHLD arrives; what is still there afterwards is an orphan. */
const ORPHAN_GRACE_MS = 1000;

let shared: Reaper | undefined;

export class Reaper {
  /** Children that wait for their exit or for somebody to ask for it. */
  private readonly tracked = new Map<number, { listener: Listener | undefined; status: ExitStatus | undefined }>();
  private orphanTimer: NodeJS.Timeout | undefined;

  private readonly onSignal = () => this.collect();

  private constructor() {
    becomeSubreaper();
    process.on('SIGCHLD', this.onSignal);
  }

  /** The one of this process: makes it a subreaper and listens for SIGCHLD at the first call. */
  static shared(): Reaper {
    shared ??= new Reaper();
    return shared;
  }

  /** Stops listening. The next shared() starts anew: before a fork, and in the child (a subreaper's child is none). */
  static close(): void {
    if (shared === undefined) return;
    process.off('SIGCHLD', shared.onSignal);
    clearTimeout(shared.orphanTimer);
    shared = undefined;
  }

  /** Calls the listener once, never before this call has returned; also when the process has exited before. */
  onExit(pid: number, listener: Listener): void {
    const entry = this.tracked.get(pid);
    if (entry === undefined) {
      this.tracked.set(pid, { listener, status: undefined });
      setImmediate(() => this.collectOne(pid));
    } else if (entry.status === undefined) {
      entry.listener = listener;
    } else {
      const { status } = entry;
      this.tracked.delete(pid);
      setImmediate(() => listener(status));
    }
  }

  /** Keeps the exit status of a child until onExit asks for it. */
  track(pid: number): void {
    this.tracked.set(pid, { listener: undefined, status: undefined });
  }

  /** Whether a tracked child has been reaped: its pid may be anybody's. */
  hasReaped(pid: number): boolean {
    return this.tracked.get(pid)?.status !== undefined;
  }

  /** Undoes track. True when the child has not been reaped, which is the caller's task then. */
  forget(pid: number): boolean {
    const entry = this.tracked.get(pid);
    this.tracked.delete(pid);
    return entry !== undefined && entry.status === undefined;
  }

  /** Looks for exits now. SIGCHLD calls it; who does not get the signal (a test sandbox) may. */
  collect(): void {
    for (const pid of [...this.tracked.keys()]) this.collectOne(pid);
    this.lookForOrphans(ORPHAN_GRACE_MS);
  }

  private collectOne(pid: number): void {
    const entry = this.tracked.get(pid);
    if (entry === undefined || entry.status !== undefined) return;
    const result = reapIfChild(pid);
    if (result === undefined) return;
    const status = toStatus(result);
    if (entry.listener === undefined) {
      entry.status = status;
    } else {
      this.tracked.delete(pid);
      entry.listener(status);
    }
  }

  /** libuv handles signals between a timer and an immediate: what is there at both is none of its children. */
  private reapOrphans(): void {
    this.orphanTimer = undefined;
    const suspect = peekExited();
    if (suspect === 0) return;
    setImmediate(() => {
      if (this.tracked.has(suspect)) this.collectOne(suspect);
      else if (peekExited() === suspect) reapIfChild(suspect);
      this.lookForOrphans(0);
    });
  }

  private lookForOrphans(delayMs: number): void {
    if (peekExited() !== 0) this.orphanTimer ??= setTimeout(() => this.reapOrphans(), delayMs).unref();
  }
}

/** The exit status of a child that nobody tracks, once; undefined while it runs. @throws ECHILD */
export function reapChild(pid: number): number | undefined {
  const result = reap(pid, false);
  return result === undefined ? undefined : toStatus(result).code;
}

function reapIfChild(pid: number): WaitResult | undefined {
  try {
    return reap(pid, false);
  } catch {
    // Not a child, or somebody else has reaped it.
    return undefined;
  }
}

function toStatus({ code, status }: WaitResult): ExitStatus {
  const exitedAt = nowNs();
  if (code === CLD_EXITED) return { code: status, signal: 0, exitedAt };
  return { code: SIGNAL_BASE + status, signal: status, exitedAt };
}
