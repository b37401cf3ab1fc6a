// A container of the OCI runtime, from create to delete, inside the process that calls it. It knows no daemon, no events
// and no clients; its errors carry the words of runc, which clients look for.

import { notImplemented } from '../proto/errors';
import type { LinuxResources, Process, Spec } from './spec';

/** Descriptors handed to a process as 0, 1 and 2; -1 is /dev/null. They stay the caller's: close them after the call. */
export interface ProcessIo {
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}

export interface CreateOptions {
  readonly id: string;
  /** Absolute; what hooks and the state tell of it. */
  readonly bundle: string;
  readonly spec: Spec;
  /** The mounted root filesystem, absolute. */
  readonly rootfs: string;
  readonly io: ProcessIo | 'terminal';
  /** State directory of the runtime; the container gets a directory of its own in it. */
  readonly root: string;
  /** Where compiled seccomp filters are kept between processes; without it they are compiled each time. */
  readonly cacheDir?: string | undefined;
  readonly systemdCgroup?: boolean | undefined;
  readonly noPivotRoot?: boolean | undefined;
  readonly noNewKeyring?: boolean | undefined;
}

export interface ExecOptions {
  readonly execId: string;
  readonly process: Process;
  readonly io: ProcessIo | 'terminal';
}

export interface StartedProcess {
  readonly pid: number;
  /** The pty's master when io was 'terminal'. The caller closes it. */
  readonly terminalFd: number | undefined;
}

export class Container {
  readonly id: string;
  /** Of the container's first process, in the caller's pid namespace. */
  readonly pid: number;
  /** The pty's master when io was 'terminal'. The caller closes it. */
  readonly terminalFd: number | undefined;

  private constructor(id: string, pid: number, terminalFd: number | undefined) {
    this.id = id;
    this.pid = pid;
    this.terminalFd = terminalFd;
  }

  /**
   * OCI create: the process exists with everything set up and waits in front of its exec. Register with
   * `Reaper.shared().onExit(container.pid, ...)` afterwards; an exit in between is not lost.
   * @throws UNKNOWN `runc create failed: unable to start container process: exec: "/x": stat /x: no such file or directory`;
   * ALREADY_EXISTS when the state directory has the id. Nothing is left behind on failure.
   */
  static create(_options: CreateOptions): Promise<Container> {
    throw notImplemented('container create');
  }

  /**
   * A container of a process that is gone, from its state directory: for kill, stats and delete.
   * @throws NOT_FOUND
   */
  static load(_root: string, _id: string): Container {
    throw notImplemented('container load');
  }

  /** Lets the process exec; runs startContainer and poststart hooks. */
  start(): Promise<void> {
    throw notImplemented('container start');
  }

  /**
   * Starts a further process in the container's namespaces and cgroups; resolves when it has called exec.
   * @throws UNKNOWN `exec failed: unable to start container process: ...`
   */
  exec(_options: ExecOptions): Promise<StartedProcess> {
    throw notImplemented('container exec');
  }

  /**
   * Signals the first process, or every process of the container.
   * @throws NOT_FOUND `process already finished` when it has exited.
   */
  kill(_signal: number, _all: boolean): void {
    throw notImplemented('container kill');
  }

  /** Resolves when all processes are frozen. */
  pause(): Promise<void> {
    throw notImplemented('container pause');
  }

  resume(): void {
    throw notImplemented('container resume');
  }

  update(_resources: LinuxResources): void {
    throw notImplemented('container update');
  }

  pids(): number[] {
    throw notImplemented('container pids');
  }

  /** An encoded io.containerd.cgroups.v1.Metrics or v2.Metrics, ready for an Any. */
  stats(): { typeUrl: string; value: Buffer } {
    throw notImplemented('container stats');
  }

  /** How often the kernel killed a process of the container for want of memory. */
  oomCount(): number {
    throw notImplemented('container oom');
  }

  /** Calls the listener after each such kill until delete. */
  onOom(_listener: () => void): void {
    throw notImplemented('container oom');
  }

  /** Kills what is left, runs poststop hooks, removes cgroups and state. Works in every state and twice. */
  delete(): Promise<void> {
    throw notImplemented('container delete');
  }
}
