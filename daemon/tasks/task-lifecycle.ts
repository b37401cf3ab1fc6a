// Create, Start and Delete: the calls that make and unmake a task and its processes. The intent of a Create is on
// record before its first side effect; a Create that fails at any step leaves nothing behind.

import { ApiError, alreadyExists, errorKind, isNotFound, messageOf, unknown } from '../../proto/errors';
import { Options as RuncOptions } from '../../proto/generated/containerd.runc.v1';
import type { Mount } from '../../proto/generated/containerd.types';
import type { Any } from '../../proto/generated/google.protobuf';
import { fromTimestamp, nowNs } from '../../proto/time';
import { Bundle } from './bundle';
import type { ShimLauncher } from './launcher';
import type { ShimParts } from './parts';
import { initOf } from './process-tracker';
import type { ResolvedRuntime } from './runtimes';
import { isShimGone, ShimClient } from './shim-client';
import { ShimLog } from './shim-log';
import { containerNotFound, Task, taskNotFound } from './task';
import type { ContainerParts, Exit, ProcessIo, ProcessKey, TaskKey } from './task-store';

/** Runtimes whose options must be those of runc. */
const RUNC_RUNTIME = 'io.containerd.runc.v2';
/** Lines of the shim's log that go into an error message. */
const MESSAGE_LOG_LINES = 3;

export interface CreateRequest extends ProcessIo {
  readonly rootfs: readonly Mount[];
  readonly options: Any | undefined;
  readonly runtimePath: string;
}

export interface LifecycleParts extends ShimParts {
  readonly launchers: { readonly own: ShimLauncher; readonly foreign: ShimLauncher };
}

export class TaskLifecycle {
  private readonly parts: LifecycleParts;

  constructor(parts: LifecycleParts) {
    this.parts = parts;
  }

  /** @returns the pid of init, which waits for Start. */
  create(key: TaskKey, request: CreateRequest, signal: AbortSignal): Promise<number> {
    return this.parts.registry.exclusiveCall(key, signal, async () => {
      const { store, registry, resolver } = this.parts;
      const container = store.getContainer(key);
      if (container === undefined) throw containerNotFound(key);
      if (store.getTask(key) !== undefined) throw alreadyExists(`task ${key.id}`);
      checkOptions(container.runtime, request.options);
      const runtime = prefixed('failed to start shim', () => resolver.resolve(container.runtime, request.runtimePath));
      const task = new Task(key, new Bundle(this.parts.directories, key), 'creating');
      task.shimPath = runtime.path;
      task.isOwnShim = runtime.kind === 'own';
      this.recordIntent(task, container.runtime);
      registry.add(task);
      return await this.bringUp(task, { container, runtime, request, signal });
    });
  }

  async start(key: ProcessKey, signal: AbortSignal): Promise<number> {
    return key.execId === ''
      ? this.parts.registry.exclusiveCall(key, signal, () => this.startNow(key, signal))
      : this.startNow(key, signal);
  }

  /** Deletes an exited, or never started, task. */
  delete(key: TaskKey, signal: AbortSignal): Promise<Exit> {
    return this.parts.registry.exclusiveCall(key, signal, async () => {
      const task = this.parts.registry.get(key);
      if (task === undefined) throw taskNotFound(key);
      const client = await task.shim(signal);
      try {
        const reply = await client.call('delete', { id: key.id, execId: '' }, signal);
        const exit = { pid: reply.pid, exitStatus: reply.exitStatus, exitedAt: fromTimestamp(reply.exitedAt) };
        await this.finish(task, exit);
        return exit;
      } catch (error) {
        if (isShimGone(error) || isNotFound(error)) return await this.parts.cleaner.bury(task, { hold: false });
        throw errorKind(error) === 'unknown'
          ? unknown(`failed to delete task: ${messageOf(error)}`, { cause: error })
          : error;
      }
    });
  }

  private recordIntent(task: Task, runtime: string): void {
    this.parts.store.insertTask({
      ...task.key,
      bundle: task.bundle.path,
      runtime,
      shimPath: task.shimPath,
      shimPid: 0,
      shimAddress: '',
      shimVersion: 0,
      state: 'creating',
      createdAt: nowNs(),
    });
  }

