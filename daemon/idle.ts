// Gives memory back when the daemon has come to rest: V8 collects no garbage of a process that allocates nothing, and what
// the last calls left stays with an idle daemon for hours.

import { setFlagsFromString } from 'node:v8';

/** Rest that must have lasted before a collection. */
export const REST_MS = 3000;
/** At most one collection in this time, or polling clients would pay for it. */
export const PAUSE_MS = 30_000;

type CollectGarbage = (options: { type: 'major'; execution: 'async'; flavor: 'last-resort' }) => Promise<void>;

export class IdleCollector {
  readonly #collect: () => void;
  #timer: NodeJS.Timeout | undefined;
  #lastWorkMs = 0;
  #lastCollectionMs = Number.NEGATIVE_INFINITY;

  constructor(collect: () => void = collectGarbage) {
    this.#collect = collect;
  }

  /** To be called after every call. It only notes the time: one timer serves a burst of any length. */
  worked(): void {
    this.#lastWorkMs = performance.now();
    this.#timer ??= this.#after(Math.max(REST_MS, this.#lastCollectionMs + PAUSE_MS - this.#lastWorkMs));
  }

  #after(delayMs: number): NodeJS.Timeout {
    return setTimeout(() => this.#check(), delayMs).unref();
  }

  #check(): void {
    const nowMs = performance.now();
    const restMs = nowMs - this.#lastWorkMs;
    this.#timer = restMs < REST_MS ? this.#after(REST_MS - restMs) : undefined;
    if (this.#timer !== undefined) return;
    this.#lastCollectionMs = nowMs;
    this.#collect();
  }
}

/** V8 offers gc() only in contexts that are made after the flag, which on the command line would change its code cache. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const { runInNewContext } = require('node:vm') as typeof import('node:vm');
  const collect = runInNewContext('gc') as CollectGarbage;
  setFlagsFromString('--no-expose-gc');
  void collect({ type: 'major', execution: 'async', flavor: 'last-resort' });
}
