// How suites call a service: the same calls in process, straight into the handlers, and over a socket, through gRPC.

import * as grpc from '@grpc/grpc-js';
import type { CallContext, Service } from '../../daemon/grpc/handler';
import type { Input, Method } from '../../proto/codec';
import { canceled, failedPrecondition } from '../../proto/errors';
import { checkIdentifier, LEASE_HEADER, NAMESPACE_HEADER } from '../../proto/ids';
import { fromStatus } from '../../proto/status';

export interface Headers {
  readonly namespace?: string | undefined;
  readonly lease?: string | undefined;
}

/** One bidirectional stream: one answer at a time. */
export interface Dialog<Req, Res> {
  /** Sends and waits for the next answer. Rejects with the stream's status. */
  ask(request: Input<Req>): Promise<Res>;
  /** Ends the client's half and returns the answers that are left. */
  end(): Promise<Res[]>;
  cancel(): Promise<void>;
}

export interface Api {
  unary<Req, Res>(method: Method<Req, Res, 'unary'>, request: Input<Req>, headers?: Headers): Promise<Res>;
  list<Req, Res>(method: Method<Req, Res, 'server'>, request: Input<Req>, headers?: Headers): Promise<Res[]>;
  dialog<Req, Res>(method: Method<Req, Res, 'bidi'>, headers?: Headers): Dialog<Req, Res>;
  close(): Promise<void>;
}

/** Calls handlers in process. Requests and answers go through the codec, as they would on the wire. */
export function directApi(...services: Service[]): Api {
  const handlers = new Map<string, (request: never, context: CallContext) => unknown>();
  for (const service of services) {
    for (const [name, method] of Object.entries(service.definition)) {
      const handler = service.handlers[name];
      if (handler !== undefined) handlers.set(method.path, handler.bind(service.handlers));
    }
  }
  const call = (method: Method<never, never>, request: unknown, context: CallContext) =>
    handlers.get(method.path)?.(request as never, context);
  return {
    unary: async (method, request, headers) => {
      const response = await call(method as never, recode(method.requestType, request), contextOf(headers));
      return recode(method.responseType, response as never);
    },
    list: async (method, request, headers) => {
      const responses = call(method as never, recode(method.requestType, request), contextOf(headers));
      const result = [];
      for await (const response of responses as AsyncIterable<never>)
        result.push(recode(method.responseType, response));
      return result;
    },
    dialog: (method, headers) => {
      const queue = new RequestQueue<unknown>();
      const responses = call(method as never, queue, contextOf(headers)) as AsyncIterable<never>;
      const iterator = responses[Symbol.asyncIterator]();
      const next = async () => {
        const { value, done } = await iterator.next();
        return done ? undefined : recode(method.responseType, value as never);
      };
      return {
        ask: async (request) => {
          queue.push(recode(method.requestType, request));
          return answered(await next());
        },
        end: async () => {
          queue.finish();
          const rest = [];
          for (let response = await next(); response !== undefined; response = await next()) rest.push(response);
          return rest;
        },
        cancel: async () => {
          queue.finish(canceled('context canceled'));
          await next().catch(() => undefined);
        },
      };
    },
    close: async () => {},
  };
}

/** Calls a server on a Unix socket. */
export function remoteApi(socket: string): Api {
  const client = new grpc.Client(`unix:${socket}`, grpc.credentials.createInsecure(), {
    'grpc.max_receive_message_length': 16 << 20,
    'grpc.max_send_message_length': 16 << 20,
  });
  return {
    unary: (method, request, headers) =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(
          method.path,
          method.requestSerialize,
          method.responseDeserialize,
          request,
          metadataOf(headers),
          (error, response) => {
            if (error !== null) reject(fromStatus(error.code, error.details));
            else if (response !== undefined) resolve(response);
          },
        );
      }),
    list: async (method, request, headers) => {
      const stream = client.makeServerStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        metadataOf(headers),
      );
      const result = [];
      try {
        for await (const response of stream) result.push(response);
      } catch (error) {
        throw statusError(error);
      }
      return result;
    },
    dialog: (method, headers) => {
      const stream = client.makeBidiStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        metadataOf(headers),
      );
      type Response = ReturnType<typeof method.responseDeserialize>;
      const iterator = (stream as AsyncIterable<Response>)[Symbol.asyncIterator]();
      const next = async () => {
        try {
          const { value, done } = await iterator.next();
          return done ? undefined : value;
        } catch (error) {
          throw statusError(error);
        }
      };
      return {
        ask: async (request) => {
          stream.write(request);
          return answered(await next());
        },
        end: async () => {
          stream.end();
          const rest: Response[] = [];
          for (let response = await next(); response !== undefined; response = await next()) rest.push(response);
          return rest;
        },
        cancel: async () => {
          stream.cancel();
          await next().catch(() => undefined);
        },
      };
    },
    close: async () => client.close(),
  };
}

function answered<T>(response: T | undefined): T {
  if (response === undefined) throw new Error('the stream ended without an answer');
  return response;
}

function recode<T>(type: { encode(value: Input<T>): Buffer; decode(bytes: Uint8Array): T }, value: Input<T>): T {
  return type.decode(type.encode(value));
}

function metadataOf({ namespace = 'default', lease }: Headers = {}): grpc.Metadata {
  const metadata = new grpc.Metadata();
  if (namespace !== '') metadata.set(NAMESPACE_HEADER, namespace);
  if (lease !== undefined) metadata.set(LEASE_HEADER, lease);
  return metadata;
}

function contextOf({ namespace = 'default', lease }: Headers = {}): CallContext {
  return {
    method: '',
    namespace: namespace === '' ? undefined : namespace,
    lease,
    signal: new AbortController().signal,
    requireNamespace: () => {
      if (namespace === '') throw failedPrecondition('namespace is required');
      return checkIdentifier(namespace);
    },
  };
}

function statusError(error: unknown): unknown {
  const { code, details } = error as { code?: number; details?: string };
  return typeof code === 'number' ? fromStatus(code, details ?? '') : error;
}

/** Requests pushed one by one, read as an async iterable. */
class RequestQueue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  #isFinished = false;
  #error: unknown;
  #wake = () => {};

  push(item: T): void {
    this.#items.push(item);
    this.#wake();
  }

  finish(error?: unknown): void {
    this.#isFinished = true;
    this.#error = error;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) yield item;
      else if (this.#error !== undefined) throw this.#error;
      else if (this.#isFinished) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
