// A container of the OCI runtime, from create to delete, inside the process that calls it. It knows no daemon, no events
// and no clients; its errors carry the words of runc, which clients look for.

import { closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno, messageOf, notFound, unknown } from '../proto/errors';
import { type Cgroup, reopenCgroup } from './cgroup/cgroup';
import { createContainer, hookState } from './create';
import { execProcess } from './exec';
import { type HookState, runHooks } from './hooks';
import { LaunchedInit } from './launch';
import { ResourceControl, type Schemata } from './launcher/resource-control';
import { openPidfd, signalPidfd } from './native';
import type { CompiledFilter } from './plan/credentials';
import { compileSeccomp } from './seccomp/seccomp';
import type { IntelRdt, LinuxResources, Process, Spec } from './spec';
import {
  connectForStart,
  loadSpec,
  loadState,
  processStartTime,
  removeStartSocket,
  removeState,
  saveSpec,
  waitsForStart,
} from './state';

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
  /** Whether it does without cgroups that the caller has no rights to make; by itself an ordinary user's does. */
  readonly rootless?: boolean | undefined;
  readonly noPivotRoot?: boolean | undefined;
  readonly noNewKeyring?: boolean | undefined;
  /** Become 3, 4, ... of the process. They stay the caller's. */
  readonly files?: readonly number[] | undefined;
  /** Keeps the configuration in the state directory, so that other processes can exec. */
  readonly keepsSpec?: boolean | undefined;
  /** Other processes can start it, and it does not end with this one. */
  readonly startSocket?: boolean | undefined;
}

export interface ExecOptions {
  readonly execId: string;
  readonly process: Process;
  readonly io: ProcessIo | 'terminal';
  /** Become 3, 4, ... of the process. They stay the caller's. */
  readonly files?: readonly number[] | undefined;
  /** Groups below those of the container, as Cgroup.below() takes them. */
  readonly cgroups?: ReadonlyMap<string, string> | undefined;
  /** In a paused container it waits until that is resumed; otherwise it is an error. */
  readonly ignoresPause?: boolean | undefined;
}

export type ContainerStatus = 'creating' | 'created' | 'running' | 'paused' | 'stopped';

export interface StartedProcess {
  readonly pid: number;
  /** The pty's master when io was 'terminal'. The caller closes it. */
  readonly terminalFd: number | undefined;
}

interface Parts {
  readonly id: string;
  readonly root: string;
  readonly bundle: string;
  readonly pid: number;
  readonly pidfd: number;
  readonly terminalFd: number | undefined;
  readonly cgroup: Cgroup;
  readonly spec: Spec;
  /** Undefined also when it has not been looked at. */
  readonly seccomp: CompiledFilter | undefined;
  readonly cacheDir: string | undefined;
  readonly noNewKeyring: boolean;
  /** The process when this one made it and is to start it. */
  readonly init: LaunchedInit | undefined;
}

const SIGKILL = 9;
/** Start waits this long for the exec, so that whoever looks next sees the program; a slow one is no error. */
const EXEC_WAIT_MS = 5000;
const KILL_ROUNDS_MAX = 1000;
const KILL_WAIT_MS = 5;

export class Container {
  readonly id: string;
  /** Of the container's first process, in the caller's pid namespace. */
  readonly pid: number;
  /** The pty's master when io was 'terminal'. The caller closes it. */
  readonly terminalFd: number | undefined;
  private readonly parts: Parts;
  private readonly stopWatching: (() => void)[] = [];
  private isPaused = false;
  private isDeleted = false;
  private intelRdt: IntelRdt | null | undefined;

  private constructor(parts: Parts) {
    this.parts = parts;
    this.id = parts.id;
    this.pid = parts.pid;
    this.terminalFd = parts.terminalFd;
    this.intelRdt = parts.spec.linux?.intelRdt;
  }

  /**
   * OCI create: the process exists with everything set up and waits in front of its exec. Register with
   * `Reaper.shared().onExit(container.pid, ...)` afterwards; an exit in between is not lost.
   * @throws UNKNOWN `runc create failed: unable to start container process: exec: "/x": stat /x: no such file or directory`;
   * ALREADY_EXISTS when the state directory has the id. Nothing is left behind on failure.
   */
  static async create(options: CreateOptions): Promise<Container> {
    const { init, cgroup, seccomp, terminalFd } = await createContainer(options);
    const { id, root, bundle, spec, cacheDir, noNewKeyring = false } = options;
    const { pid, pidfd } = init;
    const parts = { id, root, bundle, pid, pidfd, terminalFd, cgroup, spec, seccomp, cacheDir, noNewKeyring, init };
    if (!options.startSocket) return new Container(parts);
    init.hangUp();
    return new Container({ ...parts, init: undefined });
  }

