// The open streams of all namespaces, by id. A stream that was opened under a lease goes with it; all go with their call.

import { alreadyExists, notFound } from '../../proto/errors';
import type { Database } from '../metadata/database';
import type { Stream } from './stream';

export class Streams {
  readonly #db: Database;
  readonly #open = new Map<string, Stream>();

  constructor(db: Database) {
    this.#db = db;
  }

  /** @throws ALREADY_EXISTS while another stream of the namespace has the id */
  add(stream: Stream): void {
    const key = keyOf(stream.namespace, stream.id);
    if (this.#open.has(key)) throw alreadyExists(`stream "${stream.id}"`);
    this.#open.set(key, stream);
  }

  remove(stream: Stream): void {
    const key = keyOf(stream.namespace, stream.id);
    if (this.#open.get(key) === stream) this.#open.delete(key);
  }

  /** @throws NOT_FOUND */
  get(namespace: string, id: string): Stream {
    const stream = this.#open.get(keyOf(namespace, id));
    if (stream === undefined) throw notFound(`stream "${id}"`);
    return stream;
  }

  /** Closes the streams whose lease is gone. */
  sweep(): void {
    const lookup = this.#db.prepare('SELECT 1 FROM leases WHERE namespace = ? AND id = ?');
    for (const stream of this.#open.values()) {
      if (stream.lease !== undefined && lookup.get(stream.namespace, stream.lease) === undefined) stream.close();
    }
  }
}

/** A namespace has no slash. */
function keyOf(namespace: string, id: string): string {
  return `${namespace}/${id}`;
}
