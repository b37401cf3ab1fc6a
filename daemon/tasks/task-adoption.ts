// Start-up: finds the shims of the last run by their bundles and takes them over. Runs in the background, every task by
// itself: a dead or stopped shim delays nothing but the calls on its own task. Exits that happened meanwhile are
// recorded with their true status and held for the first subscriber.

import { rm } from 'node:fs/promises';
import { isNotFound, messageOf } from '../../proto/errors';
import type { StateResponse } from '../../proto/generated/containerd.task.v3';
import { Status } from '../../proto/generated/containerd.v1.types';
import { fromTimestamp, nowNs } from '../../proto/time';
import { Bundle, scanBundles, workPaths } from './bundle';
import { removeTree } from './bundle-removal';
import { exitOf } from './exit-record';
import type { ShimParts } from './parts';
import { SerialQueue } from './serial-queue';
import { ShimClient } from './shim-client';
import { ShimLog } from './shim-log';
import { killStrayShims } from './shim-process';
import { Task } from './task';
import type { ProcessRecord } from './task-store';

/** A shim that has not answered by then is reported; it is waited for as long as its socket stays open. */
const SLOW_SHIM_MS = 5000;
/** Clean-ups of dead shims at a time: each runs a program. */
const BURIALS_MAX = 4;
const LATE_STRAYS_MS = 10_000;
const UNKNOWN_STATUS = 255;

export class TaskAdoption {
  private readonly parts: ShimParts;
  private readonly stop = new AbortController();
  private strayTimer: NodeJS.Timeout | undefined;

  constructor(parts: ShimParts) {
    this.parts = parts;
  }

  /** Registers all tasks on record, so that calls find them. Quick; `run` does the rest. */
  register(): Task[] {
    const { store, registry, directories, resolver } = this.parts;
    return store.allTasks().map((record) => {
      const task = new Task(
        { namespace: record.namespace, id: record.id },
        new Bundle(directories, record),
        'adopting',
      );
      task.shimPath = record.shimPath;
      task.isOwnShim = resolver.classify(record.shimPath).kind === 'own';
      task.shimPid = record.shimPid;
      registry.add(task);
      return task;
    });
  }

  /** Adopts the registered tasks and removes what belongs to none. Resolves when all that is done; never rejects. */
  async run(tasks: readonly Task[]): Promise<void> {
    const slots = Array.from({ length: BURIALS_MAX }, () => new SerialQueue());
    const limited = (index: number, job: () => Promise<void>) => slots[index % BURIALS_MAX]?.run(job);
    const adopting = tasks.map(async (task, index) => {
      if (await this.adopt(task)) return;
      // At once: a call that holds the task's queue may be waiting for this.
      task.leaveAdoption('ending');
      await this.parts.registry.exclusive(task.key, async () => limited(index, () => this.remove(task)));
    });
    const orphans = this.orphans().map((task, index) =>
      this.parts.registry.exclusive(task.key, async () => limited(index, () => this.parts.cleaner.abandon(task))),
    );
    const results = await Promise.allSettled([...adopting, ...orphans, this.removeLeftovers()]);
    for (const result of results) {
      if (result.status === 'rejected') this.parts.logger.warn('task adoption', { error: messageOf(result.reason) });
    }
    this.killStrays();
    // What was being started when the last daemon died may still have been on its way.
    this.strayTimer = setTimeout(() => this.killStrays(), LATE_STRAYS_MS).unref();
  }

  private killStrays(): void {
    const { directories, registry, logger } = this.parts;
    const inUse = new Set(registry.all().map(({ shimPid }) => shimPid));
    for (const pid of killStrayShims(directories.state, inUse)) logger.warn('shim without a bundle killed', { pid });
  }

  /** Leaves the tasks that have not answered yet to the next daemon. */
  close(): void {
    this.stop.abort(new Error('daemon is stopping'));
    clearTimeout(this.strayTimer);
  }