  /**
   * A container whose process this is not the parent of, from its state directory. Without its configuration (see
   * CreateOptions.keepsSpec) it is only good for kill, stats and delete.
   * @param cacheDir - as in CreateOptions
   * @throws NOT_FOUND
   */
  static load(root: string, id: string, cacheDir?: string): Container {
    const state = loadState(root, id);
    const { bundle, pid, annotations, poststop, noNewKeyring } = state;
    const spec = loadSpec(root, id);
    const container = new Container({
      id,
      root,
      bundle,
      pid,
      pidfd: pidfdOf(pid, state.pidStartTime),
      terminalFd: undefined,
      cgroup: reopenCgroup(state.cgroupPaths, state.systemdCgroup),
      spec: spec ?? { ociVersion: '1.0.2', annotations, hooks: { poststop } },
      seccomp: undefined,
      cacheDir,
      noNewKeyring,
      init: undefined,
    });
    container.isPaused = container.parts.cgroup.isFrozen();
    return container;
  }

  /**
   * Lets the process exec; runs startContainer and poststart hooks.
   * @throws UNKNOWN when it has been started or a hook fails, which ends the container
   */
  async start(): Promise<void> {
    const { spec } = this.parts;
    const init = this.parts.init ?? this.connect();
    try {
      await runHooks(spec.hooks?.startContainer, this.hookState('created'), this.pid);
      init.proceed();
      await init.nextWithin(EXEC_WAIT_MS);
      if (this.parts.init === undefined) removeStartSocket(this.parts.root, this.id);
      await runHooks(spec.hooks?.poststart, this.hookState('running'), undefined);
    } catch (error) {
      if (isErrno(error, 'EPIPE', 'EBADF')) throw this.cannotStart();
      this.trySignal(SIGKILL);
      throw unknown(`runc start failed: ${messageOf(error)}`, { cause: error });
    } finally {
      init.hangUp();
    }
  }

  status(): ContainerStatus {
    const { pidfd, root, id, cgroup } = this.parts;
    if (this.pid === 0) return 'creating';
    if (pidfd < 0 || !this.trySignal(0)) return 'stopped';
    if (waitsForStart(root, id)) return 'created';
    return cgroup.isFrozen() ? 'paused' : 'running';
  }

  /**
   * Starts a further process in the container's namespaces and cgroups; resolves when it has called exec.
   * @throws UNKNOWN `exec failed: unable to start container process: ...`
   */
  async exec(options: ExecOptions): Promise<StartedProcess> {
    if (this.isPaused && !options.ignoresPause) {
      throw unknown('cannot exec in a paused container (use --ignore-paused to override)');
    }
    if (this.parts.pidfd < 0) throw unknown('cannot exec in a stopped container');
    const seccomp = this.parts.seccomp ?? compileSeccomp(this.parts.spec.linux?.seccomp, this.parts.cacheDir);
    const { cgroups } = options;
    const cgroup = cgroups === undefined ? this.parts.cgroup : this.parts.cgroup.below(cgroups);
    return execProcess({ ...this.parts, cgroup, seccomp, intelRdt: this.intelRdt }, options);
  }

  /**
   * Signals the first process, or every process of the container.
   * @throws NOT_FOUND `process already finished` when it has exited
   */
  kill(signal: number, all: boolean): void {
    if (all) this.parts.cgroup.signalAll(signal);
    else if (!this.trySignal(signal)) throw notFound('process already finished');
  }

  /** Resolves when all processes are frozen. */
  async pause(): Promise<void> {
    await this.parts.cgroup.freeze();
    this.isPaused = true;
  }

  resume(): void {
    this.parts.cgroup.thaw();
    this.isPaused = false;
  }

  /**
   * Changes limits of the running container; what is not given stays. Without a class of service for its cache and memory
   * bandwidth it gets one of its own when schemata are given.
   * @throws UNKNOWN in runc's words
   */
  async update(resources: LinuxResources, schemata: Schemata = {}): Promise<void> {
    ResourceControl.check(schemata);
    await this.parts.cgroup.apply(resources, true);
    if (schemata.l3CacheSchema || schemata.memBwSchema) this.updateResourceControl(schemata);
  }

  /** Of all processes of the container, in the caller's pid namespace. */
  pids(): number[] {
    return this.parts.cgroup.pids();
  }

