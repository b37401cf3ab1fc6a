// The ttrpc frame: ten bytes of header, then a payload. Encoder and incremental decoder, without any knowledge of
// requests or streams.

/** Longest payload that either side may send (ttrpc, channel.go: messageLengthMax). */
export const PAYLOAD_LENGTH_MAX = 4 << 20;
export const HEADER_LENGTH = 10;

export const REQUEST = 0x01;
export const RESPONSE = 0x02;
export const DATA = 0x03;

/** The sender sends nothing more on this stream. */
export const REMOTE_CLOSED = 0x01;
/** Request only: the sender will send Data frames. */
export const REMOTE_OPEN = 0x02;
/** Data only: there is no message in this frame, which differs from a message of length zero. */
export const NO_DATA = 0x04;

export interface Frame {
  readonly streamId: number;
  readonly type: number;
  readonly flags: number;
  readonly payload: Buffer;
}

/** A frame whose payload is over PAYLOAD_LENGTH_MAX. Its payload is skipped, the connection stays usable. */
export interface OversizeFrame {
  readonly streamId: number;
  readonly type: number;
  readonly lengthBytes: number;
}

export interface FrameSink {
  frame(frame: Frame): void;
  oversize(frame: OversizeFrame): void;
}

/** The bytes of one frame. The caller has checked the payload's length. */
export function encodeFrame(frame: Frame): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_LENGTH + frame.payload.length);
  bytes.writeUInt32BE(frame.payload.length, 0);
  bytes.writeUInt32BE(frame.streamId, 4);
  bytes.writeUInt8(frame.type, 8);
  bytes.writeUInt8(frame.flags, 9);
  frame.payload.copy(bytes, HEADER_LENGTH);
  return bytes;
}

/**
 * Cuts a byte stream into frames. Holds at most one incomplete frame, so never more than PAYLOAD_LENGTH_MAX and one
 * chunk. The payloads handed to the sink share memory with the chunks pushed.
 */
export class FrameDecoder {
  readonly #sink: FrameSink;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #wantedBytes = HEADER_LENGTH;
  #skipBytes = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  push(chunk: Buffer): void {
    this.#pending.push(chunk);
    this.#pendingBytes += chunk.length;
    if (this.#pendingBytes < this.#wantedBytes) return;
    let bytes = this.#pending.length === 1 ? chunk : Buffer.concat(this.#pending, this.#pendingBytes);
    for (;;) {
      const rest = this.#take(bytes);
      if (rest === undefined) break;
      bytes = rest;
    }
    this.#pending = bytes.length > 0 ? [bytes] : [];
    this.#pendingBytes = bytes.length;
  }

  /** Handles what stands at the start of the bytes; undefined when it is not there as a whole. */
  #take(bytes: Buffer): Buffer | undefined {
    if (this.#skipBytes > 0) {
      const skipped = Math.min(this.#skipBytes, bytes.length);
      this.#skipBytes -= skipped;
      this.#wantedBytes = 1;
      return skipped > 0 ? bytes.subarray(skipped) : undefined;
    }
    this.#wantedBytes = HEADER_LENGTH;
    if (bytes.length < HEADER_LENGTH) return undefined;
    const lengthBytes = bytes.readUInt32BE(0);
    const streamId = bytes.readUInt32BE(4);
    const type = bytes.readUInt8(8);
    if (lengthBytes > PAYLOAD_LENGTH_MAX) {
      this.#skipBytes = lengthBytes;
      this.#sink.oversize({ streamId, type, lengthBytes });
      return bytes.subarray(HEADER_LENGTH);
    }
    const end = HEADER_LENGTH + lengthBytes;
    this.#wantedBytes = end;
    if (bytes.length < end) return undefined;
    this.#wantedBytes = HEADER_LENGTH;
    this.#sink.frame({ streamId, type, flags: bytes.readUInt8(9), payload: bytes.subarray(HEADER_LENGTH, end) });
    return bytes.subarray(end);
  }
}
