// The rest of a blob in several requests at once, for connections that are slow one by one. The ranges come out in order;
// those that arrive early wait in memory, of which there is a fixed amount for all downloads together.

import type { HttpAnswer } from './exchange';
import { contentError, type Place } from './failure';
import type { PaceLimits } from './pace';
import { paced } from './pace';
import { QUESTION_RETRIES, withRetries } from './retry';

export const RANGE_BYTES = 2 << 20;
/** Ranges under way for one blob. */
const WIDTH = 4;
/** Ranges in memory, of all blobs. */
const BUFFERS_MAX = 8;

/** Memory of one range. */
interface Slot {
  readonly buffer: Buffer;
  readonly release: () => void;
}

/** The memory for ranges, lent in the order in which it is asked for, and given back when nobody uses any. */
export class RangeBudget {
  #free: Buffer[] = [];
  #lent = 0;
  readonly #waiting: ((slot: Slot) => void)[] = [];

  /** @throws the signal's reason */
  async acquire(signal: AbortSignal): Promise<Slot> {
    signal.throwIfAborted();
    return this.#lent < BUFFERS_MAX ? this.#lend() : this.#turn(signal);
  }

  #lend(): Slot {
    this.#lent += 1;
    const buffer = this.#free.pop() ?? Buffer.allocUnsafeSlow(RANGE_BYTES);
    return { buffer, release: () => this.#takeBack(buffer) };
  }

  #turn(signal: AbortSignal): Promise<Slot> {
    return new Promise((resolve, reject) => {
      const go = (slot: Slot) => {
        signal.removeEventListener('abort', leave);
        resolve(slot);
      };
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(go), 1);
        reject(signal.reason);
      };
      signal.addEventListener('abort', leave, { once: true });
      this.#waiting.push(go);
    });
  }

  #takeBack(buffer: Buffer): void {
    this.#lent -= 1;
    this.#free.push(buffer);
    this.#waiting.shift()?.(this.#lend());
    if (this.#lent === 0) this.#free = [];
  }
}

export interface RangesOptions {
  readonly from: number;
  readonly sizeBytes: number;
  /** Sends the request for bytes `first` to `last`. @throws RegistryError for an answer that is not exactly these */
  readonly open: (first: number, last: number, signal: AbortSignal) => Promise<HttpAnswer>;
  readonly budget: RangeBudget;
  readonly limits: PaceLimits;
  readonly place: Place;
  readonly signal: AbortSignal;
}

interface Loading {
  readonly bytes: Promise<Buffer>;
  readonly release: () => void;
}

export class Ranges implements AsyncDisposable {
  readonly from: number;
  readonly #options: RangesOptions;
  readonly #stop = new AbortController();
  readonly #loading: Loading[] = [];
  #next: number;

  /** Starts at once. */
  constructor(options: RangesOptions) {
    this.#options = options;
    this.from = options.from;
    this.#next = options.from;
    this.#fill();
  }

  /** The bytes from `from` to the end, in order. @throws RegistryError, the signal's reason */
  async *buffers(): AsyncGenerator<Buffer> {
    for (;;) {
      const head = this.#loading[0];
      if (head === undefined) return;
      yield await head.bytes;
      this.#loading.shift();
      head.release();
      this.#fill();
    }
  }

  /** Ends what is under way; resolves when all of it has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    const rest = this.#loading.splice(0);
    await Promise.allSettled(rest.map(({ bytes }) => bytes));
    for (const { release } of rest) release();
  }

  #fill(): void {
    const { sizeBytes } = this.#options;
    while (this.#loading.length < WIDTH && this.#next < sizeBytes) {
      const first = this.#next;
      this.#next = Math.min(first + RANGE_BYTES, sizeBytes);
      this.#loading.push(this.#load(first, this.#next));
    }
  }

  #load(first: number, end: number): Loading {
    const { budget, signal } = this.#options;
    const both = AbortSignal.any([signal, this.#stop.signal]);
    let release = () => {};
    const load = async () => {
      const slot = await budget.acquire(both);
      release = slot.release;
      const buffer = slot.buffer.subarray(0, end - first);
      await withRetries(QUESTION_RETRIES, () => this.#read(buffer, first, both), both);
      return buffer;
    };
    const bytes = load();
    // It may fail while an earlier one is still waited for.
    bytes.catch(() => {});
    return { bytes, release: () => release() };
  }

  async #read(buffer: Buffer, first: number, signal: AbortSignal): Promise<void> {
    const { open, limits, place } = this.#options;
    const answer = await open(first, first + buffer.length - 1, signal);
    let length = 0;
    for await (const chunk of paced(answer.body, limits, place)) {
      if (length + chunk.length > buffer.length) throw contentError(place, 'a range has more bytes than asked for');
      length += chunk.copy(buffer, length);
    }
    if (length < buffer.length) throw contentError(place, `a range ended after ${length} of ${buffer.length} bytes`);
  }
}
