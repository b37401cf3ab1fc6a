// One connection of a ttrpc server: checks stream ids and frames, runs handlers concurrently and writes their answers in
// the order in which they finish.

import type { Duplex } from 'node:stream';
import { ApiError, canceled, deadlineExceeded, messageOf } from '../errors';
import * as ttrpc from '../generated/ttrpc';
import { TTRPC_NAMESPACE_HEADER } from '../ids';
import { toStatus } from '../status';
import { Connection } from './connection';
import {
  DATA,
  type Frame,
  NO_DATA,
  type OversizeFrame,
  PAYLOAD_LENGTH_MAX,
  REMOTE_CLOSED,
  REMOTE_OPEN,
  REQUEST,
  RESPONSE,
} from './frame';
import { MessageQueue } from './queue';
import type { AnyHandler, AnyMethod, Resolver, TtrpcContext } from './server';

/** Requests under way on one connection; one more is refused. */
export const REQUESTS_PER_CONNECTION_MAX = 1024;

const TIMEOUT_MS_MAX = 0x7fffffff;

interface Stream {
  readonly id: number;
  readonly method: AnyMethod;
  /** What the client sends; undefined where the request is the only message. */
  readonly requests: MessageQueue<unknown> | undefined;
  readonly abort: AbortController;
}

export class ServerConnection {
  readonly #connection: Connection;
  readonly #resolve: Resolver;
  readonly #streams = new Map<number, Stream>();
  #lastStreamId = 0;
  #drained: (() => void) | undefined;

  constructor(stream: Duplex, resolve: Resolver, onClose: () => void) {
    this.#resolve = resolve;
    const sink = {
      frame: (frame: Frame) => this.#receive(frame),
      oversize: (frame: OversizeFrame) => this.#receiveOversize(frame),
    };
    this.#connection = new Connection(stream, sink, () => {
      for (const each of [...this.#streams.values()]) each.abort.abort(canceled('ttrpc: connection closed'));
      this.#drained?.();
      onClose();
    });
  }

  /** Closes when the last request has been answered. New requests are still taken until then, as upstream does. */
  async drain(): Promise<void> {
    if (this.#connection.isClosed) return;
    await new Promise<void>((resolve) => {
      this.#drained = resolve;
      this.#endWhenIdle();
    });
  }

  destroy(): void {
    this.#connection.destroy();
  }

  #receive(frame: Frame): void {
    const { streamId, type } = frame;
    if (type !== REQUEST && type !== DATA) return; // Reserved.
    if (streamId % 2 !== 1) {
      this.#refuse(streamId, 'StreamID must be odd for client initiated streams');
    } else if (type === DATA) {
      this.#receiveData(frame);
    } else if (streamId <= this.#lastStreamId) {
      this.#refuse(streamId, 'StreamID cannot be re-used');
    } else {
      this.#lastStreamId = streamId;
      this.#receiveRequest(frame);
    }
  }

