// What is known of a transfer while it runs, from what the daemon tells of its parts: how far each is, and how fast all is.

import type { Input } from '../../proto/codec';
import type { Progress } from '../../proto/generated/containerd.types.transfer';

export interface Part {
  readonly name: string;
  event: string;
  doneBytes: number;
  totalBytes: number;
}

interface Sample {
  readonly atMs: number;
  readonly bytes: number;
}

/** Events of bytes under way. */
const MOVING = new Set(['downloading', 'uploading', 'reading', 'sending', 'receiving']);
const ENDED = new Set([
  ...['complete', 'already exists', 'extracted', 'saved', 'mounted'],
  ...['good', 'missing', 'corrupt', 'repaired'],
]);
/** The rate is that of the last few seconds. */
const RATE_WINDOW_MS = 5000;

export class TransferModel {
  /** What the transfer as a whole is at, such as "Importing". */
  status = '';
  readonly #parts = new Map<string, Part>();
  readonly #samples: Sample[] = [];
  /** Bytes that were there before, of resumed parts: they count for the total and not for the rate. */
  #foundBytes = 0;

  update(entry: Input<Progress>, nowMs: number): void {
    const { event = '', name = '', progress = 0n, total = 0n } = entry;
    if (name === '') {
      this.status = event;
      return;
    }
    const before = this.#parts.get(name);
    const part = before ?? { name, event, doneBytes: 0, totalBytes: 0 };
    const done = Number(progress);
    if (event === 'already exists' || (before?.event === 'waiting' && MOVING.has(event))) {
      this.#foundBytes += Math.max(0, done - part.doneBytes);
    }
    part.event = event;
    part.doneBytes = Math.max(part.doneBytes, done);
    part.totalBytes = Math.max(part.totalBytes, Number(total));
    this.#parts.set(name, part);
    this.#sample(nowMs);
  }

  get parts(): readonly Part[] {
    return [...this.#parts.values()];
  }

  get doneBytes(): number {
    return this.parts.reduce((sum, part) => sum + part.doneBytes, 0);
  }

  get totalBytes(): number {
    return this.parts.reduce((sum, part) => sum + Math.max(part.totalBytes, part.doneBytes), 0);
  }

  /** Bytes a second; 0 while nothing is known. */
  rate(nowMs: number): number {
    const first = this.#samples.find(({ atMs }) => atMs >= nowMs - RATE_WINDOW_MS) ?? this.#samples.at(-1);
    if (first === undefined || nowMs <= first.atMs) return 0;
    return Math.max(0, ((this.doneBytes - this.#foundBytes - first.bytes) * 1000) / (nowMs - first.atMs));
  }

  /** Seconds until the bytes are there; undefined while that cannot be said. */
  remainingSeconds(nowMs: number): number | undefined {
    const rate = this.rate(nowMs);
    const left = this.totalBytes - this.doneBytes;
    return rate > 0 && left > 0 ? Math.ceil(left / rate) : undefined;
  }

  #sample(nowMs: number): void {
    this.#samples.push({ atMs: nowMs, bytes: this.doneBytes - this.#foundBytes });
    while ((this.#samples[1]?.atMs ?? nowMs) < nowMs - RATE_WINDOW_MS) this.#samples.shift();
  }
}

export function isMoving({ event }: Part): boolean {
  return MOVING.has(event);
}

export function isDone({ event }: Part): boolean {
  return ENDED.has(event);
}