  /** @returns false when the task has no live shim that knows it. */
  private async adopt(task: Task): Promise<boolean> {
    const { logger, store, onShimGone } = this.parts;
    const bootstrap = task.bundle.bootstrap();
    if (bootstrap === undefined || store.getTask(task.key)?.state !== 'ready') return false;
    const timer = setTimeout(() => logger.warn('shim does not answer', { ...task.key }), SLOW_SHIM_MS).unref();
    try {
      task.log = ShimLog.open(task.bundle.logFifo, (line) => logger.info('shim log', { ...task.key, line }));
      task.client = await ShimClient.connect(bootstrap, {
        namespace: task.key.namespace,
        signal: this.stop.signal,
        onClose: () => onShimGone(task),
      });
      const { shimPid } = await task.client.call('connect', { id: task.key.id }, this.stop.signal);
      task.shimPid = shimPid;
      if (!(await this.synchronise(task, task.client))) return false;
      task.leaveAdoption('ready');
      if (task.client.isClosed) onShimGone(task);
      logger.info('task adopted', { ...task.key });
      return true;
    } catch (error) {
      if (this.stop.signal.aborted) return true;
      logger.info('shim is gone', { ...task.key, error: messageOf(error) });
      return false;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Brings the records in line with what the shim says. @returns false when it does not know the task. */
  private async synchronise(task: Task, client: ShimClient): Promise<boolean> {
    const { store, tracker } = this.parts;
    const processes = store.processesOf(task.key);
    const states = await Promise.all(processes.map((process) => this.stateOf(client, process)));
    if (processes.length === 0 || states[0] === undefined) return false;
    await task.transitions.run(async () => {
      for (const exit of store.unannouncedExits(task.key)) await tracker.announce(exit, exit, { hold: true });
      // Execs before init, as a shim would tell of them.
      for (const [index, process] of [...processes.entries()].reverse()) {
        await this.apply(task, process, states[index]);
      }
    });
    return true;
  }

  private async stateOf(client: ShimClient, { id, execId }: ProcessRecord): Promise<StateResponse | undefined> {
    try {
      return await client.call('state', { id, execId }, this.stop.signal);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  private async apply(task: Task, process: ProcessRecord, state: StateResponse | undefined): Promise<void> {
    const { tracker } = this.parts;
    if (state === undefined) {
      const unknownExit = { pid: process.pid, exitStatus: UNKNOWN_STATUS, exitedAt: nowNs() };
      if (process.status === 'created') tracker.execDeleted(process, unknownExit);
      else await tracker.exited(process, exitOf(process, task.bundle, unknownExit), { hold: true });
      return;
    }
    if (state.status === Status.STOPPED) {
      const exit = { pid: state.pid, exitStatus: state.exitStatus, exitedAt: fromTimestamp(state.exitedAt) };
      await tracker.exited(process, exit, { hold: true });
      return;
    }
    if (state.status !== Status.CREATED) tracker.started(process, state.pid);
    if (process.execId !== '') return;
    if (state.status === Status.PAUSED) tracker.paused(task.key);
    if (state.status === Status.RUNNING) tracker.resumed(task.key);
  }

  private async remove(task: Task): Promise<void> {
    const { store, registry, cleaner, logger } = this.parts;
    if (!task.bundle.exists()) {
      // A reboot has emptied the state directory: nobody is left who remembers the task.
      store.deleteTask(task.key);
      registry.remove(task);
      task.disconnect();
      logger.info('task is gone with its bundle', { ...task.key });
      return;
    }
    const isAcknowledged = store.getTask(task.key)?.state === 'ready' && store.processesOf(task.key).length > 0;
    if (isAcknowledged) await cleaner.bury(task, { hold: true });
    else await cleaner.abandon(task);
  }

  /** Bundles without a task on record: their removal was interrupted. */
  private orphans(): Task[] {
    const { directories, registry, resolver } = this.parts;
    return scanBundles(directories)
      .bundles.filter((bundle) => registry.get(bundle.key) === undefined)
      .map((bundle) => {
        const task = new Task(bundle.key, bundle, 'creating');
        task.shimPath = bundle.shimPath() ?? '';
        task.isOwnShim = resolver.classify(task.shimPath).kind === 'own';
        task.shimPid = bundle.shimPid();
        return task;
      });
  }

  private async removeLeftovers(): Promise<void> {
    const { directories, store, registry } = this.parts;
    for (const path of scanBundles(directories).hidden) await removeTree(path);
    for (const { key, path } of workPaths(directories)) {
      await registry.exclusive(key, async () => {
        if (store.getTask(key) === undefined) await rm(path, { recursive: true, force: true });
      });
    }
  }
}