  #receiveData(frame: Frame): void {
    const stream = this.#streams.get(frame.streamId);
    if (stream === undefined) {
      this.#refuse(frame.streamId, 'StreamID is no longer active');
      return;
    }
    const { requests, method } = stream;
    if ((frame.flags & NO_DATA) === 0) {
      try {
        if (requests === undefined) throw new Error('stream does not take data');
        requests.push(method.requestType.decode(frame.payload));
      } catch (error) {
        this.#refuse(frame.streamId, `data handling error: ${messageOf(error)}`);
        return;
      }
    }
    if ((frame.flags & REMOTE_CLOSED) !== 0) {
      requests?.end();
      if (frame.payload.length > 0) this.#refuse(frame.streamId, 'data close message cannot include data');
    } else if (requests !== undefined) {
      this.#connection.waitForRoom(requests, () => {
        requests.end(ApiError.fromWire('resource exhausted', 'stream buffer full'));
      });
    }
  }

  #receiveRequest(frame: Frame): void {
    const { streamId } = frame;
    let request: ttrpc.Request;
    try {
      request = ttrpc.Request.decode(frame.payload);
    } catch (error) {
      this.#refuse(streamId, `unmarshal request error: ${messageOf(error)}`);
      return;
    }
    const found = this.#resolve(request.service, request.method);
    if (typeof found === 'string') {
      this.#answerError(
        streamId,
        ApiError.fromWire('not implemented', `${found} ${found === 'service' ? request.service : request.method}`),
      );
    } else if (this.#streams.size >= REQUESTS_PER_CONNECTION_MAX) {
      this.#answerError(streamId, ApiError.fromWire('resource exhausted', 'too many requests on one connection'));
    } else {
      void this.#run(frame, request, found); // Answers every outcome itself.
    }
  }

  async #run(frame: Frame, request: ttrpc.Request, found: { method: AnyMethod; handler: AnyHandler }): Promise<void> {
    const { method, handler } = found;
    const stream: Stream = {
      id: frame.streamId,
      method,
      requests: method.requestStream ? new MessageQueue<unknown>() : undefined,
      abort: new AbortController(),
    };
    this.#streams.set(stream.id, stream);
    const timer = armTimeout(request.timeoutNano, stream.abort);
    try {
      stream.abort.signal.throwIfAborted();
      const input = takeInput(stream, frame, request);
      const output = handler(input, contextOf(request, stream.abort.signal));
      if (method.responseStream) await this.#sendAll(stream, output as AsyncIterable<never>);
      else this.#answer(stream, (await output) as never);
    } catch (error) {
      this.#answerError(stream.id, error);
    } finally {
      clearTimeout(timer);
      stream.requests?.end();
      this.#streams.delete(stream.id);
      this.#endWhenIdle();
    }
  }

  async #sendAll(stream: Stream, messages: AsyncIterable<never>): Promise<void> {
    for await (const message of messages) {
      stream.abort.signal.throwIfAborted();
      const payload = stream.method.responseType.encode(message);
      this.#connection.send({ streamId: stream.id, type: DATA, flags: 0, payload });
      await this.#connection.drained();
    }
    this.#connection.send({
      streamId: stream.id,
      type: DATA,
      flags: REMOTE_CLOSED | NO_DATA,
      payload: Buffer.alloc(0),
    });
  }

  #answer(stream: Stream, message: never): void {
    if (message === undefined || message === null) throw new Error('ttrpc: nil response');
    const payload = ttrpc.Response.encode({ payload: stream.method.responseType.encode(message) });
    this.#connection.send({ streamId: stream.id, type: RESPONSE, flags: 0, payload });
  }

  #answerError(streamId: number, error: unknown): void {
    const status = toStatus(error);
    // A text that is too long must not cost the caller its answer.
    const text = status.message.slice(0, PAYLOAD_LENGTH_MAX / 8);
    const payload = ttrpc.Response.encode({ status: { code: status.code, message: text } });
    this.#connection.send({ streamId, type: RESPONSE, flags: 0, payload });
  }

  #refuse(streamId: number, text: string): void {
    this.#answerError(streamId, ApiError.fromWire('invalid argument', text));
  }

  #receiveOversize(frame: OversizeFrame): void {
    if (frame.type === REQUEST && frame.streamId > this.#lastStreamId) this.#lastStreamId = frame.streamId;
    const text = `message length ${frame.lengthBytes} exceed maximum message size of ${PAYLOAD_LENGTH_MAX}`;
    this.#answerError(frame.streamId, ApiError.fromWire('resource exhausted', text));
  }

  #endWhenIdle(): void {
    if (this.#drained !== undefined && this.#streams.size === 0) this.#connection.end();
  }
}

/** The request itself, or the queue of what follows where the client streams. */
function takeInput(stream: Stream, frame: Frame, request: ttrpc.Request): unknown {
  const { requests, method } = stream;
  try {
    if (requests === undefined) return method.requestType.decode(request.payload);
    if (request.payload.length > 0) requests.push(method.requestType.decode(request.payload));
  } catch (cause) {
    throw ApiError.fromWire('internal', `unmarshal request payload: ${messageOf(cause)}`);
  }
  if ((frame.flags & REMOTE_OPEN) === 0) requests.end();
  return requests.drain();
}

function contextOf(request: ttrpc.Request, signal: AbortSignal): TtrpcContext {
  const metadata: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const { key, value } of request.metadata) metadata[key.toLowerCase()] ??= value;
  return { namespace: metadata[TTRPC_NAMESPACE_HEADER], metadata, signal };
}

function armTimeout(timeoutNano: bigint, abort: AbortController): NodeJS.Timeout | undefined {
  if (timeoutNano === 0n) return undefined;
  const timeoutMs = Number(timeoutNano) / 1e6;
  if (timeoutMs <= 0) {
    abort.abort(deadlineExceeded('request'));
    return undefined;
  }
  return setTimeout(() => abort.abort(deadlineExceeded('request')), Math.min(timeoutMs, TIMEOUT_MS_MAX));
}
