// The states of processes: one place where a change is stored, its event published and its waiters woken, so that each
// happens once and in order (create, start, exit, delete) no matter whether a reply or a forwarded event told of it.

import { setImmediate } from 'node:timers/promises';
import * as events from '../../proto/generated/containerd.events';
import type { Mount } from '../../proto/generated/containerd.types';
import { GO_ZERO_TIME, toTimestamp } from '../../proto/time';
import type { EventBus } from '../events/bus';
import type { Database } from '../metadata/database';
import type { Exit, ProcessIo, ProcessKey, ProcessStatus, TaskKey, TaskStore } from './task-store';

/** Result of Wait. exitedAt 0 is "no time". */
export type WaitResult = Omit<Exit, 'pid'>;

type Waiter = (result: WaitResult) => void;

export interface ExitOptions {
  /** Keep the event for the first subscriber: the exit happened while the daemon was away. */
  readonly hold?: boolean;
}

export class ProcessTracker {
  private readonly db: Database;
  private readonly store: TaskStore;
  private readonly bus: EventBus;
  private readonly waiters = new Map<string, Set<Waiter>>();
  /** Execs whose Start failed: they never run, and Wait answers at once, as the runc shim does. */
  private readonly failedExecs = new Set<string>();

  constructor(parts: { db: Database; store: TaskStore; bus: EventBus }) {
    this.db = parts.db;
    this.store = parts.store;
    this.bus = parts.bus;
  }

  /** Acknowledges a task: its init process exists. */
  created(key: TaskKey, init: { pid: number; io: ProcessIo; bundle: string; rootfs: readonly Mount[] }): void {
    this.db.essential(() => {
      this.store.insertProcess(initOf(key), init.pid, init.io);
      this.store.setState(key, 'ready');
      this.bus.unhold(key.namespace, key.id);
      this.bus.publish(key.namespace, '/tasks/create', events.TaskCreate, {
        containerId: key.id,
        bundle: init.bundle,
        rootfs: init.rootfs,
        io: init.io,
        checkpoint: '',
        pid: init.pid,
      });
    });
  }

  execAdded(key: ProcessKey): void {
    this.bus.publish(key.namespace, '/tasks/exec-added', events.TaskExecAdded, {
      containerId: key.id,
      execId: key.execId,
    });
  }

  started(key: ProcessKey, pid: number): void {
    this.db.essential(() => {
      if (!this.store.markStarted(key, pid)) return;
      if (key.execId === '')
        this.bus.publish(key.namespace, '/tasks/start', events.TaskStart, { containerId: key.id, pid });
      else {
        const started = { containerId: key.id, execId: key.execId, pid };
        this.bus.publish(key.namespace, '/tasks/exec-started', events.TaskExecStarted, started);
      }
    });
  }

  paused(key: TaskKey): void {
    this.db.essential(() => {
      if (!this.store.moveStatus(initOf(key), ['running', 'pausing'], 'paused')) return;
      this.bus.publish(key.namespace, '/tasks/paused', events.TaskPaused, { containerId: key.id });
    });
  }

  resumed(key: TaskKey): void {
    this.db.essential(() => {
      if (!this.store.moveStatus(initOf(key), ['paused', 'pausing'], 'running')) return;
      this.bus.publish(key.namespace, '/tasks/resumed', events.TaskResumed, { containerId: key.id });
    });
  }

  /** Changes the status without telling anybody: while a pause is being tried. */
  setStatus(key: TaskKey, from: readonly ProcessStatus[], to: ProcessStatus): boolean {
    return this.store.moveStatus(initOf(key), from, to);
  }

  /**
   * Stores an exit; when it is on disk, answers everybody who waits and publishes it. Only the first report of an exit
   * does anything. Run it in the task's transition queue: what follows must find the event published.
   */
  async exited(key: ProcessKey, exit: Exit, options: ExitOptions = {}): Promise<void> {
    if (!this.store.markExited(key, exit)) return;
    await this.announce(key, exit, options);
  }

