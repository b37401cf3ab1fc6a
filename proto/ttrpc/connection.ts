// One byte stream that carries frames, as both sides see it: encodes, decodes, bounds what waits to be written and
// tells when it is closed. What the frames mean is the business of client.ts and server.ts.

import type { Duplex } from 'node:stream';
import { resourceExhausted } from '../errors';
import { encodeFrame, type Frame, FrameDecoder, type FrameSink, PAYLOAD_LENGTH_MAX } from './frame';
import { type MessageQueue, STREAM_BUFFER_FULL_MS } from './queue';

/** What may wait to be written before the peer counts as dead. */
export const WRITE_BUFFER_BYTES_MAX = 4 * PAYLOAD_LENGTH_MAX;

export class Connection {
  readonly #stream: Duplex;
  #isClosed = false;

  /** Takes over the stream. `onClose` is called once, with the cause if there was one. */
  constructor(stream: Duplex, sink: FrameSink, onClose: (cause?: Error) => void) {
    this.#stream = stream;
    const decoder = new FrameDecoder(sink);
    let cause: Error | undefined;
    stream.on('data', (chunk: Buffer) => decoder.push(chunk));
    stream.on('error', (error: Error) => {
      cause = error;
    });
    stream.on('end', () => stream.destroy());
    stream.on('close', () => {
      this.#isClosed = true;
      onClose(cause);
    });
  }

  get isClosed(): boolean {
    return this.#isClosed || this.#stream.destroyed;
  }

  /**
   * Writes one frame; frames leave in the order of the calls. Does nothing on a closed connection.
   * @throws RESOURCE_EXHAUSTED when the payload is too long; nothing is written then.
   */
  send(frame: Frame): void {
    const { length } = frame.payload;
    if (length > PAYLOAD_LENGTH_MAX) {
      throw resourceExhausted(`message length ${length} exceed maximum message size of ${PAYLOAD_LENGTH_MAX}`);
    }
    if (this.isClosed) return;
    this.#stream.write(encodeFrame(frame));
    if (this.#stream.writableLength > WRITE_BUFFER_BYTES_MAX) {
      this.#stream.destroy(new Error('ttrpc: the peer does not read'));
    }
  }

  /** Resolves when the stream takes more; at once when it does already or is closed. */
  async drained(): Promise<void> {
    if (this.isClosed || !this.#stream.writableNeedDrain) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#stream.off('drain', done);
        this.#stream.off('close', done);
        resolve();
      };
      this.#stream.on('drain', done);
      this.#stream.on('close', done);
    });
  }

  /** Stops reading while the queue is full, for a limited time; `fail` is called when it stays full. */
  waitForRoom(queue: MessageQueue<unknown>, fail: () => void): void {
    if (!queue.isFull || queue.hasRoomListener) return;
    this.#stream.pause();
    const timer = setTimeout(fail, STREAM_BUFFER_FULL_MS);
    queue.whenRoom(() => {
      clearTimeout(timer);
      this.#stream.resume();
    });
  }

  /** Sends what is buffered, then closes. */
  end(): void {
    this.#stream.end();
  }

  destroy(): void {
    this.#stream.destroy();
  }
}
