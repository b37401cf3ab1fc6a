// Runs jobs one after another. Each task has queues of its own, so that work on one container never waits for another.

/** A first-in first-out queue of asynchronous jobs. A failing job does not stop the ones behind it. */
export class SerialQueue {
  private tail: Promise<unknown> = Promise.resolve();
  private length = 0;

  /** True when no job is running or waiting. */
  get isIdle(): boolean {
    return this.length === 0;
  }

  /** Resolves or rejects as the job does. Jobs start in the order of the calls. */
  run<T>(job: () => T | Promise<T>): Promise<T> {
    this.length += 1;
    const result = this.tail.then(job);
    this.tail = result.then(
      () => this.leave(),
      () => this.leave(),
    );
    return result;
  }

  private leave(): void {
    this.length -= 1;
  }
}
