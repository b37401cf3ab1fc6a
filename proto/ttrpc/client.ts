// ttrpc client: many concurrent calls over one byte stream. Used by the daemon towards shims and by shims towards the
// daemon's event service. It does not reconnect: who owns it decides what a lost connection means.

import { createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Input, Method } from '../codec';
import { ApiError, canceled, deadlineExceeded, unavailable } from '../errors';
import * as ttrpc from '../generated/ttrpc';
import { TTRPC_NAMESPACE_HEADER } from '../ids';
import { fromStatus } from '../status';
import { Connection } from './connection';
import { DATA, type Frame, NO_DATA, type OversizeFrame, REMOTE_CLOSED, REMOTE_OPEN, REQUEST, RESPONSE } from './frame';
import { MessageQueue } from './queue';

export interface CallOptions {
  /** Sent to the server and kept on this side too. Zero or less has expired already; absent means no limit. */
  readonly timeoutMs?: number | undefined;
  /** Ends the wait on this side; ttrpc has no way to tell the server. */
  readonly signal?: AbortSignal | undefined;
  readonly namespace?: string | undefined;
  readonly metadata?: Readonly<Record<string, string | readonly string[]>> | undefined;
}

/** The caller's side of a streaming call. */
export interface ClientStream<Req, Res> {
  /** @throws RESOURCE_EXHAUSTED when the message is too long, "ttrpc: closed" when the stream has ended. */
  send(message: Input<Req>): Promise<void>;
  /** Half-close: nothing more will be sent. */
  closeSend(): void;
  /** Ends with the stream; throws the status that the server ended it with. To be read once. */
  readonly responses: AsyncIterable<Res>;
}

interface Call {
  readonly type: { decode(bytes: Uint8Array): unknown };
  readonly queue: MessageQueue<unknown>;
  /** Ends the call and forgets it. */
  end(error?: unknown): void;
}

const CLOSED = 'ttrpc: closed';
const STREAM_ID_MAX = 0xffffffff;

/** True for the error of calls whose connection was lost or closed. */
export function isTtrpcClosed(error: unknown): boolean {
  return error instanceof Error && error.message === CLOSED;
}

export class TtrpcClient {
  readonly #connection: Connection;
  readonly #calls = new Map<number, Call>();
  readonly #onClose: (() => void)[] = [];
  #nextStreamId = 1;

