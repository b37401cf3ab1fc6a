// One open stream: messages both ways until one side is done. The call behind it (services/streaming.ts) lives as long
// as the stream; whoever looked the stream up sends, receives and closes.

import { setImmediate } from 'node:timers/promises';
import { canceled, failedPrecondition } from '../../proto/errors';
import type { Any } from '../../proto/generated/google.protobuf';

interface Outgoing {
  readonly message: Any;
  readonly sent: () => void;
  readonly failed: (error: unknown) => void;
}

export class Stream {
  readonly namespace: string;
  readonly id: string;
  readonly lease: string | undefined;
  /** Aborts when the client cancels or is gone. */
  readonly signal: AbortSignal;
  readonly #incoming: AsyncIterator<Any>;
  readonly #outgoing: Outgoing[] = [];
  #wake = Promise.withResolvers<void>();
  #isClosed = false;

  constructor(
    name: { readonly namespace: string; readonly id: string; readonly lease: string | undefined },
    incoming: AsyncIterator<Any>,
    signal: AbortSignal,
  ) {
    this.namespace = name.namespace;
    this.id = name.id;
    this.lease = name.lease;
    this.#incoming = incoming;
    this.signal = signal;
    signal.addEventListener('abort', () => this.#wake.resolve(), { once: true });
  }

  /** Resolves when the message is on its way to the client. @throws CANCELLED, FAILED_PRECONDITION after close() */
  send(message: Any): Promise<void> {
    if (this.#isClosed || this.signal.aborted)
      return Promise.reject(failedPrecondition(`stream "${this.id}" is closed`));
    return new Promise((sent, failed) => {
      this.#outgoing.push({ message, sent, failed });
      this.#wake.resolve();
    });
  }

  /** The next message; undefined when the client has sent its last. One caller at a time. @throws CANCELLED */
  async receive(): Promise<Any | undefined> {
    const next = await this.#incoming.next().catch((error: unknown) => {
      if (this.signal.aborted) return { done: true } as const;
      throw error;
    });
    if (next.done !== true) return next.value;
    // A call that was cut ends as one that was finished; only the signal tells them apart, a moment later.
    await setImmediate();
    if (this.signal.aborted) throw this.#left();
    return undefined;
  }

  /** Ends the call with OK once everything is sent. Idempotent. */
  close(): void {
    this.#isClosed = true;
    this.#wake.resolve();
  }

  /** What goes out on the call, in order; ends after close(). */
  async *messages(): AsyncGenerator<Any> {
    try {
      for (;;) {
        for (let next = this.#outgoing[0]; next !== undefined; next = this.#outgoing[0]) {
          yield next.message;
          this.#outgoing.shift();
          next.sent();
        }
        if (this.#isClosed || this.signal.aborted) return;
        await this.#wake.promise;
        this.#wake = Promise.withResolvers<void>();
      }
    } finally {
      this.#isClosed = true;
      for (const { failed } of this.#outgoing.splice(0)) failed(this.#left());
    }
  }

  #left(): Error {
    return canceled(`stream "${this.id}": the client has left`);
  }
}
