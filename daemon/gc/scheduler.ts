// Decides when to collect: containerd's rules (its gc scheduler plugin), without a timer while nothing happens. It
// knows nothing of what a collection does.

/** The settings of containerd's io.containerd.gc.v1.scheduler, times in milliseconds. */
export interface SchedulerOptions {
  /** Largest share of time that collections may take, above 0 and at most 0.5; 0 means no limit. */
  readonly pauseThreshold: number;
  /** Deletions that cause a collection at once; 0: a deletion causes one after the usual interval. */
  readonly deletionThreshold: number;
  /** Changes of any kind that cause a collection after the usual interval; 0: never. */
  readonly mutationThreshold: number;
  readonly scheduleDelayMs: number;
  /** 0: no collection at start-up. */
  readonly startupDelayMs: number;
}

export const SCHEDULER_DEFAULTS: SchedulerOptions = {
  pauseThreshold: 0.02,
  deletionThreshold: 0,
  mutationThreshold: 100,
  scheduleDelayMs: 0,
  startupDelayMs: 100,
};

const COLLECTION_MS_MIN = 5;
const RETRY_MS = 1000;
const EXPIRY_CHECK_MS = 1000;
const TIMER_MS_MAX = 2 ** 31 - 1;

export interface SchedulerTarget {
  /** One whole collection; resolves to how long it stopped other work. Never called while one is running. */
  collect(): Promise<number>;
  /** Milliseconds until something expires, or undefined. */
  nextExpiryMs(): number | undefined;
  onError(error: unknown): void;
}

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #target: SchedulerTarget;
  #timer: NodeJS.Timeout | undefined;
  #dueAt = Number.POSITIVE_INFINITY;
  #expiryTimer: NodeJS.Timeout | undefined;
  #expiryCheck: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #intervalMs = RETRY_MS;
  #totalMs = 0;
  #collections = 0;
  #deletions = 0;
  #mutations = 0;
  #isActive = false;

  constructor(options: SchedulerOptions, target: SchedulerTarget) {
    this.#options = options;
    this.#target = target;
  }

  /** Before this, changes are only counted. */
  start(): void {
    this.#isActive = true;
    if (this.#options.startupDelayMs > 0) this.#schedule(this.#options.startupDelayMs);
    this.#watchExpiry();
  }

  /** Ends the timers and resolves when a running collection has ended. */
  async stop(): Promise<void> {
    this.#isActive = false;
    clearTimeout(this.#timer);
    clearTimeout(this.#expiryTimer);
    clearTimeout(this.#expiryCheck);
    await this.#next?.catch(() => {});
    await this.#running?.catch(() => {});
  }

  /** Counts one committed change. */
  note(change: 'deletion' | 'mutation'): void {
    this.#mutations += 1;
    if (change === 'deletion') this.#deletions += 1;
    const { deletionThreshold, mutationThreshold, scheduleDelayMs } = this.#options;
    if (deletionThreshold > 0 && this.#deletions >= deletionThreshold) {
      this.#schedule(scheduleDelayMs);
    } else if (
      (deletionThreshold === 0 && this.#deletions > 0) ||
      (mutationThreshold > 0 && this.#mutations >= mutationThreshold)
    ) {
      this.#schedule(Math.max(this.#intervalMs, scheduleDelayMs));
    }
    if (this.#isActive) this.#expiryCheck ??= this.#after(EXPIRY_CHECK_MS, () => this.#watchExpiry());
  }

  /** Runs a collection that begins after this call and resolves at its end. @throws what it throws */
  run(): Promise<void> {
    if (this.#running === undefined) return this.#start();
    this.#next ??= this.#running.catch(() => {}).then(() => this.#start());
    return this.#next;
  }

  #start(): Promise<void> {
    this.#next = undefined;
    clearTimeout(this.#timer);
    this.#dueAt = Number.POSITIVE_INFINITY;
    this.#deletions = 0;
    this.#mutations = 0;
    const run = this.#collect().finally(() => {
      if (this.#running === run) this.#running = undefined;
    });
    this.#running = run;
    return run;
  }

  async #collect(): Promise<void> {
    try {
      this.#adapt(await this.#target.collect());
    } catch (error) {
      this.#schedule(this.#intervalMs + RETRY_MS);
      throw error;
    }
    this.#watchExpiry();
  }

  /** Keeps the share of time spent collecting under the pause threshold. */
  #adapt(elapsedMs: number): void {
    this.#totalMs += elapsedMs;
    this.#collections += 1;
    const { pauseThreshold } = this.#options;
    if (pauseThreshold <= 0) return;
    const averageMs = Math.max(this.#totalMs / this.#collections, COLLECTION_MS_MIN);
    this.#intervalMs = averageMs / pauseThreshold - averageMs;
  }

  /** An earlier date wins over a later one. */
  #schedule(delayMs: number): void {
    const dueAt = Date.now() + delayMs;
    if (!this.#isActive || dueAt >= this.#dueAt) return;
    clearTimeout(this.#timer);
    this.#dueAt = dueAt;
    this.#timer = this.#after(delayMs, () => {
      this.run().catch((error: unknown) => this.#target.onError(error));
    });
  }

  /** Arms a timer for the next thing that expires; new things are noticed through note(). */
  #watchExpiry(): void {
    clearTimeout(this.#expiryTimer);
    clearTimeout(this.#expiryCheck);
    this.#expiryCheck = undefined;
    const delayMs = this.#isActive ? this.#target.nextExpiryMs() : undefined;
    if (delayMs === undefined) return;
    this.#expiryTimer = this.#after(Math.max(delayMs, 0) + 1, () => {
      if (delayMs > TIMER_MS_MAX) this.#watchExpiry();
      else this.#schedule(0);
    });
  }

  #after(delayMs: number, action: () => void): NodeJS.Timeout {
    return setTimeout(action, Math.min(delayMs, TIMER_MS_MAX)).unref();
  }
}
