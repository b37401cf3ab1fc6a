// Bytes over a stream (containerd.types.transfer Data and WindowUpdate): the receiver grants a number of bytes, the sender
// sends no more and waits for the next grant. The end of the sender's messages is the end of the bytes.

import { packAny, unpackAny } from '../../proto/any';
import { invalidArgument } from '../../proto/errors';
import { Data, WindowUpdate } from '../../proto/generated/containerd.types.transfer';
import { roomyHeap } from '../roomy-heap';
import type { Stream } from './stream';

/** Bytes that a sender may have under way to this daemon. With containerd's 64 KiB it waits after every second message. */
const RECEIVE_WINDOW_BYTES = 2 << 20;
/** Largest piece in one message; containerd sends 32 KiB, and so does this daemon unless it was granted more. */
const SEND_PIECE_BYTES = 256 << 10;

/** The bytes that the client sends, to their end. @throws CANCELLED when the client leaves before it */
export async function* receiveBytes(stream: Stream): AsyncGenerator<Buffer> {
  using _room = roomyHeap();
  let granted = 0;
  for (;;) {
    if (granted <= RECEIVE_WINDOW_BYTES / 2) {
      const update = RECEIVE_WINDOW_BYTES - granted;
      await stream.send(packAny(WindowUpdate, { update }));
      granted += update;
    }
    const message = await stream.receive();
    if (message === undefined) return;
    const { data } = unpackAny(Data, message);
    if (data.length > granted) throw invalidArgument(`stream "${stream.id}": more data than the window allows`);
    granted -= data.length;
    yield data;
  }
}

/** Sends bytes to a client as it asks for them. */
export class ByteSender {
  readonly #stream: Stream;
  #granted = 0;
  #wake = Promise.withResolvers<void>();
  #failure: unknown;

  constructor(stream: Stream) {
    this.#stream = stream;
    // Never rejects: who writes is told.
    void this.#receiveGrants();
  }

  /** Resolves when all of it is on its way. @throws CANCELLED, or why the client takes no more */
  async write(data: Uint8Array): Promise<void> {
    for (let start = 0; start < data.length; ) {
      while (this.#granted === 0) {
        if (this.#failure !== undefined) throw this.#failure;
        await this.#wake.promise;
        this.#wake = Promise.withResolvers<void>();
      }
      const piece = data.subarray(start, start + Math.min(this.#granted, SEND_PIECE_BYTES));
      this.#granted -= piece.length;
      start += piece.length;
      await this.#stream.send(packAny(Data, { data: Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength) }));
    }
  }

  /** Ends the bytes, and the stream. */
  end(): void {
    this.#stream.close();
  }

  async #receiveGrants(): Promise<void> {
    using _room = roomyHeap();
    try {
      for (;;) {
        const message = await this.#stream.receive();
        if (message === undefined) break;
        const { update } = unpackAny(WindowUpdate, message);
        if (update > 0) this.#granted += update;
        this.#wake.resolve();
      }
      this.#failure = invalidArgument(`stream "${this.#stream.id}": the client takes no more data`);
    } catch (error) {
      this.#failure = error;
    }
    this.#wake.resolve();
  }
}
