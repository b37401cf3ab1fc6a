// Gives memory back when the shim has come to rest. V8 does not collect garbage of a process that allocates nothing, and a
// shim is at rest for most of its life: one collection after the start saves more than a megabyte.

import { setFlagsFromString } from 'node:v8';

/** Rest that must have lasted before a collection: longer than a container lives that is started only to do one thing. */
const REST_MS = 5_000;
/** At most one collection in this time, however the work is spread. */
const PAUSE_MS = 30_000;

type CollectGarbage = (options: { type: 'major'; execution: 'sync' | 'async'; flavor: 'last-resort' }) => unknown;

/** A collection touches all memory, so a forked shim loses what it shares with the zygote: 3 MB. */
const FORKED_GARBAGE_MIN = 4 << 20;

export class IdleCollector {
  #timer: NodeJS.Timeout | undefined;
  #lastMs = Number.NEGATIVE_INFINITY;
  readonly #heapMin: number;

  /** @param isForked whether this process shares memory with the zygote */
  constructor(isForked: boolean) {
    this.#heapMin = isForked ? process.memoryUsage().heapUsed + FORKED_GARBAGE_MIN : 0;
  }

  /** To be called after work that leaves garbage: not for every request, or polling clients would pay for it. */
  worked(): void {
    const waitMs = Math.max(REST_MS, this.#lastMs + PAUSE_MS - performance.now());
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#collect(), waitMs);
    this.#timer.unref();
  }

  #collect(): void {
    if (process.memoryUsage().heapUsed < this.#heapMin) return;
    this.#lastMs = performance.now();
    void gcFunction()({ type: 'major', execution: 'async', flavor: 'last-resort' });
  }
}

/** Collects all garbage, now. */
export function collectGarbage(): void {
  void gcFunction()({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}

/**
 * V8 offers gc() only in contexts that are made after the flag; as a flag of the command line it would cost the start of
 * every shim the code cache of Node's own modules.
 */
function gcFunction(): CollectGarbage {
  setFlagsFromString('--expose-gc');
  const { runInNewContext } = require('node:vm') as typeof import('node:vm');
  const collect = runInNewContext('gc') as CollectGarbage;
  setFlagsFromString('--no-expose-gc');
  return collect;
}
