// Copies from a pipe, fifo or terminal to a sink until its end. All pumps share one buffer: a piece is either written
// before the next read, or its rest is copied and reading stops until it is gone. A slow reader therefore stops the
// writer, as a pipe without a shim in between would.

import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Sink } from './sink';

const PIECE_BYTES = 64 * 1024;

let sharedBuffer: Buffer | undefined;

export interface PumpSource {
  /** A descriptor to read from; the pump closes it at its end. */
  readonly fd: number;
  readonly kind: 'pipe' | 'terminal';
}

export class Pump {
  /** Resolves at the end of the source, when its last byte is with the sink, or when the pump was closed. */
  readonly done: Promise<void>;
  #sink: Sink | undefined;
  readonly #stopped: () => void;
  #socket: Socket | undefined;
  #pending: Promise<void> | undefined;
  #hasEnded = false;
  #lastReadMs = performance.now();

  /** Starts at once. The sink is closed with the pump. */
  constructor(source: PumpSource, sink: Sink) {
    this.#sink = sink;
    let resolveDone: () => void = () => {};
    this.done = new Promise((resolve) => {
      resolveDone = resolve;
    });
    this.#stopped = resolveDone;
    this.#socket = openSource(source, (piece) => this.#take(piece));
    this.#socket.on('error', () => {}); // EIO from a terminal without a process; "close" follows.
    this.#socket.on('close', () => void this.#finish());
    this.#socket.resume();
  }

  /** Since when nothing has come; 0 while a piece waits for the sink, undefined after the end. */
  get quietMs(): number | undefined {
    if (this.#hasEnded) return undefined;
    return this.#pending === undefined ? performance.now() - this.#lastReadMs : 0;
  }

  /** Drops what has not been read yet. */
  close(): void {
    this.#socket?.destroy();
    this.#closeSink();
  }

  #take(piece: Buffer): boolean {
    this.#lastReadMs = performance.now();
    let more: Promise<void> | undefined;
    try {
      more = this.#sink?.write(piece);
    } catch {
      this.#socket?.destroy(); // Nobody reads the other end: the writer shall notice, as it would without us.
      return true;
    }
    if (more === undefined) return true;
    this.#pending = more;
    more.then(
      () => {
        this.#pending = undefined;
        this.#lastReadMs = performance.now();
        this.#socket?.resume();
      },
      () => this.#socket?.destroy(),
    );
    this.#socket?.pause();
    return true;
  }

  async #finish(): Promise<void> {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#socket = undefined;
    await this.#pending?.catch(() => {}); // A sink that failed has been dealt with.
    this.#closeSink();
    this.#stopped();
  }

  #closeSink(): void {
    this.#sink?.close();
    this.#sink = undefined;
  }
}

function openSource(source: PumpSource, take: (piece: Buffer) => boolean): Socket {
  sharedBuffer ??= Buffer.allocUnsafeSlow(PIECE_BYTES);
  const buffer = sharedBuffer;
  const onread = { buffer, callback: (length: number) => take(buffer.subarray(0, length)) };
  try {
    if (source.kind === 'pipe') return new Socket({ fd: source.fd, readable: true, writable: false, onread });
    // Loaded only where there is a terminal: it costs memory.
    const { ReadStream } = require('node:tty') as typeof import('node:tty');
    return new ReadStream(source.fd, { onread } as object);
  } catch (error) {
    closeSync(source.fd);
    throw error;
  }
}
