// Events that shims forward to the daemon. Those about the life of a process become state changes, which publish the
// event once the change is stored; the rest passes through as it is.

import { unpackAny } from '../../proto/any';
import * as events from '../../proto/generated/containerd.events';
import type { Envelope } from '../../proto/generated/containerd.types';
import type { Any } from '../../proto/generated/google.protobuf';
import { fromTimestamp } from '../../proto/time';
import type { EventBus } from '../events/bus';
import { initOf, type ProcessTracker } from './process-tracker';
import type { Task } from './task';
import type { TaskRegistry } from './task-registry';
import type { Exit, ProcessKey, TaskStore } from './task-store';

/** Subscribers are expected back by then: events of tasks of the last run wait for them that long. */
const HOLD_AFTER_START_MS = 60_000;

export interface ForwardedEventsParts {
  readonly store: TaskStore;
  readonly tracker: ProcessTracker;
  readonly registry: TaskRegistry;
  readonly bus: EventBus;
}

type Transition = (task: Task, event: Any) => void | Promise<void>;

export class ForwardedEvents {
  private readonly parts: ForwardedEventsParts;
  private readonly startedAtMs = performance.now();
  private readonly transitions: Record<string, Transition>;

  constructor(parts: ForwardedEventsParts) {
    this.parts = parts;
    const { tracker } = parts;
    this.transitions = {
      '/tasks/start': (task, event) => {
        const { pid } = unpackAny(events.TaskStart, event);
        tracker.started(initOf(task.key), pid);
      },
      '/tasks/exec-started': (task, event) => {
        const { execId, pid } = unpackAny(events.TaskExecStarted, event);
        tracker.started({ ...task.key, execId }, pid);
      },
      '/tasks/exit': (task, event) => this.exited(task, event),
      '/tasks/paused': (task) => tracker.paused(task.key),
      '/tasks/resumed': (task) => tracker.resumed(task.key),
      // The daemon publishes these itself, with the reply to the call that caused them.
      '/tasks/create': () => undefined,
      '/tasks/exec-added': () => undefined,
      '/tasks/delete': () => undefined,
    };
  }

  /**
   * Takes one event. Resolves when it is stored where it matters, so that a shim which is not answered sends it again.
   * @throws INVALID_ARGUMENT when the payload is not what its topic says.
   */
  async forward(envelope: Envelope): Promise<void> {
    const { namespace, topic, event } = envelope;
    const { bus } = this.parts;
    if (!topic.startsWith('/tasks/') || event === undefined) {
      bus.forward(envelope);
      return;
    }
    const task = this.parts.registry.get({ namespace, id: containerIdOf(event) });
    // A deleted task has had all its events; what still comes is late.
    if (task === undefined || task.phase === 'ending') return;
    const transition = this.transitions[topic] ?? (() => bus.forward(envelope, this.mayBeMissed(task)));
    const isCreating = task.phase === 'creating';
    const stored = task.transitions.run(() => (task.phase === 'ending' ? undefined : transition(task, event)));
    if (isCreating) stored.catch(() => undefined);
    else await stored;
  }

  private async exited(task: Task, event: Any): Promise<void> {
    const { containerId, id, pid, exitStatus, exitedAt } = unpackAny(events.TaskExit, event);
    const key: ProcessKey = { ...task.key, execId: id === containerId ? '' : id };
    const record = this.parts.store.getProcess(key);
    // A different pid is a process of an earlier task of the same name.
    if (record === undefined || (record.pid !== 0 && record.pid !== pid)) return;
    const exit: Exit = { pid, exitStatus, exitedAt: fromTimestamp(exitedAt) };
    await this.parts.tracker.exited(key, exit, { hold: this.mayBeMissed(task) });
  }

  private mayBeMissed(task: Task): boolean {
    return task.isAdopted && performance.now() - this.startedAtMs < HOLD_AFTER_START_MS;
  }
}

/** container_id is field 1 of every task event. */
function containerIdOf(event: Any): string {
  return events.TaskOOM.decode(event.value).containerId;
}
