// One subscriber of the event bus: a bounded queue with an async iterator at its end.

import { type ApiError, resourceExhausted } from '../../proto/errors';
import type { Envelope } from '../../proto/generated/containerd.types';

/** Events waiting for a subscriber that does not read. One that falls further behind is dropped with an error. */
export const QUEUE_EVENTS_MAX = 8192;

export interface QueuedEvent {
  readonly envelope: Envelope;
  /** Called when the subscriber has taken the event. */
  readonly onTaken?: () => void;
}

export class Subscription {
  #queue: QueuedEvent[] = [];
  #wake: (() => void) | undefined;
  #error: ApiError | undefined;
  #isEnded = false;
  readonly #limit: number;

  constructor(limit = QUEUE_EVENTS_MAX) {
    this.#limit = limit;
  }

  push(event: QueuedEvent): void {
    if (this.#isEnded) return;
    if (this.#queue.length >= this.#limit) {
      this.#queue = [];
      this.end(resourceExhausted(`subscriber is too slow: more than ${this.#limit} events were waiting for it`));
      return;
    }
    this.#queue.push(event);
    this.#wake?.();
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Ends the iterator after what is queued, with an error if one is given. */
  end(error?: ApiError): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#error = error;
    this.#wake?.();
  }

  async *events(): AsyncGenerator<Envelope, void, undefined> {
    for (;;) {
      const batch = this.#queue;
      this.#queue = [];
      for (const { envelope, onTaken } of batch) {
        yield envelope;
        onTaken?.();
      }
      if (this.#queue.length > 0) continue;
      if (this.#error !== undefined) throw this.#error;
      if (this.#isEnded) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}
