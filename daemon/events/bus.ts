// Publishes events: a journal row and a live copy for every subscriber whose filter matches, in one order. An event
// published inside a transaction is journaled with it and goes out when it is committed. The journal is bounded; it
// serves replay, and it holds events that have to wait for their first subscriber over restarts of the daemon.

import { packAny } from '../../proto/any';
import type { Input, MessageType } from '../../proto/codec';
import { invalidArgument, messageOf, unknown } from '../../proto/errors';
import type { Envelope } from '../../proto/generated/containerd.types';
import { Any } from '../../proto/generated/google.protobuf';
import { checkIdentifier } from '../../proto/ids';
import { fromTimestamp, nowNs, toTimestamp } from '../../proto/time';
import type { Database } from '../metadata/database';
import { type Filter, parseFilters } from '../metadata/filters';
import { fieldsOf } from './fields';
import { Subscription } from './subscription';
import { checkTopic } from './topic';

/** Rows kept in the journal; the oldest go first. */
export const JOURNAL_EVENTS_MAX = 10_000;
/** The journal is cut when this many rows were added, so that not every event pays for it. */
const JOURNAL_CUT_EVERY = 500;
/** Events that wait for their first subscriber; the oldest go first. */
export const HELD_EVENTS_MAX = 4096;

export interface JournalEntry {
  readonly sequence: bigint;
  readonly envelope: Envelope;
}

interface Subscriber {
  readonly filter: Filter;
  readonly subscription: Subscription;
  /** It has had its time to look around, and takes held events. */
  isSettled: boolean;
}

export interface EventBusOptions {
  /**
   * Held events come to a new subscriber after this time. A client that has just been started asks for the state of its
   * tasks then, and deletes those that have ended; told of the same exit at the same time, dockerd starts a container twice.
   */
  readonly settleMs?: number;
}

interface EventRow {
  readonly sequence: bigint;
  readonly timestamp: bigint;
  readonly namespace: string;
  readonly topic: string;
  readonly event: Buffer;
}

const COLUMNS = 'sequence, timestamp, namespace, topic, event';

export class EventBus {
  readonly #db: Database;
  readonly #settleMs: number;
  readonly #subscribers = new Set<Subscriber>();
  #added = 0;
  #held: number;

  constructor(db: Database, options: EventBusOptions = {}) {
    this.#db = db;
    this.#settleMs = options.settleMs ?? 0;
    this.#held = Number(db.prepare('SELECT count(*) FROM events WHERE held = 1').pluck().get() as bigint);
  }

  /** Publishes a typed event at the current time. @throws INVALID_ARGUMENT for a bad topic or namespace */
  publish<T>(namespace: string, topic: string, type: MessageType<T>, payload: Input<T>): void {
    this.publishAny(namespace, topic, packAny(type, payload));
  }

  /**
   * Like publish(), but when no subscriber wants the event now, it is kept for the first one that does, also over a
   * restart of the daemon. Meant for exits of tasks that were adopted: their clients may not be connected again yet.
   */
  publishOrHold<T>(namespace: string, topic: string, type: MessageType<T>, payload: Input<T>): void {
    this.publishAny(namespace, topic, packAny(type, payload), true);
  }

  /** Publishes a payload that may be of a type unknown here. @throws INVALID_ARGUMENT */
  publishAny(namespace: string, topic: string, event: Any | undefined, hold = false): void {
    this.#add({ timestamp: toTimestamp(nowNs()), namespace, topic, event }, hold);
  }

  /** Takes over an envelope as it is. @throws INVALID_ARGUMENT for a bad namespace, topic or time */
  forward(envelope: Envelope, hold = false): void {
    if (fromTimestamp(envelope.timestamp) === 0n) throw invalidArgument('timestamp must be set on forwarded event');
    this.#add(envelope, hold);
  }

