// The tasks of this daemon by namespace and id, and one queue per id for what must not overlap: Create, Start of init,
// Delete and the clean-up after a dead shim.

import { SerialQueue } from './serial-queue';
import { nameOf, type Task, untilAborted } from './task';
import type { TaskKey } from './task-store';

export class TaskRegistry {
  private readonly tasks = new Map<string, Task>();
  private readonly queues = new Map<string, SerialQueue>();

  get(key: TaskKey): Task | undefined {
    return this.tasks.get(nameOf(key));
  }

  all(): Task[] {
    return [...this.tasks.values()];
  }

  add(task: Task): void {
    this.tasks.set(nameOf(task.key), task);
  }

  /** Does nothing when another task has taken the id. */
  remove(task: Task): void {
    if (this.get(task.key) === task) this.tasks.delete(nameOf(task.key));
  }

  /** Runs a job when all earlier ones on this id are done. */
  async exclusive<T>(key: TaskKey, job: () => Promise<T>): Promise<T> {
    const name = nameOf(key);
    const queue = this.queues.get(name) ?? new SerialQueue();
    this.queues.set(name, queue);
    try {
      return await queue.run(job);
    } finally {
      if (queue.isIdle) this.queues.delete(name);
    }
  }

  /**
   * As `exclusive`, for a client's call: it is answered as soon as its signal aborts, and a job that has not begun by
   * then never does. A job that has begun goes on and cleans up behind itself.
   */
  exclusiveCall<T>(key: TaskKey, signal: AbortSignal, job: () => Promise<T>): Promise<T> {
    const running = this.exclusive(key, () => {
      signal.throwIfAborted();
      return job();
    });
    return untilAborted(running, signal);
  }
}
