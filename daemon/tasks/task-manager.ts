// The tasks of the daemon: what services/tasks.ts calls. Create, Start and Delete are in task-lifecycle.ts; here are
// the calls that pass to the shim, the answers from the tables, and start and stop of the whole.

import { ApiError, alreadyExists, invalidArgument, messageOf, notFound, notImplemented } from '../../proto/errors';
import type { UpdateTaskRequest } from '../../proto/generated/containerd.services.tasks.v1';
import type { Envelope, Metric } from '../../proto/generated/containerd.types';
import type { ProcessInfo } from '../../proto/generated/containerd.v1.types';
import type { Any } from '../../proto/generated/google.protobuf';
import { checkIdentifier } from '../../proto/ids';
import { fromTimestamp, nowNs, toTimestamp } from '../../proto/time';
import type { EventBus } from '../events/bus';
import type { Logger } from '../log';
import type { Database } from '../metadata/database';
import type { BundleDirectories } from './bundle';
import { ForwardedEvents } from './forwarded-events';
import type { ShimDeleter, ShimLauncher } from './launcher';
import { initOf, ProcessTracker, type WaitResult } from './process-tracker';
import { runtimeInfo } from './runtime-info';
import type { RuntimeResolver } from './runtimes';
import type { ShimClient } from './shim-client';
import { containerNotFound, type Task, taskNotFound } from './task';
import { TaskAdoption } from './task-adoption';
import { TaskCleaner } from './task-cleaner';
import { type CreateRequest, TaskLifecycle } from './task-lifecycle';
import { TaskRegistry } from './task-registry';
import { type Exit, type ProcessIo, type ProcessKey, type ProcessRecord, type TaskKey, TaskStore } from './task-store';

/** A shim that takes longer is left out of the figures. */
const METRICS_TIMEOUT_MS = 2000;

export interface TaskManagerParts {
  readonly db: Database;
  readonly events: EventBus;
  readonly logger: Logger;
  readonly directories: BundleDirectories;
  readonly resolver: RuntimeResolver;
  readonly launchers: { readonly own: ShimLauncher; readonly foreign: ShimLauncher };
  readonly deleter: ShimDeleter;
}

export interface ExecRequest extends ProcessIo {
  readonly spec: Any | undefined;
}

export class TaskManager {
  private readonly store: TaskStore;
  private readonly tracker: ProcessTracker;
  private readonly registry = new TaskRegistry();
  private readonly cleaner: TaskCleaner;
  private readonly lifecycle: TaskLifecycle;
  private readonly forwarded: ForwardedEvents;
  private readonly adoption: TaskAdoption;
  private readonly logger: Logger;
  private readonly resolver: RuntimeResolver;
  private isClosing = false;

  constructor(parts: TaskManagerParts) {
    const { db, events, logger, directories, resolver, launchers, deleter } = parts;
    const store = new TaskStore(db);
    const tracker = new ProcessTracker({ db, store, bus: events });
    const { registry } = this;
    const cleaner = new TaskCleaner({ store, tracker, registry, deleter, ownLauncher: launchers.own, logger });
    const onShimGone = (task: Task) => this.shimGone(task);
    const shared = { store, tracker, registry, resolver, cleaner, directories, logger, onShimGone };
    this.resolver = resolver;
    this.store = store;
    this.tracker = tracker;
    this.cleaner = cleaner;
    this.logger = logger;
    this.lifecycle = new TaskLifecycle({ ...shared, launchers });
    this.forwarded = new ForwardedEvents({ store, tracker, registry, bus: events });
    this.adoption = new TaskAdoption(shared);
  }

  /**
   * Makes the tasks of the last run known and adopts them in the background. Call it when the ttrpc server listens, so
   * that no event is lost in between. `done` resolves when everything is adopted or cleaned up; it never rejects.
   */
  adopt(): { readonly done: Promise<void> } {
    return { done: this.adoption.run(this.adoption.register()) };
  }

