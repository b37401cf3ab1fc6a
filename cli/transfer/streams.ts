// Streams of the daemon (containerd.services.streaming.v1): opened by an id that another call names, and bytes over them
// within the window that the receiver grants.

import { randomBytes } from 'node:crypto';
import { packAny, unpackAny } from '../../proto/any';
import { StreamInit } from '../../proto/generated/containerd.services.streaming.v1';
import { Data, WindowUpdate } from '../../proto/generated/containerd.types.transfer';
import type { Any } from '../../proto/generated/google.protobuf';
import type { Duplex } from '../client';
import type { Session } from '../session';

/**
 * Bytes that the daemon may send, all but without end: HTTP/2 holds it back well enough. Grants are rare, because
 * grpc-js takes one that meets the end of the stream for a failure, and drops what it has not given out yet.
 */
const GRANT_BYTES = 1 << 30;
/** What is left of a grant when the next one is made. */
const GRANT_LEFT_BYTES = 4 << 20;
/** Largest piece in one message, when that much is granted. */
const PIECE_BYTES = 256 << 10;

export interface OpenStream {
  readonly id: string;
  readonly call: Duplex<Any, Any>;
}

/** Opens a stream and waits until the daemon knows it. */
export async function openStream(session: Session, what: string, lease?: string): Promise<OpenStream> {
  const id = `${what}-${randomBytes(8).toString('hex')}`;
  const call = session.connection.streaming.stream({ lease });
  try {
    await call.send(packAny(StreamInit, { id }));
    await call.receive();
  } catch (error) {
    call.cancel();
    throw error;
  }
  return { id, call };
}

/** Sends all bytes and their end; stops early when the daemon wants no more. */
export async function sendBytes(call: Duplex<Any, Any>, source: AsyncIterable<Uint8Array>): Promise<void> {
  let granted = 0;
  for await (const bytes of source) {
    for (let start = 0; start < bytes.length; ) {
      while (granted === 0) {
        const message = await call.receive();
        if (message === undefined) return;
        granted += unpackAny(WindowUpdate, message).update;
      }
      const data = Buffer.from(bytes.subarray(start, start + Math.min(granted, PIECE_BYTES)));
      granted -= data.length;
      start += data.length;
      await call.send(packAny(Data, { data }));
    }
  }
  call.end();
}

/** The bytes that the daemon sends, to their end. */
export async function* receiveBytes(call: Duplex<Any, Any>): AsyncGenerator<Buffer> {
  let granted = 0;
  for (;;) {
    if (granted <= GRANT_LEFT_BYTES) {
      await call.send(packAny(WindowUpdate, { update: GRANT_BYTES - granted }));
      granted = GRANT_BYTES;
    }
    const message = await call.receive();
    if (message === undefined) return;
    const { data } = unpackAny(Data, message);
    granted -= data.length;
    yield data;
  }
}