  /** An encoded io.containerd.cgroups.v1.Metrics or v2.Metrics, ready for an Any. */
  stats(): { typeUrl: string; value: Buffer } {
    return this.parts.cgroup.stats();
  }

  /** How often the kernel killed a process of the container for want of memory. */
  oomCount(): number {
    return this.parts.cgroup.oomCount();
  }

  /** Calls the listener whenever the container is out of memory (v1: just before the kill, v2: after it) until delete. */
  onOom(listener: () => void): void {
    this.stopWatching.push(this.parts.cgroup.watchOom(listener));
  }

  /**
   * Kills what is left, removes cgroups and state, runs poststop hooks. Works in every state and twice.
   * @throws the first error, after everything has been tried
   */
  async delete(): Promise<void> {
    if (this.isDeleted) return;
    this.isDeleted = true;
    const { init, cgroup, spec, pidfd, root } = this.parts;
    const errors: unknown[] = [];
    const step = async (body: () => void | Promise<void>) => {
      try {
        await body();
      } catch (error) {
        errors.push(error);
      }
    };
    for (const stop of this.stopWatching) stop();
    init?.hangUp();
    await step(() => this.killAll());
    await step(() => cgroup.remove());
    const rdt = this.intelRdt;
    if (rdt) await step(() => ResourceControl.removeFor(rdt, this.id));
    await step(() => runHooks(spec.hooks?.poststop, this.hookState('stopped'), undefined));
    await step(() => removeState(root, this.id));
    if (pidfd >= 0) closeSync(pidfd);
    if (errors.length > 0) throw errors[0];
  }

  private updateResourceControl(schemata: Schemata): void {
    const { id, root, cgroup } = this.parts;
    const { closID } = this.intelRdt ?? {};
    const control = new ResourceControl({ ...(closID === undefined ? {} : { closID }), ...schemata }, id);
    if (this.intelRdt) {
      control.writeSchemata();
      return;
    }
    const spec = loadSpec(root, id);
    control.createFor(() => cgroup.pids());
    this.intelRdt = {};
    if (spec !== undefined) saveSpec(root, id, { ...spec, linux: { ...spec.linux, intelRdt: {} } });
  }

  /** To the process of a container that others made. @throws UNKNOWN when it does not wait to be started */
  private connect(): LaunchedInit {
    const { root, id, pid, pidfd } = this.parts;
    let socket: number | undefined;
    try {
      socket = pidfd < 0 ? undefined : connectForStart(root, id);
    } catch (error) {
      throw unknown(`runc start failed: ${messageOf(error)}`, { cause: error });
    }
    if (socket === undefined) throw this.cannotStart();
    return new LaunchedInit({ pid, pidfd }, socket, { plan: { operations: [], inherited: [] }, inInit: true });
  }

  private cannotStart(): Error {
    // A signal reaches a process that has ended until somebody reaps it.
    const isAlive = this.trySignal(0) && processStartTime(this.pid) !== '';
    return unknown(isAlive ? 'cannot start an already running container' : 'cannot start a container that has stopped');
  }

  /** Kills until the kernel knows no process of the container any more. */
  private async killAll(): Promise<void> {
    this.trySignal(SIGKILL);
    const { cgroup } = this.parts;
    for (let round = 0; round < KILL_ROUNDS_MAX; round++) {
      if (cgroup.pids().length === 0) return;
      cgroup.signalAll(SIGKILL);
      await sleep(KILL_WAIT_MS);
    }
    throw unknown(`processes of container "${this.id}" do not end: ${cgroup.pids().join(', ')}`);
  }

  /** False when the process has exited. */
  private trySignal(signal: number): boolean {
    if (this.parts.pidfd < 0) return false;
    try {
      signalPidfd(this.parts.pidfd, signal);
      return true;
    } catch (error) {
      if (isErrno(error, 'ESRCH', 'EBADF')) return false;
      throw error;
    }
  }

  private hookState(status: HookState['status']): HookState {
    return hookState(this.parts.spec, this.parts, status === 'stopped' ? 0 : this.pid, status);
  }
}

/** -1 when the process has gone, even if its pid is in use again. */
function pidfdOf(pid: number, startTime: string): number {
  try {
    const pidfd = openPidfd(pid);
    if (startTime !== '' && processStartTime(pid) === startTime) return pidfd;
    closeSync(pidfd);
    return -1;
  } catch (error) {
    if (isErrno(error, 'ESRCH', 'EINVAL')) return -1;
    throw error;
  }
}