  /** Lets go of all shims, which keep running. */
  close(): void {
    this.isClosing = true;
    this.adoption.close();
    for (const task of this.registry.all()) task.disconnect();
  }

  /** An event from a shim. Resolves when it need not be sent again. */
  forward(envelope: Envelope): Promise<void> {
    return this.forwarded.forward(envelope);
  }

  create(key: TaskKey, request: CreateRequest, signal: AbortSignal): Promise<number> {
    return this.lifecycle.create(key, request, signal);
  }

  async start(key: ProcessKey, signal: AbortSignal): Promise<number> {
    this.get(key);
    return await this.lifecycle.start(key, signal);
  }

  async delete(key: TaskKey, signal: AbortSignal): Promise<Exit> {
    this.get(initOf(key));
    return await this.lifecycle.delete(key, signal);
  }

  async deleteProcess(key: ProcessKey, signal: AbortSignal): Promise<Exit> {
    if (key.execId === '') return await this.delete(key, signal);
    this.get(key);
    const { task, client } = await this.reach(key, signal);
    const reply = await client.call('delete', { id: key.id, execId: key.execId }, signal);
    const exit = { pid: reply.pid, exitStatus: reply.exitStatus, exitedAt: fromTimestamp(reply.exitedAt) };
    await task.transitions.run(async () => {
      if (exit.exitedAt !== 0n) await this.tracker.exited(key, exit);
      this.tracker.execDeleted(key, exit);
    });
    return exit;
  }

  /** The process as it is on record. @throws NOT_FOUND naming what is missing: container, task or process. */
  get(key: ProcessKey): ProcessRecord {
    const record = this.store.getProcess(key);
    if (record === undefined) throw this.missing(key);
    if (key.execId === '' || record.status === 'stopped') return record;
    const init = this.store.getProcess(initOf(key));
    return init?.status === 'paused' || init?.status === 'pausing' ? { ...record, status: init.status } : record;
  }

  /** Init processes of all tasks of a namespace. */
  list(namespace: string): ProcessRecord[] {
    return this.store.listInits(namespace);
  }

  async exec(key: ProcessKey, request: ExecRequest, signal: AbortSignal): Promise<void> {
    checkExecId(key.execId);
    this.get(initOf(key));
    const { client } = await this.reach(key, signal);
    const { stdin, stdout, stderr, terminal, spec } = request;
    if (!this.store.insertProcess(key, 0, request)) throw alreadyExists(`id ${key.execId}`);
    try {
      await client.call('exec', { id: key.id, execId: key.execId, stdin, stdout, stderr, terminal, spec }, signal);
    } catch (error) {
      this.store.deleteProcess(key);
      throw error;
    }
    this.tracker.execAdded(key);
  }

  async kill(key: ProcessKey, what: { signal: number; all: boolean }, signal: AbortSignal): Promise<void> {
    const isFinished = this.get(key).status === 'stopped';
    if (isFinished && !(what.all && key.execId === '')) throw notFound('process already finished');
    const { client } = await this.reach(key, signal);
    await client.call('kill', { id: key.id, execId: key.execId, ...what }, signal);
  }

  async wait(key: ProcessKey, signal: AbortSignal): Promise<WaitResult> {
    this.get(key);
    return await this.tracker.wait(key, signal);
  }

  async pause(key: TaskKey, signal: AbortSignal): Promise<void> {
    this.get(initOf(key));
    const { task, client } = await this.reach(key, signal);
    const isPausing = this.store.moveStatus(initOf(key), ['running'], 'pausing');
    try {
      await client.call('pause', { id: key.id }, signal);
    } catch (error) {
      if (isPausing) this.store.moveStatus(initOf(key), ['pausing'], 'running');
      throw error;
    }
    await task.transitions.run(() => this.tracker.paused(key));
  }

  async resume(key: TaskKey, signal: AbortSignal): Promise<void> {
    this.get(initOf(key));
    const { task, client } = await this.reach(key, signal);
    await client.call('resume', { id: key.id }, signal);
    await task.transitions.run(() => this.tracker.resumed(key));
  }