  /** Connects to a unix socket. @throws UNAVAILABLE with the system's cause. */
  static async connect(path: string, options: { signal?: AbortSignal } = {}): Promise<TtrpcClient> {
    const socket = createConnection({ path });
    const { signal } = options;
    const abort = () => socket.destroy(canceled(`dial unix ${path}`));
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted) abort();
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', reject);
      });
    } catch (cause) {
      if (cause instanceof ApiError) throw cause;
      throw unavailable(`dial unix ${path}: ${(cause as NodeJS.ErrnoException).code ?? String(cause)}`, { cause });
    } finally {
      signal?.removeEventListener('abort', abort);
    }
    socket.removeAllListeners('error');
    return new TtrpcClient(socket);
  }

  /** Takes over a connected stream. */
  constructor(stream: Duplex) {
    const sink = {
      frame: (frame: Frame) => this.#receive(frame),
      oversize: (frame: OversizeFrame) => this.#receiveOversize(frame),
    };
    this.#connection = new Connection(stream, sink, () => this.#closed());
  }

  get isClosed(): boolean {
    return this.#connection.isClosed;
  }

  /** Calls back once when the connection is gone, at once (asynchronously) if it is already. */
  onClose(listener: () => void): void {
    if (this.isClosed) queueMicrotask(listener);
    else this.#onClose.push(listener);
  }

  /** Drops the connection; calls under way fail with "ttrpc: closed". */
  close(): void {
    this.#connection.destroy();
  }

  /** A unary call. @throws the status of the server, DEADLINE_EXCEEDED, CANCELED, or UNAVAILABLE "ttrpc: closed". */
  async call<Req, Res>(
    method: Method<Req, Res, 'unary'>,
    request: Input<Req>,
    options: CallOptions = {},
  ): Promise<Res> {
    const call = this.#open(method, method.requestType.encode(request), 0, options);
    for await (const response of call.queue.drain()) return response as Res;
    throw fromStatus(2, `${method.path}: the stream ended without a response`);
  }

  /** A streaming call. The first message is the request where the client does not stream. */
  stream<Req, Res>(method: Method<Req, Res>, request?: Input<Req>, options: CallOptions = {}): ClientStream<Req, Res> {
    const payload = request === undefined ? Buffer.alloc(0) : method.requestType.encode(request);
    const flags = method.requestStream ? REMOTE_OPEN : REMOTE_CLOSED;
    const call = this.#open(method, payload, flags, options);
    const send = (data: Buffer, dataFlags: number) => {
      if (this.isClosed || this.#calls.get(call.streamId) === undefined) throw closedError();
      this.#connection.send({ streamId: call.streamId, type: DATA, flags: dataFlags, payload: data });
    };
    return {
      send: async (message) => {
        send(method.requestType.encode(message), 0);
        await this.#connection.drained();
      },
      closeSend: () => send(Buffer.alloc(0), REMOTE_CLOSED | NO_DATA),
      responses: call.queue.drain() as AsyncIterable<Res>,
    };
  }

  #open<Req, Res>(
    method: Method<Req, Res>,
    payload: Buffer,
    flags: number,
    options: CallOptions,
  ): Call & { streamId: number } {
    if (this.isClosed || this.#nextStreamId > STREAM_ID_MAX) throw closedError();
    const { signal, timeoutMs } = options;
    if (signal?.aborted) throw abortError(signal);
    if (timeoutMs !== undefined && timeoutMs <= 0) throw deadlineExceeded(method.path);
    const streamId = this.#nextStreamId;
    const frame = { streamId, type: REQUEST, flags, payload: encodeRequest(method.path, payload, options) };
    // Ids must rise on the wire: the number is taken only when the frame has been accepted.
    this.#connection.send(frame);
    this.#nextStreamId += 2;
    const queue = new MessageQueue<unknown>();
    const timer =
      timeoutMs === undefined ? undefined : setTimeout(() => call.end(deadlineExceeded(method.path)), timeoutMs);
    const abort = () => call.end(abortError(signal));
    signal?.addEventListener('abort', abort, { once: true });
    const call = {
      streamId,
      type: method.responseType,
      queue,
      end: (error?: unknown) => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
        this.#calls.delete(streamId);
        queue.end(error);
      },
    };
    this.#calls.set(streamId, call);
    return call;
  }

  #receive(frame: Frame): void {
    const call = this.#calls.get(frame.streamId);
    if (call === undefined) return; // An answer that came after its deadline.
    try {
      if (frame.type === RESPONSE) {
        const response = ttrpc.Response.decode(frame.payload);
        const { status } = response;
        if (status !== undefined && status.code !== 0) {
          call.end(fromStatus(status.code, status.message));
          return;
        }
        call.queue.push(call.type.decode(response.payload));
        call.end();
      } else if (frame.type === DATA) {
        if ((frame.flags & NO_DATA) === 0) call.queue.push(call.type.decode(frame.payload));
        if ((frame.flags & REMOTE_CLOSED) !== 0) call.end();
        else this.#connection.waitForRoom(call.queue, () => call.end(fromStatus(8, 'stream buffer full')));
      }
    } catch (cause) {
      call.end(ApiError.fromWire('internal', `ttrpc: response does not decode: ${String(cause)}`));
    }
  }

  #receiveOversize(frame: OversizeFrame): void {
    const text = `message length ${frame.lengthBytes} exceeds maximum message size`;
    this.#calls.get(frame.streamId)?.end(fromStatus(8, text));
  }

  #closed(): void {
    for (const call of [...this.#calls.values()]) call.end(closedError());
    for (const listener of this.#onClose.splice(0)) listener();
  }
}

function encodeRequest(path: string, payload: Buffer, options: CallOptions): Buffer {
  const [, service = '', method = ''] = path.split('/');
  const metadata: { key: string; value: string }[] = [];
  if (options.namespace !== undefined) metadata.push({ key: TTRPC_NAMESPACE_HEADER, value: options.namespace });
  for (const [key, values] of Object.entries(options.metadata ?? {})) {
    for (const value of typeof values === 'string' ? [values] : values) {
      metadata.push({ key: key.toLowerCase(), value });
    }
  }
  const timeoutNano = options.timeoutMs === undefined ? 0n : BigInt(Math.ceil(options.timeoutMs * 1e6));
  return ttrpc.Request.encode({ service, method, payload, timeoutNano, metadata });
}

function closedError(): ApiError {
  return ApiError.fromWire('unavailable', CLOSED);
}

function abortError(signal: AbortSignal | undefined): unknown {
  const reason: unknown = signal?.reason;
  return reason instanceof ApiError ? reason : canceled('call', { cause: reason });
}
