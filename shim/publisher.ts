// Sends the events of tasks to the daemon, in the order in which they happened. The daemon may be away: events wait in a
// bounded queue and are tried again, at once when the daemon shows itself.

import type { Input, MessageType } from '../proto/codec';
import { messageOf } from '../proto/errors';
import { EventsService } from '../proto/generated/containerd.services.events.ttrpc.v1';
import { nowNs, toTimestamp } from '../proto/time';
import { TtrpcClient } from '../proto/ttrpc/client';
import type { Log } from './log';

/** Events that wait for the daemon; the oldest is dropped for one more. */
export const QUEUE_EVENTS_MAX = 2048;
const FORWARD_TIMEOUT_MS = 5000;
const RETRY_DELAY_MS_STEP = 1000;
const RETRY_DELAY_MS_MAX = 5000;
/** Refused so often (not: unreachable), an event is given up, so that it does not hold up those behind it. */
const REFUSALS_MAX = 5;

interface QueuedEvent {
  readonly topic: string;
  readonly timestampNs: bigint;
  readonly event: { typeUrl: string; value: Buffer };
  refusals: number;
}

export interface PublisherOptions {
  /** The daemon's ttrpc socket; empty: events are dropped. */
  readonly address: string;
  readonly namespace: string;
  readonly log: Log;
}

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #queue: QueuedEvent[] = [];
  #client: TtrpcClient | undefined;
  #isSending = false;
  #failures = 0;
  #wake: (() => void) | undefined;
  #onIdle: (() => void)[] = [];

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /** Queues an event; returns at once. */
  publish<T>(topic: string, type: MessageType<T>, payload: Input<T>): void {
    if (this.#options.address === '') return;
    if (this.#queue.length >= QUEUE_EVENTS_MAX) {
      const dropped = this.#queue.splice(this.#isSending ? 1 : 0, 1)[0];
      this.#options.log.error('event queue is full, event dropped', { topic: dropped?.topic });
    }
    const event = { typeUrl: type.name, value: type.encode(payload) };
    this.#queue.push({ topic, timestampNs: nowNs(), event, refusals: 0 });
    if (!this.#isSending) void this.#send(); // Handles its own failures.
  }

  /** The daemon is there: what waits for its next attempt is tried now. */
  retryNow(): void {
    this.#wake?.();
  }

  /** Resolves when the queue is empty, at the latest after the limit. */
  async flush(limitMs: number): Promise<void> {
    if (!this.#isSending) return;
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, limitMs);
    });
    await Promise.race([new Promise<void>((resolve) => this.#onIdle.push(resolve)), limit]);
    clearTimeout(timer);
  }

  /** Gives up what is still queued. */
  close(): void {
    this.#queue.length = 0;
    this.#wake?.();
    this.#client?.close();
  }

  async #send(): Promise<void> {
    this.#isSending = true;
    for (let head = this.#queue[0]; head !== undefined; head = this.#queue[0]) {
      try {
        await this.#forward(head);
        this.#failures = 0;
        this.#queue.shift();
      } catch (error) {
        const isRefused = this.#client !== undefined && !this.#client.isClosed;
        this.#options.log.warn('forward event', { topic: head.topic, error: messageOf(error) });
        if (isRefused && ++head.refusals > REFUSALS_MAX) this.#queue.shift();
        else await this.#pause();
      }
    }
    this.#isSending = false;
    for (const listener of this.#onIdle.splice(0)) listener();
  }

  /** A connection that breaks is replaced once within the attempt: the daemon may have been restarted meanwhile. */
  async #forward(event: QueuedEvent): Promise<void> {
    const wasConnected = this.#client !== undefined && !this.#client.isClosed;
    try {
      await this.#call(event);
    } catch (error) {
      if (!wasConnected || this.#client?.isClosed !== true) throw error;
      await this.#call(event);
    }
  }

  async #call(event: QueuedEvent): Promise<void> {
    const { address, namespace } = this.#options;
    if (this.#client === undefined || this.#client.isClosed) {
      this.#client = await TtrpcClient.connect(address, { signal: AbortSignal.timeout(FORWARD_TIMEOUT_MS) });
    }
    const envelope = {
      timestamp: toTimestamp(event.timestampNs),
      namespace,
      topic: event.topic,
      event: event.event,
    };
    await this.#client.call(EventsService.forward, { envelope }, { namespace, timeoutMs: FORWARD_TIMEOUT_MS });
  }

  async #pause(): Promise<void> {
    this.#failures++;
    const delayMs = Math.min(this.#failures * RETRY_DELAY_MS_STEP, RETRY_DELAY_MS_MAX);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, delayMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }
}