  async resizePty(key: ProcessKey, size: { width: number; height: number }, signal: AbortSignal): Promise<void> {
    this.get(key);
    const { client } = await this.reach(key, signal);
    await client.call('resizePty', { id: key.id, execId: key.execId, ...size }, signal);
  }

  async closeIo(key: ProcessKey, stdin: boolean, signal: AbortSignal): Promise<void> {
    this.get(key);
    const { client } = await this.reach(key, signal);
    await client.call('closeIO', { id: key.id, execId: key.execId, stdin }, signal);
  }

  async update(key: TaskKey, what: Pick<UpdateTaskRequest, 'resources' | 'annotations'>, signal: AbortSignal) {
    this.get(initOf(key));
    const { client } = await this.reach(key, signal);
    await client.call('update', { id: key.id, ...what }, signal);
  }

  async pids(key: TaskKey, signal: AbortSignal): Promise<ProcessInfo[]> {
    this.get(initOf(key));
    const { client } = await this.reach(key, signal);
    return (await client.call('pids', { id: key.id }, signal)).processes;
  }

  /** @throws NOT_FOUND for a missing task, else UNIMPLEMENTED. */
  checkpoint(key: TaskKey): never {
    this.get(initOf(key));
    throw notImplemented(`checkpoint of task ${key.id}`);
  }

  /** Figures of the namespace's tasks that `matches`; tasks without a shim that answers are left out. */
  async metrics(namespace: string, matches: (key: TaskKey) => boolean, signal: AbortSignal): Promise<Metric[]> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(METRICS_TIMEOUT_MS)]);
    const tasks = this.registry.all().filter(({ key, phase }) => {
      return phase === 'ready' && key.namespace === namespace && matches(key);
    });
    const metrics = await Promise.all(tasks.map((task) => this.metric(task, limit)));
    return metrics.filter((metric) => metric !== undefined);
  }

  /** What a shim program says of its runtime, for a containerd.types.RuntimeRequest. */
  runtimeInfo(request: Any, signal: AbortSignal): Promise<Any> {
    return runtimeInfo(this.resolver, request, signal);
  }

  private async metric(task: Task, signal: AbortSignal): Promise<Metric | undefined> {
    try {
      const { stats } = await (await task.shim(signal)).call('stats', { id: task.key.id }, signal);
      return stats === undefined ? undefined : { timestamp: toTimestamp(nowNs()), id: task.key.id, data: stats };
    } catch (error) {
      this.logger.debug('no metrics', { ...task.key, error: messageOf(error) });
      return undefined;
    }
  }

  private async reach(key: TaskKey, signal: AbortSignal): Promise<{ task: Task; client: ShimClient }> {
    const task = this.registry.get(key);
    if (task === undefined) throw taskNotFound(key);
    return { task, client: await task.shim(signal) };
  }

  private missing(key: ProcessKey): ApiError {
    if (this.store.getTask(key) === undefined) {
      return this.store.getContainer(key) === undefined ? containerNotFound(key) : taskNotFound(key);
    }
    return notFound(key.execId === '' ? 'container not created' : `process does not exist ${key.execId}`);
  }

  private shimGone(task: Task): void {
    if (this.isClosing || task.phase !== 'ready') return;
    this.logger.warn('shim is gone', { ...task.key });
    const buried = this.registry.exclusive(task.key, async () => {
      if (task.phase === 'ready') await this.cleaner.bury(task, { hold: false });
    });
    buried.catch((error: unknown) => this.logger.error('task clean-up', { ...task.key, error: messageOf(error) }));
  }
}

function checkExecId(execId: string): void {
  if (execId === '') throw ApiError.fromWire('invalid argument', 'exec id cannot be empty');
  try {
    checkIdentifier(execId);
  } catch (error) {
    throw invalidArgument(`invalid exec id ${execId}: ${messageOf(error)}`, { cause: error });
  }
}
