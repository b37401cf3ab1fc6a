// A gantryd and a client that opens streams by hand, for tests of what travels on them.

import { type CallOptions, Connection, type Duplex } from '../../../cli/client';
import { packAny, unpackAny } from '../../../proto/any';
import type { Input, MessageType } from '../../../proto/codec';
import { StreamInit } from '../../../proto/generated/containerd.services.streaming.v1';
import {
  Data,
  type Progress,
  Progress as ProgressType,
  WindowUpdate,
} from '../../../proto/generated/containerd.types.transfer';
import { type Any, Empty } from '../../../proto/generated/google.protobuf';
import { Gantryd } from '../gantryd';

export const NAMESPACE = 'test';
const PIECE_BYTES = 32 << 10;

export class TransferBench {
  readonly daemon = new Gantryd();
  connection!: Connection;
  #count = 0;

  async start(): Promise<void> {
    await this.daemon.start();
    this.connection = new Connection({ address: this.daemon.address, namespace: NAMESPACE, timeoutMs: 0 });
  }

  async destroy(): Promise<void> {
    this.connection?.close();
    await this.daemon.destroy();
  }

  newId(): string {
    this.#count += 1;
    return `stream-${this.#count}`;
  }

  /** Opens a stream and waits until the daemon has it. */
  async open(id = this.newId(), options: CallOptions = {}): Promise<{ id: string; call: Duplex<Any, Any> }> {
    const call = this.connection.streaming.stream(options);
    await call.send(packAny(StreamInit, { id }));
    unpackAny(Empty, (await call.receive()) as Any);
    return { id, call };
  }

  transfer<S, D>(
    [sourceType, source]: readonly [MessageType<S>, Input<S>],
    [destinationType, destination]: readonly [MessageType<D>, Input<D>],
    options: CallOptions & { progressStream?: string } = {},
  ): Promise<unknown> {
    const request = {
      source: packAny(sourceType, source),
      destination: packAny(destinationType, destination),
      options: { progressStream: options.progressStream ?? '' },
    };
    return this.connection.transfer.transfer(request, options);
  }
}

/** Sends bytes within the window that the daemon grants, and ends them. */
export async function sendBytes(call: Duplex<Any, Any>, bytes: Buffer): Promise<void> {
  await sendPart(call, bytes);
  call.end();
}

/** The same without an end. */
export async function sendPart(call: Duplex<Any, Any>, bytes: Buffer): Promise<void> {
  let granted = 0;
  for (let start = 0; start < bytes.length; ) {
    while (granted === 0) {
      const message = await call.receive();
      if (message === undefined) return;
      granted += unpackAny(WindowUpdate, message).update;
    }
    const data = bytes.subarray(start, start + Math.min(granted, PIECE_BYTES));
    granted -= data.length;
    start += data.length;
    await call.send(packAny(Data, { data }));
  }
}

/**
 * Receives bytes to their end. Of a known number, a little is granted at a time, and no more than that number: grpc-js
 * takes a grant that meets the end of the stream for a failure.
 */
export async function receiveBytes(call: Duplex<Any, Any>, totalBytes?: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const windowBytes = totalBytes === undefined ? 1 << 30 : 64 << 10;
  let ungranted = totalBytes ?? windowBytes;
  let granted = 0;
  for (;;) {
    const update = Math.min(windowBytes - granted, ungranted);
    if (granted < windowBytes / 2 && update > 0) {
      await call.send(packAny(WindowUpdate, { update }));
      granted += update;
      ungranted -= update;
    }
    const message = await call.receive();
    if (message === undefined) return Buffer.concat(pieces);
    const { data } = unpackAny(Data, message);
    if (data.length > granted) throw new Error(`got ${data.length} bytes with ${granted} granted`);
    granted -= data.length;
    pieces.push(data);
  }
}

/** All entries of a progress stream, to its end. */
export async function receiveProgress(call: Duplex<Any, Any>): Promise<Progress[]> {
  const entries: Progress[] = [];
  for (let message = await call.receive(); message !== undefined; message = await call.receive()) {
    entries.push(unpackAny(ProgressType, message));
  }
  return entries;
}