  /** The second half of `exited`, for an exit that was stored before a crash. */
  async announce(key: ProcessKey, exit: Exit, options: ExitOptions = {}): Promise<void> {
    await this.db.durable();
    this.wake(key, exit);
    // Answers go first: an event that is written before them would make them wait for the disk once more.
    await setImmediate();
    this.db.essential(() => {
      this.store.markAnnounced(key);
      const event = {
        containerId: key.id,
        id: key.execId === '' ? key.id : key.execId,
        pid: exit.pid,
        exitStatus: exit.exitStatus,
        exitedAt: timestampOf(exit),
      };
      if (options.hold === true) this.bus.publishOrHold(key.namespace, '/tasks/exit', events.TaskExit, event);
      else this.bus.publish(key.namespace, '/tasks/exit', events.TaskExit, event);
    });
  }

  /** Forgets the task and its processes and publishes its deletion. */
  deleted(key: TaskKey, exit: Exit, options: ExitOptions = {}): void {
    const execs = this.store.processesOf(key);
    this.db.essential(() => {
      this.store.deleteTask(key);
      const event = {
        containerId: key.id,
        pid: exit.pid,
        exitStatus: exit.exitStatus,
        exitedAt: timestampOf(exit),
        id: '',
      };
      if (options.hold === true) {
        this.bus.publishOrHold(key.namespace, '/tasks/delete', events.TaskDelete, event);
      } else {
        // The client that deletes it is told of its exit by the reply.
        this.bus.unhold(key.namespace, key.id);
        this.bus.publish(key.namespace, '/tasks/delete', events.TaskDelete, event);
      }
    });
    for (const { execId } of execs) this.forget({ ...key, execId }, exit);
    // Whoever answers the call waits for this as well; until then there are files to remove.
    this.db.durable().catch(() => undefined);
  }

  /** Forgets an exec process. */
  execDeleted(key: ProcessKey, exit: Exit): void {
    this.store.deleteProcess(key);
    this.forget(key, exit);
  }

  /** Start of an exec failed: if it never ran, whoever waits is told so. */
  execFailed(key: ProcessKey): void {
    if (this.store.getProcess(key)?.status !== 'created') return;
    this.failedExecs.add(keyOf(key));
    this.wake(key, { exitStatus: 0, exitedAt: 0n });
  }

  /** Resolves when the process has exited, or rejects when the signal aborts. The process must be known. */
  wait(key: ProcessKey, signal: AbortSignal): Promise<WaitResult> {
    const record = this.store.getProcess(key);
    if (record?.status === 'stopped') return Promise.resolve(record);
    const name = keyOf(key);
    if (this.failedExecs.has(name)) return Promise.resolve({ exitStatus: 0, exitedAt: 0n });
    return new Promise((resolve, reject) => {
      const waiters = this.waiters.get(name) ?? new Set();
      this.waiters.set(name, waiters);
      const onAbort = () => {
        waiters.delete(waiter);
        if (waiters.size === 0 && this.waiters.get(name) === waiters) this.waiters.delete(name);
        reject(signal.reason);
      };
      const waiter: Waiter = (result) => {
        signal.removeEventListener('abort', onAbort);
        resolve(result);
      };
      waiters.add(waiter);
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  private wake(key: ProcessKey, result: WaitResult): void {
    const name = keyOf(key);
    const waiters = this.waiters.get(name);
    this.waiters.delete(name);
    for (const waiter of waiters ?? []) waiter(result);
  }

  private forget(key: ProcessKey, exit: Exit): void {
    this.failedExecs.delete(keyOf(key));
    this.wake(key, exit);
  }
}

export const initOf = (key: TaskKey): ProcessKey => ({ namespace: key.namespace, id: key.id, execId: '' });

export const timestampOf = (exit: { exitedAt: bigint }) =>
  exit.exitedAt === 0n ? GO_ZERO_TIME : toTimestamp(exit.exitedAt);

const keyOf = (key: ProcessKey) => `${key.namespace}/${key.id}/${key.execId}`;
