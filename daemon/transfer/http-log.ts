// What goes between the daemon and a registry, for the client of a transfer that wants to see it: to its stream of bytes,
// or to the daemon's log when it has opened none.

import { setTimeout } from 'node:timers/promises';
import type { Logger } from '../log';
import { ByteSender } from '../streaming/byte-stream';
import type { Stream } from '../streaming/stream';

/** Texts that wait for a client that does not read; what comes then is lost, and counted. */
const WAITING_BYTES_MAX = 1 << 20;
/** How long the last ones may take. */
const DRAIN_MS = 10_000;

export interface HttpLog extends AsyncDisposable {
  write(text: string): void;
}

/** Ends the stream when it is disposed of. */
export class StreamedHttpLog implements HttpLog {
  readonly #sender: ByteSender;
  #last: Promise<void> = Promise.resolve();
  #waitingBytes = 0;
  #lost = 0;

  constructor(stream: Stream) {
    this.#sender = new ByteSender(stream);
  }

  /** Never waits: telling does not hold up the work. */
  write(text: string): void {
    const bytes = Buffer.from(text);
    if (this.#waitingBytes + bytes.length > WAITING_BYTES_MAX) {
      this.#lost += 1;
      return;
    }
    const note = this.#lost === 0 ? '' : `* ${this.#lost} texts were lost: they were not read in time\n\n`;
    this.#lost = 0;
    this.#waitingBytes += bytes.length;
    this.#last = this.#last
      .then(() => this.#sender.write(Buffer.concat([Buffer.from(note), bytes])))
      // Whoever wanted it has left.
      .catch(() => {})
      .finally(() => {
        this.#waitingBytes -= bytes.length;
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const stop = new AbortController();
    const late = setTimeout(DRAIN_MS, undefined, { signal: stop.signal, ref: false }).catch(() => {});
    await Promise.race([this.#last, late]);
    stop.abort();
    this.#sender.end();
  }
}

/** In the daemon's log, a line for each text. */
export function loggedHttp(log: Logger, reference: string): HttpLog {
  return {
    write: (text) => void log.info('registry', { reference, http: text.trimEnd() }),
    [Symbol.asyncDispose]: async () => {},
  };
}
