// One container: its init process, its execs, and the rules between them. Owns the runtime's container, the mounts of the
// root filesystem and the records in the bundle. Publishes nothing itself: it tells an observer, in the order in which
// events have to appear.

import { rmSync, writeFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { alreadyExists, errorKind, failedPrecondition, messageOf, notFound, unknown } from '../proto/errors';
import type { Options } from '../proto/generated/containerd.runc.v1';
import type { Mount } from '../proto/generated/containerd.types';
import { nowNs } from '../proto/time';
import { type Exit, writeExitRecord } from './exit';
import { ProcessStdio, type StdioRequest } from './io/stdio';
import { checkAction } from './lifecycle';
import type { Log } from './log';
import { TaskProcess } from './process';
import type { Runtime, RuntimeContainer, RuntimeSpec } from './runtime';
import { asKillError, orFail, runtimeError } from './runtime-errors';

export interface ContainerOptions {
  readonly id: string;
  readonly namespace: string;
  readonly bundle: string;
  readonly rootfs: readonly Mount[];
  readonly stdio: StdioRequest;
  readonly options: Options;
  readonly spec: RuntimeSpec;
}

export interface ContainerContext {
  readonly runtime: Runtime;
  readonly log: Log;
  /** A process runs. Reported before its exit. */
  readonly onStart: (container: Container, process: TaskProcess) => void;
  /** A process has ended; its record is in the bundle. Init is reported after all execs. */
  readonly onExit: (container: Container, process: TaskProcess, exit: Exit) => void;
  /** The kernel has killed in this container for want of memory. Reported before the exit that it caused. */
  readonly onOom: (container: Container) => void;
}

/** How long Delete waits for output that is still on its way. */
const DRAIN_MS = 10_000;
const SIGKILL = 9;

export class Container {
  readonly id: string;
  readonly bundle: string;
  readonly init: TaskProcess;
  readonly #options: ContainerOptions;
  readonly #context: ContainerContext;
  readonly #execs = new Map<string, TaskProcess>();
  readonly #runtimeContainer: RuntimeContainer;
  #oomsReported = 0;
  #runningExecs = 0;
  #isStarting = false;
  /** Init has ended but is not reported while execs run; none can be started any more. */
  #pendingInitExit: Exit | undefined;
  /** Work on init that must not overlap. */
  #queue: Promise<unknown> = Promise.resolve();

  /**
   * Mounts the root filesystem, opens the streams and creates the container.
   * @throws UNKNOWN "OCI runtime create failed: ..."; nothing is left behind then.
   */
  static async create(options: ContainerOptions, context: ContainerContext): Promise<Container> {
    const { runtime } = context;
    const mountPoint = join(options.bundle, 'rootfs');
    const init = new TaskProcess({ id: options.id, stdio: options.stdio });
    mountRootfs(runtime, options.rootfs, mountPoint);
    try {
      init.io = await openStdio(options, context, init.stdio, 'failed to create init process I/O');
      const create = runtime.create({ ...options, rootfs: rootfsPath(options), io: init.io.fds });
      return new Container(options, context, init, await orFail('OCI runtime create failed', create));
    } catch (error) {
      await init.io?.close();
      if (options.rootfs.length > 0) runtime.unmount(mountPoint);
      throw error;
    }
  }

  private constructor(
    options: ContainerOptions,
    context: ContainerContext,
    init: TaskProcess,
    container: RuntimeContainer,
  ) {
    this.id = options.id;
    this.bundle = options.bundle;
    this.init = init;
    this.#options = options;
    this.#context = context;
    this.#runtimeContainer = container;
    init.pid = container.pid;
    init.io?.attach(container.terminalFd);
    writeFileSync(join(this.bundle, 'init.pid'), String(container.pid), { mode: 0o644 });
  }

  /** Starts to report what happens to the container; called once its creation has been published. */
  watch(): void {
    this.#runtimeContainer.onOom(() => this.#reportOoms());
    this.#context.runtime.onExit(this.init.pid, (exitStatus) => this.#initExited(exitStatus));
  }

  /** The process of an exec id; init for the empty one. @throws NOT_FOUND */
  process(execId: string): TaskProcess {
    if (execId === '') return this.init;
    const exec = this.#execs.get(execId);
    if (exec === undefined) throw notFound(`process does not exist ${execId}`);
    return exec;
  }

  /** Starts init or an exec and returns its process. */
  async start(execId: string): Promise<TaskProcess> {
    const process = this.process(execId);
    if (process !== this.init) {
      await this.#startExec(process);
      return process;
    }
    return this.#serially(() => {
      checkAction('init', 'start', process.state);
      return this.#startInit();
    });
  }

  /** Adds an exec that can be started later. @throws ALREADY_EXISTS for an id in use. */
  addExec(execId: string, stdio: StdioRequest, document: Readonly<Record<string, unknown>>): void {
    if (this.#execs.has(execId)) throw alreadyExists(`id ${execId}`);
    checkAction('init', 'exec', this.init.state);
    this.#execs.set(execId, new TaskProcess({ id: execId, execId, stdio, document }));
  }

  /** Sends a signal to init, to all processes of the container, or to an exec. */
  async kill(execId: string, signal: number, all: boolean): Promise<void> {
    const target = this.process(execId);
    const isInit = target === this.init;
    // With "all" a stopped container is no mistake: whoever is left in it gets the signal.
    if (isInit && all && target.state === 'stopped') {
      if (signal === SIGKILL) await this.#killAll();
      return;
    }
    checkAction(isInit ? 'init' : 'exec', 'kill', target.state);
    try {
      if (isInit) await this.#runtimeContainer.kill(signal, all);
      else process.kill(target.pid, signal);
    } catch (error) {
      throw asKillError(error);
    }
    // A frozen process of cgroup v1 dies only when it is thawed.
    if (signal === SIGKILL && this.init.state === 'paused') await this.#resumeQuietly();
  }

  async pause(): Promise<void> {
    await this.#serially(async () => {
      checkAction('init', 'pause', this.init.state);
      this.init.state = 'pausing';
      try {
        await orFail('OCI runtime pause failed', this.#runtimeContainer.pause());
        if (this.init.exit === undefined) this.init.state = 'paused';
      } catch (error) {
        if (this.init.exit === undefined) this.init.state = 'running';
        throw error;
      }
    });
  }

  async resume(): Promise<void> {
    await this.#serially(async () => {
      checkAction('init', 'resume', this.init.state);
      try {
        await this.#runtimeContainer.resume();
      } catch (error) {
        throw runtimeError('OCI runtime resume failed', error);
      }
      if (this.init.exit === undefined) this.init.state = 'running';
    });
  }

  async update(resources: unknown): Promise<void> {
    await this.#serially(async () => {
      checkAction('init', 'update', this.init.state);
      await this.#runtimeContainer.update(resources);
    });
  }

  /** Ignored for a process without a terminal, and for init in every state, as runc's shim does. Sizes are cut to 16 bits, as the terminal's own are. */
  resize(execId: string, rows: number, columns: number): void {
    const process = this.process(execId);
    if (process !== this.init) checkAction('exec', 'resize', process.state);
    const fd = process.io?.terminalFd;
    if (fd !== undefined) this.#context.runtime.resizeTerminal(fd, rows & 0xffff, columns & 0xffff);
  }

  closeStdin(execId: string): void {
    this.process(execId).io?.closeStdin();
  }

  /** Pids of the container with the exec id of those that are execs. */
  pids(): { pid: number; execId: string | undefined }[] {
    const execIds = new Map([...this.#execs.values()].map((exec) => [exec.pid, exec.execId]));
    return this.#runtimeContainer.pids().map((pid) => ({ pid, execId: execIds.get(pid) }));
  }

  stats(): { typeUrl: string; value: Buffer } {
    return this.#runtimeContainer.stats();
  }

  /**
   * Removes an exec, or the container with all that belongs to it. Waits for output, within a limit.
   * @returns its exit; as of runc's shim none for a process that was never started, whatever became of it
   */
  async delete(execId: string): Promise<{ pid: number; exit: Exit | undefined }> {
    const process = this.process(execId);
    const { pid } = process;
    if (process === this.init) return { pid, exit: await this.#serially(() => this.#deleteInit()) };
    checkAction('exec', 'delete', process.state);
    await process.io?.drain(DRAIN_MS);
    await process.io?.close();
    rmSync(this.#pidFile(process), { force: true });
    process.state = 'deleted';
    this.#execs.delete(execId);
    return { pid, exit: process.exit };
  }

  async #startInit(): Promise<TaskProcess> {
    const { init } = this;
    this.#isStarting = true;
    try {
      await orFail('OCI runtime start failed', this.#runtimeContainer.start());
      init.state = 'running';
      this.#context.onStart(this, init);
    } finally {
      this.#isStarting = false;
      this.#reportInitExitIfDue();
    }
    return init;
  }

  async #startExec(exec: TaskProcess): Promise<void> {
    checkAction('exec', 'start', exec.state);
    if (this.#pendingInitExit !== undefined || this.init.state === 'stopped') {
      throw failedPrecondition(`container ${this.id} init process is not running`);
    }
    checkAction('init', 'exec', this.init.state);
    exec.state = 'running'; // A second Start that comes meanwhile is refused.
    this.#runningExecs++;
    try {
      exec.io = await openStdio(this.#options, this.#context, exec.stdio, 'failed to create exec process I/O');
      const start = this.#runtimeContainer.exec({ execId: exec.id, process: exec.document ?? {}, io: exec.io.fds });
      const started = await orFail('OCI runtime exec failed', start);
      exec.pid = started.pid;
      exec.io.attach(started.terminalFd);
    } catch (error) {
      exec.state = 'created';
      exec.setNeverStarted();
      await exec.io?.close();
      exec.io = undefined;
      this.#execEnded();
      throw error;
    }
    writeFileSync(this.#pidFile(exec), String(exec.pid), { mode: 0o644 });
    this.#context.onStart(this, exec);
    this.#context.runtime.onExit(exec.pid, (exitStatus) => this.#execExited(exec, exitStatus));
  }

  #execExited(exec: TaskProcess, exitStatus: number): void {
    const exit = { pid: exec.pid, exitStatus, exitedAtNs: nowNs() };
    this.#record(exec.execId, exit);
    this.#reportOoms();
    exec.setExited(exit);
    this.#context.onExit(this, exec, exit);
    this.#execEnded();
  }

  #execEnded(): void {
    this.#runningExecs--;
    this.#reportInitExitIfDue();
  }

  #initExited(exitStatus: number): void {
    const exit = { pid: this.init.pid, exitStatus, exitedAtNs: nowNs() };
    this.#record(undefined, exit);
    this.#reportOoms();
    // With a pid namespace of its own the kernel has killed the others together with init (pid_namespaces(7)).
    if (!hasPrivatePidNamespace(this.#options.spec)) void this.#killAll(); // Handles its own failures.
    this.#pendingInitExit = exit;
    this.#reportInitExitIfDue();
  }

  #reportInitExitIfDue(): void {
    const exit = this.#pendingInitExit;
    if (exit === undefined || this.#runningExecs > 0 || this.#isStarting || this.init.exit !== undefined) return;
    if (this.init.state === 'paused') void this.#resumeQuietly(); // Handles its own failures.
    this.init.setExited(exit);
    this.#context.onExit(this, this.init, exit);
  }

  async #deleteInit(): Promise<Exit | undefined> {
    checkAction('init', 'delete', this.init.state);
    const hasStarted = this.init.state !== 'created';
    if (!hasStarted) {
      await this.#killAll();
      await this.init.wait(AbortSignal.timeout(DRAIN_MS));
    }
    await this.init.io?.drain(DRAIN_MS);
    await orFail('OCI runtime delete failed', this.#runtimeContainer.delete());
    for (const process of [this.init, ...this.#execs.values()]) await process.io?.close();
    if (this.#options.rootfs.length > 0) this.#context.runtime.unmount(join(this.bundle, 'rootfs'));
    this.init.state = 'deleted';
    return hasStarted ? this.init.exit : undefined;
  }

  async #killAll(): Promise<void> {
    try {
      await this.#runtimeContainer.kill(SIGKILL, true);
    } catch (error) {
      if (errorKind(error) !== 'not found') {
        this.#context.log.warn('kill all processes of the container', { id: this.id, error: messageOf(error) });
      }
    }
  }

  async #resumeQuietly(): Promise<void> {
    try {
      await this.#runtimeContainer.resume();
    } catch (error) {
      this.#context.log.warn('resume an exited container', { id: this.id, error: messageOf(error) });
    }
  }

  #reportOoms(): void {
    const count = this.#runtimeContainer.oomCount();
    for (; this.#oomsReported < count; this.#oomsReported++) this.#context.onOom(this);
  }

  /** The record serves a daemon that finds no shim; failing to write it must not keep the exit from those who wait. */
  #record(execId: string | undefined, exit: Exit): void {
    try {
      writeExitRecord(this.bundle, execId, exit);
    } catch (error) {
      this.#context.log.error('write exit record', { id: this.id, error: messageOf(error) });
    }
  }

  #pidFile(exec: TaskProcess): string {
    return join(this.bundle, `${exec.id}.pid`);
  }

  /** Runs after everything that was given before, whether that succeeded or not. */
  #serially<T>(work: () => T | Promise<T>): Promise<T> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => {});
    return result;
  }
}

function mountRootfs(runtime: Runtime, mounts: readonly Mount[], target: string): void {
  if (mounts.length === 0) return;
  try {
    runtime.mount(mounts, target);
  } catch (cause) {
    throw unknown(`failed to mount rootfs component: ${messageOf(cause)}`, { cause });
  }
}

/** What the container gets as root: the mounted filesystem, else what the spec names, relative to the bundle. */
function rootfsPath(options: ContainerOptions): string {
  if (options.rootfs.length > 0) return join(options.bundle, 'rootfs');
  const path = options.spec.root?.path ?? 'rootfs';
  return isAbsolute(path) ? path : join(options.bundle, path);
}

async function openStdio(
  options: ContainerOptions,
  context: ContainerContext,
  request: StdioRequest,
  failure: string,
): Promise<ProcessStdio> {
  const { id, namespace } = options;
  const { ioUid: uid, ioGid: gid } = options.options;
  try {
    return await ProcessStdio.open(request, { runtime: context.runtime, id, namespace, uid, gid });
  } catch (cause) {
    throw unknown(`${failure}: ${messageOf(cause)}`, { cause });
  }
}

function hasPrivatePidNamespace(spec: RuntimeSpec): boolean {
  return spec.linux?.namespaces?.some(({ type, path = '' }) => type === 'pid' && path === '') ?? false;
}
