// Ends bodies that stand still or only trickle. Only time spent waiting for the network counts: neither a slow disk nor
// a busy thread is the registry's fault.

import type { Readable } from 'node:stream';
import { failureAt, networkError, type Place } from './failure';

export interface PaceLimits {
  /** Without a byte, a body has stalled after this time. */
  readonly stallMs: number;
  /** On average over a window of SLOW_WINDOW_MS of waiting; 0: any. */
  readonly bytesPerSecondMin: number;
}

const SLOW_WINDOW_MS = 30_000;
const TICKS_PER_STALL = 20;

/** The chunks of a body. @throws RegistryError that can be retried, for a body that stalls, trickles or breaks */
export async function* paced(body: Readable, limits: PaceLimits, place: Place): AsyncGenerator<Buffer> {
  const watch = new Pace(limits, (cause) => {
    body.destroy(failureAt(place, 'unavailable', cause, { canRetry: true }));
  });
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      watch.moved(chunk.length);
      yield chunk;
      watch.waits();
    }
  } catch (error) {
    throw networkError(place, error);
  } finally {
    watch.stop();
  }
}

export class Pace {
  readonly #limits: PaceLimits;
  readonly #onSlow: (cause: string) => void;
  readonly #timer: NodeJS.Timeout;
  readonly #tickMs: number;
  #isWaiting = true;
  #silentMs = 0;
  #windowMs = 0;
  #windowBytes = 0;

  /** Waits from the start. `onSlow` is called once at most for each rule that is broken. */
  constructor(limits: PaceLimits, onSlow: (cause: string) => void) {
    this.#limits = limits;
    this.#onSlow = onSlow;
    this.#tickMs = Math.max(1, Math.min(1000, limits.stallMs / TICKS_PER_STALL));
    this.#timer = setInterval(() => this.#tick(), this.#tickMs);
  }

  moved(bytes: number): void {
    this.#isWaiting = false;
    this.#silentMs = 0;
    this.#windowBytes += bytes;
  }

  waits(): void {
    this.#isWaiting = true;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** However long the thread was busy, a tick counts as one, and data that came meanwhile is seen before the next. */
  #tick(): void {
    if (!this.#isWaiting) return;
    const { stallMs, bytesPerSecondMin } = this.#limits;
    this.#silentMs += this.#tickMs;
    this.#windowMs += this.#tickMs;
    if (this.#silentMs >= stallMs) {
      this.#fail(`no byte has come for ${stallMs / 1000} s`);
    } else if (this.#windowMs >= SLOW_WINDOW_MS) {
      const rate = (this.#windowBytes * 1000) / this.#windowMs;
      if (rate < bytesPerSecondMin) this.#fail(`only ${Math.round(rate)} bytes per second come`);
      this.#windowMs = 0;
      this.#windowBytes = 0;
    }
  }

  #fail(cause: string): void {
    this.stop();
    this.#onSlow(`${cause}: the registry, or the way to it, is too slow`);
  }
}
