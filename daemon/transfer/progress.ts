// What a transfer tells of itself (containerd.types.transfer.Progress). Only the newest of each entry waits for a client that
// reads slowly: telling never holds up the work.

import { setTimeout } from 'node:timers/promises';
import { packAny } from '../../proto/any';
import { Progress } from '../../proto/generated/containerd.types.transfer';
import type { ImageDescriptor } from '../images/documents';
import type { Stream } from '../streaming/stream';

export interface ProgressEntry {
  readonly event: string;
  /** Empty: the state of the whole transfer. */
  readonly name?: string;
  readonly parents?: readonly string[];
  readonly progress?: number;
  readonly total?: number;
  readonly descriptor?: ImageDescriptor | undefined;
}

/** How long the last entries may take to a client that does not read. */
const DRAIN_MS = 10_000;

/** Sends entries in order; does nothing without a stream. */
export class ProgressReport {
  readonly #stream: Stream | undefined;
  readonly #waiting = new Map<string, ProgressEntry>();
  #sending: Promise<void> | undefined;
  #count = 0;

  constructor(stream?: Stream) {
    this.#stream = stream;
  }

  tell(entry: ProgressEntry): void {
    if (this.#stream === undefined) return;
    this.#count += 1;
    const { event, name = '' } = entry;
    // Bytes replace bytes; every other event arrives.
    const key = entry.progress === undefined ? `${this.#count}` : `${event} ${name}`;
    this.#waiting.delete(key);
    this.#waiting.set(key, entry);
    this.#sending ??= this.#send(this.#stream);
  }

  /** Resolves when all is sent, or nobody wants it. */
  async close(): Promise<void> {
    if (this.#stream === undefined) return;
    const stop = new AbortController();
    const late = setTimeout(DRAIN_MS, undefined, { signal: stop.signal, ref: false }).catch(() => {});
    await Promise.race([this.#sending, late]);
    stop.abort();
    this.#stream.close();
  }

  async #send(stream: Stream): Promise<void> {
    try {
      for (const [key, entry] of this.#waiting) {
        this.#waiting.delete(key);
        await stream.send(packAny(Progress, toWire(entry)));
      }
    } catch {
      // Whoever asked for progress has left; the transfer is another call's.
      this.#waiting.clear();
    } finally {
      this.#sending = undefined;
    }
  }
}

function toWire({ event, name = '', parents = [], progress = 0, total = 0, descriptor }: ProgressEntry) {
  const desc =
    descriptor === undefined
      ? undefined
      : {
          mediaType: descriptor.mediaType,
          digest: descriptor.digest,
          size: BigInt(descriptor.size),
          annotations: { ...descriptor.annotations },
        };
  return { event, name, parents: [...parents], progress: BigInt(progress), total: BigInt(total), desc };
}