  /**
   * Live events from now on whose filter matches, all namespaces, and held ones. Ends when `signal` aborts.
   * @throws UNKNOWN for a bad filter (at once), RESOURCE_EXHAUSTED from the iterator for a slow reader
   */
  subscribe(filters: readonly string[], signal: AbortSignal): AsyncIterable<Envelope> {
    const subscription = new Subscription();
    const subscriber: Subscriber = { filter: subscriptionFilter(filters), subscription, isSettled: false };
    let timer: NodeJS.Timeout | undefined;
    const end = () => {
      clearTimeout(timer);
      this.#subscribers.delete(subscriber);
      subscription.end();
    };
    if (signal.aborted) end();
    else {
      signal.addEventListener('abort', end, { once: true });
      if (this.#settleMs === 0) this.#releaseHeld(subscriber);
      else timer = setTimeout(() => this.#releaseHeld(subscriber), this.#settleMs).unref();
      this.#subscribers.add(subscriber);
    }
    return subscription.events();
  }

  /** Held events of a container are held no longer: its task is another one now, or a client knows that it has ended. */
  unhold(namespace: string, containerId: string): void {
    for (const row of this.#heldRows()) {
      const id = fieldsOf(toEnvelope(row))(['event', 'container_id']);
      if (row.namespace === namespace && id === containerId) this.#release(row.sequence);
    }
  }

  /** Ends every subscription, so that streams finish when the daemon stops. */
  close(): void {
    for (const { subscription } of this.#subscribers) subscription.end();
    this.#subscribers.clear();
  }

  /** Journal entries after a sequence number, oldest first, at most `limit`. */
  replayFrom(sequence: bigint, limit = JOURNAL_EVENTS_MAX): JournalEntry[] {
    const rows = this.#db
      .prepare(`SELECT ${COLUMNS} FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?`)
      .all(sequence, limit) as EventRow[];
    return rows.map((row) => ({ sequence: row.sequence, envelope: toEnvelope(row) }));
  }

  #add(envelope: Envelope, hold: boolean): void {
    checkIdentifier(envelope.namespace);
    checkTopic(envelope.topic);
    const isHeld = hold && !this.#isWanted(envelope);
    this.#db.essential(() => {
      this.#journal(envelope, isHeld);
      this.#db.afterCommit(() => {
        if (isHeld) this.#held += 1;
        else this.#fanOut(envelope);
      });
    });
  }

  #journal(envelope: Envelope, isHeld: boolean): void {
    const event = envelope.event === undefined ? Buffer.alloc(0) : Any.encode(envelope.event);
    this.#db
      .prepare('INSERT INTO events (timestamp, namespace, topic, event, held) VALUES (?, ?, ?, ?, ?)')
      .run(fromTimestamp(envelope.timestamp), envelope.namespace, envelope.topic, event, isHeld ? 1 : 0);
    this.#added += 1;
    if (this.#added % JOURNAL_CUT_EVERY !== 1) return;
    this.#db
      .prepare('DELETE FROM events WHERE held = 0 AND sequence <= (SELECT max(sequence) FROM events) - ?')
      .run(JOURNAL_EVENTS_MAX);
    this.#db
      .prepare(
        'UPDATE events SET held = 0 WHERE held = 1 AND sequence NOT IN (SELECT sequence FROM events WHERE held = 1 ORDER BY sequence DESC LIMIT ?)',
      )
      .run(HELD_EVENTS_MAX);
  }

  #isWanted(envelope: Envelope): boolean {
    const lookup = fieldsOf(envelope);
    return [...this.#subscribers].some(
      ({ filter, subscription, isSettled }) => isSettled && !subscription.isEnded && filter.matches(lookup),
    );
  }

  #fanOut(envelope: Envelope): void {
    if (this.#subscribers.size === 0) return;
    const lookup = fieldsOf(envelope);
    for (const subscriber of this.#subscribers) {
      if (subscriber.filter.matches(lookup)) subscriber.subscription.push({ envelope });
      if (subscriber.subscription.isEnded) this.#subscribers.delete(subscriber);
    }
  }

  /** Hands held events to a subscriber, from now on at once; each stays held until it was taken. */
  #releaseHeld(subscriber: Subscriber): void {
    if (subscriber.subscription.isEnded) return;
    subscriber.isSettled = true;
    for (const row of this.#heldRows()) {
      const envelope = toEnvelope(row);
      if (!subscriber.filter.matches(fieldsOf(envelope))) continue;
      subscriber.subscription.push({ envelope, onTaken: () => this.#release(row.sequence) });
    }
  }

  #heldRows(): EventRow[] {
    if (this.#held === 0) return [];
    const rows = this.#db.prepare(`SELECT ${COLUMNS} FROM events WHERE held = 1 ORDER BY sequence`).all() as EventRow[];
    this.#held = rows.length;
    return rows;
  }

  #release(sequence: bigint): void {
    const { changes } = this.#db.prepare('UPDATE events SET held = 0 WHERE sequence = ? AND held = 1').run(sequence);
    this.#db.afterCommit(() => {
      this.#held -= changes;
    });
  }
}

/** Clients are used to UNKNOWN for a bad filter here, other than in List calls. */
function subscriptionFilter(filters: readonly string[]): Filter {
  try {
    return parseFilters(filters);
  } catch (error) {
    throw unknown(`subscription error: failed parsing subscription filters: ${messageOf(error)}`, { cause: error });
  }
}

function toEnvelope(row: EventRow): Envelope {
  return {
    timestamp: toTimestamp(row.timestamp),
    namespace: row.namespace,
    topic: row.topic,
    event: row.event.length === 0 ? undefined : Any.decode(row.event),
  };
}
