// The event exchange: every event goes to the journal first, then to the live subscribers, in one order. Events that
// nobody was there to see (exits found at start-up) can be held for the first subscriber.

import type { Input, MessageType } from '../../proto/codec';
import { invalidArgument, messageOf, resourceExhausted, unknown } from '../../proto/errors';
import type { Envelope } from '../../proto/generated/containerd.types';
import type { Any } from '../../proto/generated/google.protobuf';
import { Any as AnyType } from '../../proto/generated/google.protobuf';
import { checkIdentifier } from '../../proto/ids';
import { fromTimestamp, nowNs, toTimestamp } from '../../proto/time';
import type { Database } from '../metadata/database';
import { type Filter, parseFilters } from '../metadata/filters';
import { fieldsOf } from './fields';

/** Events that a subscriber may lag behind before it is dropped. */
const SUBSCRIBER_QUEUE_MAX = 16384;
/** Events that wait for a first subscriber. */
const HELD_MAX = 4096;
/** Journal rows kept; older ones go in steps. */
const JOURNAL_ROWS_MAX = 20_000;
const JOURNAL_TRIM_EVERY = 1000;

interface Subscriber {
  readonly filter: Filter;
  readonly queue: Envelope[];
  wake: () => void;
  overflowed: boolean;
}

export class EventBus {
  readonly #db: Database;
  readonly #subscribers = new Set<Subscriber>();
  #held: Envelope[] = [];
  #sinceTrim = 0;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Publishes after the commit of the transaction at hand, at once when there is none. */
  publish<T>(namespace: string, topic: string, type: MessageType<T>, payload: Input<T>): void {
    this.publishAny(namespace, topic, { typeUrl: type.name, value: type.encode(payload) });
  }

  /** Like publish(), but keeps the event for the first subscriber that wants it when there is none yet. */
  publishOrHold<T>(namespace: string, topic: string, type: MessageType<T>, payload: Input<T>): void {
    this.publishAny(namespace, topic, { typeUrl: type.name, value: type.encode(payload) }, true);
  }

  /** @throws INVALID_ARGUMENT for a malformed topic. */
  publishAny(namespace: string, topic: string, event: Any | undefined, hold = false): void {
    checkTopic(topic);
    const envelope = { timestamp: toTimestamp(nowNs()), namespace, topic, event };
    this.#db.afterCommit(() => this.#emit(envelope, hold));
  }

  /** Passes on an envelope as it is. @throws INVALID_ARGUMENT for a bad namespace or topic or a missing time. */
  forward(envelope: Envelope): void {
    checkIdentifier(envelope.namespace);
    checkTopic(envelope.topic);
    if (fromTimestamp(envelope.timestamp) === 0n) throw invalidArgument('timestamp must be set on forwarded event');
    this.#db.afterCommit(() => this.#emit(envelope, false));
  }

  /**
   * Follows all events that match from the moment of the call on; held events come first. Ends when the signal aborts.
   * @throws UNKNOWN for a bad filter, RESOURCE_EXHAUSTED when the subscriber is too slow.
   */
  subscribe(filters: readonly string[], signal: AbortSignal): AsyncIterable<Envelope> {
    let filter: Filter;
    try {
      filter = parseFilters(filters);
    } catch (error) {
      throw unknown(`failed parsing subscription filters: ${messageOf(error)}`, { cause: error });
    }
    const subscriber: Subscriber = { filter, queue: [], wake: () => {}, overflowed: false };
    this.#subscribers.add(subscriber);
    this.#held = this.#held.filter((envelope) => !offer(subscriber, envelope));
    return this.#follow(subscriber, signal);
  }

  /** Journal entries after a sequence number, oldest first. */
  *replayFrom(sequence: bigint): Iterable<{ sequence: bigint; envelope: Envelope }> {
    const rows = this.#db
      .prepare('SELECT sequence, timestamp, namespace, topic, event FROM events WHERE sequence > ? ORDER BY sequence')
      .all(sequence) as { sequence: bigint; timestamp: bigint; namespace: string; topic: string; event: Buffer }[];
    for (const row of rows) {
      const event = row.event.length === 0 ? undefined : AnyType.decode(row.event);
      const { namespace, topic } = row;
      yield { sequence: row.sequence, envelope: { timestamp: toTimestamp(row.timestamp), namespace, topic, event } };
    }
  }

  async *#follow(subscriber: Subscriber, signal: AbortSignal): AsyncIterable<Envelope> {
    const wake = () => subscriber.wake();
    signal.addEventListener('abort', wake);
    try {
      while (!signal.aborted) {
        if (subscriber.overflowed)
          throw resourceExhausted(`subscriber is more than ${SUBSCRIBER_QUEUE_MAX} events behind`);
        const next = subscriber.queue.shift();
        if (next !== undefined) yield next;
        else {
          await new Promise<void>((resolve) => {
            subscriber.wake = resolve;
          });
        }
      }
    } finally {
      signal.removeEventListener('abort', wake);
      this.#subscribers.delete(subscriber);
    }
  }

  #emit(envelope: Envelope, hold: boolean): void {
    this.#record(envelope);
    let isTaken = false;
    for (const subscriber of this.#subscribers) isTaken = offer(subscriber, envelope) || isTaken;
    if (hold && !isTaken && this.#held.length < HELD_MAX) this.#held.push(envelope);
  }

  #record(envelope: Envelope): void {
    this.#db.transaction(() => {
      this.#db
        .prepare('INSERT INTO events (timestamp, namespace, topic, event) VALUES (?, ?, ?, ?)')
        .run(
          fromTimestamp(envelope.timestamp),
          envelope.namespace,
          envelope.topic,
          envelope.event === undefined ? Buffer.alloc(0) : AnyType.encode(envelope.event),
        );
      this.#sinceTrim += 1;
      if (this.#sinceTrim < JOURNAL_TRIM_EVERY) return;
      this.#sinceTrim = 0;
      this.#db
        .prepare('DELETE FROM events WHERE sequence <= (SELECT max(sequence) FROM events) - ?')
        .run(JOURNAL_ROWS_MAX);
    });
  }
}

/** @returns whether the subscriber wants the event. */
function offer(subscriber: Subscriber, envelope: Envelope): boolean {
  if (subscriber.overflowed || !subscriber.filter.matches(fieldsOf(envelope))) return false;
  if (subscriber.queue.length >= SUBSCRIBER_QUEUE_MAX) {
    subscriber.overflowed = true;
    subscriber.queue.length = 0;
  } else {
    subscriber.queue.push(envelope);
  }
  subscriber.wake();
  return true;
}

/** "/" and components that each follow the identifier rule. @throws INVALID_ARGUMENT */
function checkTopic(topic: string): void {
  if (topic === '') throw invalidArgument('topic cannot be empty');
  if (!topic.startsWith('/')) throw invalidArgument(`topic must start with '/'`);
  if (topic === '/') throw invalidArgument('topic must have at least one component');
  for (const component of topic.slice(1).split('/')) checkIdentifier(component);
}
