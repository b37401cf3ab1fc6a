// One task as the running daemon knows it: its bundle, its connection to the shim and its queues. The durable part is
// in the tables; this is what a restart rebuilds.

import { notFound } from '../../proto/errors';
import type { Bundle } from './bundle';
import { SerialQueue } from './serial-queue';
import type { ShimClient } from './shim-client';
import type { ShimLog } from './shim-log';
import type { TaskKey } from './task-store';

/**
 * creating: Create is at work. adopting: found at start-up, its shim has not answered yet. ready: the shim is connected.
 * ending: the task is being deleted, or cleaned up after its shim died; it takes no more calls.
 */
export type TaskPhase = 'creating' | 'adopting' | 'ready' | 'ending';

export class Task {
  readonly key: TaskKey;
  readonly bundle: Bundle;
  /** State changes and their events, in the order in which they happened. */
  readonly transitions = new SerialQueue();
  /** Found at start-up: whoever follows its events may not be connected again yet. */
  readonly isAdopted: boolean;
  phase: TaskPhase;
  shimPath = '';
  /** Gantry's own shim serves one task only. */
  isOwnShim = false;
  shimPid = 0;
  log: ShimLog | undefined;
  client: ShimClient | undefined;
  private settle: (() => void) | undefined;
  private settled: Promise<void> = Promise.resolve();

  constructor(key: TaskKey, bundle: Bundle, phase: 'creating' | 'adopting') {
    this.key = key;
    this.bundle = bundle;
    this.phase = phase;
    this.isAdopted = phase === 'adopting';
    if (phase === 'adopting') {
      this.settled = new Promise((resolve) => {
        this.settle = resolve;
      });
    }
  }

  /** Ends the phase adopting, which calls on this task wait for. */
  leaveAdoption(phase: 'ready' | 'ending'): void {
    this.phase = phase;
    this.settle?.();
  }

  /**
   * The connection to the shim. Waits while the task is being adopted.
   * @throws NOT_FOUND when the task has no shim, or loses it; the signal's reason when it aborts.
   */
  async shim(signal: AbortSignal): Promise<ShimClient> {
    if (this.phase === 'adopting') await untilAborted(this.settled, signal);
    if (this.phase === 'creating') throw notFound('container not created');
    if (this.client === undefined || this.client.isClosed || this.phase === 'ending') throw taskNotFound(this.key);
    return this.client;
  }

  /** Lets go of the shim without telling it anything. */
  disconnect(): void {
    this.client?.close();
    this.client = undefined;
    this.log?.close();
    this.log = undefined;
  }
}

export const taskNotFound = (key: TaskKey) => notFound(`task ${key.id} not found`);

export const containerNotFound = (key: TaskKey) => notFound(`container "${key.id}" in namespace "${key.namespace}"`);

export const nameOf = (key: TaskKey) => `${key.namespace}/${key.id}`;

/** Settles as `promise` does, or rejects with the signal's reason as soon as it aborts. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}