  private async bringUp(task: Task, input: CreateInput): Promise<number> {
    // Events of the shim queue up behind this until the task is acknowledged, and are dropped when it is abandoned.
    const acknowledged = Promise.withResolvers<void>();
    void task.transitions.run(() => acknowledged.promise);
    try {
      const pid = await this.launch(task, input);
      const { request } = input;
      this.parts.tracker.created(task.key, {
        pid,
        io: ioOf(request),
        bundle: task.bundle.path,
        rootfs: request.rootfs,
      });
      task.phase = 'ready';
      if (task.client?.isClosed === true) this.parts.onShimGone(task);
      return pid;
    } catch (error) {
      // A shim that has answered has undone what it did, and what is in the cgroup may be somebody else's.
      const mayHaveCgroups = isShimGone(error) || input.signal.aborted;
      await this.parts.cleaner.abandon(task, { mayHaveCgroups });
      throw error;
    } finally {
      acknowledged.resolve();
    }
  }

  private async launch(task: Task, input: CreateInput): Promise<number> {
    const { container, runtime, request, signal } = input;
    const { launchers, logger, onShimGone, store } = this.parts;
    const options = request.options ?? container.options;
    task.bundle.create(container.spec);
    task.bundle.writeShimPath(runtime.path);
    task.log = ShimLog.open(task.bundle.logFifo, (line) => logger.info('shim log', { ...task.key, line }));
    const shim = await failing('failed to start shim', task, () =>
      launchers[runtime.kind].start({ bundle: task.bundle, runtime, options, signal }),
    );
    task.shimPid = shim.pid;
    task.bundle.writeBootstrap(shim.bootstrap);
    store.setShim(task.key, { pid: shim.pid, address: shim.bootstrap.address, version: shim.bootstrap.version });
    const client = await failing('failed to start shim', task, () =>
      ShimClient.connect(shim.bootstrap, { namespace: task.key.namespace, signal, onClose: () => onShimGone(task) }),
    );
    task.client = client;
    const reply = await failing('failed to create shim task', task, () =>
      client.call(
        'create',
        { ...ioOf(request), id: task.key.id, bundle: task.bundle.path, rootfs: request.rootfs, options },
        signal,
      ),
    );
    return reply.pid;
  }

  private async startNow(key: ProcessKey, signal: AbortSignal): Promise<number> {
    const { registry, tracker } = this.parts;
    const task = registry.get(key);
    if (task === undefined) throw taskNotFound(key);
    const client = await task.shim(signal);
    try {
      const { pid } = await client.call('start', { id: key.id, execId: key.execId }, signal);
      tracker.started(key, pid);
      return pid;
    } catch (error) {
      if (key.execId !== '' && errorKind(error) === 'unknown' && !isShimGone(error)) tracker.execFailed(key);
      throw error;
    }
  }

  private async finish(task: Task, exit: Exit): Promise<void> {
    const { tracker, cleaner } = this.parts;
    task.phase = 'ending';
    await task.transitions.run(async () => {
      if (exit.exitedAt !== 0n) await tracker.exited(initOf(task.key), exit);
      tracker.deleted(task.key, exit);
    });
    await cleaner.dismantle(task);
  }
}

interface CreateInput {
  readonly container: ContainerParts;
  readonly runtime: ResolvedRuntime;
  readonly request: CreateRequest;
  readonly signal: AbortSignal;
}

const ioOf = ({ stdin, stdout, stderr, terminal }: ProcessIo): ProcessIo => ({ stdin, stdout, stderr, terminal });

function checkOptions(runtime: string, options: Any | undefined): void {
  if (runtime !== RUNC_RUNTIME || options === undefined || options.typeUrl === '') return;
  if (options.typeUrl !== RuncOptions.name) {
    throw unknown(`invalid task create option for ${runtime}: type "${options.typeUrl}"`);
  }
}

function prefixed<T>(prefix: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw unknown(`${prefix}: ${messageOf(error)}`, { cause: error });
  }
}

/** Names the step in the error. A shim that died silently is explained by the end of its log. */
async function failing<T>(step: string, task: Task, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const isSilent = isShimGone(error) || task.client === undefined;
    const log = isSilent ? (task.log?.tail.slice(-MESSAGE_LOG_LINES) ?? []) : [];
    throw new ApiError(errorKind(error) ?? 'unknown', [step, messageOf(error), ...log].join(': '), { cause: error });
  }
}
