// Puts handlers on the wire: metadata to context, deadline and cancel to an AbortSignal, errors to one status, durable
// acknowledgement before the answer to a call that wrote, back-pressure in streams, one log line a call.

import * as grpc from '@grpc/grpc-js';
import type { Input, Method } from '../../proto/codec';
import {
  canceled,
  deadlineExceeded,
  errorKind,
  failedPrecondition,
  internal,
  invalidArgument,
  messageOf,
} from '../../proto/errors';
import { checkIdentifier, LEASE_HEADER, NAMESPACE_HEADER } from '../../proto/ids';
import { toStatus } from '../../proto/status';
import type { CallContext, Service } from './handler';

export interface CallHooks {
  /** Resolves when all that was written is on disk. */
  readonly durable: () => Promise<void>;
  /** Counts writes; a call during which it did not change need not wait for the disk. */
  readonly writeCount: () => bigint;
  readonly onEnd: (call: EndedCall) => void;
}

export interface EndedCall {
  readonly method: string;
  readonly namespace: string | undefined;
  readonly code: number;
  readonly message: string;
  readonly durationMs: number;
  /** What was thrown, when it was no expected failure. */
  readonly cause: unknown;
}

/** Characters of a message on the wire; HTTP/2 trailers of many kilobytes are refused by clients. */
export const MESSAGE_LENGTH_MAX = 4096;

type UnaryCall = grpc.ServerUnaryCall<unknown, unknown>;
type StreamCall = grpc.ServerDuplexStream<unknown, unknown>;
type Answer = (request: unknown, context: CallContext) => unknown;

/** A request that could not be decoded: refused in the handler, where it is answered and logged like any other. */
class Undecodable {
  readonly error: unknown;

  constructor(error: unknown) {
    this.error = error;
  }
}

export function addService(server: grpc.Server, service: Service, hooks: CallHooks): void {
  const definition: Record<string, unknown> = {};
  const implementation: grpc.UntypedServiceImplementation = {};
  for (const [name, method] of Object.entries(service.definition)) {
    const handler = service.handlers[name];
    if (handler === undefined) throw new Error(`${method.path} has no handler`);
    definition[name] = { ...method, requestDeserialize: (bytes: Buffer) => decode(method, bytes) };
    implementation[name] = adapt(method, handler.bind(service.handlers) as Answer, hooks);
  }
  server.addService(definition as unknown as grpc.ServiceDefinition, implementation);
}

function decode(method: Method<unknown, unknown>, bytes: Buffer): unknown {
  try {
    return method.requestDeserialize(bytes);
  } catch (error) {
    return new Undecodable(error);
  }
}

function adapt(method: Method<unknown, unknown>, handler: Answer, hooks: CallHooks): grpc.UntypedHandleCall {
  if (!method.responseStream) {
    return async (call: UnaryCall, callback: grpc.sendUnaryData<unknown>) => {
      const scope = new Scope(call, method.path, hooks);
      try {
        const response = await handler(requestOf(method, call), scope);
        await scope.durable();
        scope.end();
        callback(null, response);
      } catch (error) {
        callback(await scope.fail(error));
      }
    };
  }
  return async (call: StreamCall) => {
    const scope = new Scope(call, method.path, hooks);
    try {
      const responses = handler(requestOf(method, call), scope) as AsyncIterable<Input<unknown>>;
      await writeAll(call, responses, scope);
      await scope.durable();
      scope.end();
      call.end();
    } catch (error) {
      call.emit('error', await scope.fail(error));
    }
  };
}

function requestOf(method: Method<unknown, unknown>, call: UnaryCall | StreamCall): unknown {
  return method.requestStream ? requestsOf(call as StreamCall) : checked((call as UnaryCall).request);
}

/** Leaving the loop early must not destroy the stream: the answer has still to go out on it. */
async function* requestsOf(call: StreamCall): AsyncIterable<unknown> {
  for await (const request of call.iterator({ destroyOnReturn: false })) yield checked(request);
}

function checked(request: unknown): unknown {
  if (request instanceof Undecodable) throw internal(`cannot decode the request: ${messageOf(request.error)}`);
  return request;
}

async function writeAll(call: StreamCall, responses: AsyncIterable<Input<unknown>>, scope: Scope): Promise<void> {
  for await (const response of responses) {
    if (scope.signal.aborted) throw scope.signal.reason;
    await scope.durable();
    if (!call.write(response)) await drained(call, scope.signal);
  }
}

function drained(call: StreamCall, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      call.removeListener('drain', settle);
      signal.removeEventListener('abort', settle);
      if (signal.aborted) reject(signal.reason as Error);
      else resolve();
    };
    call.once('drain', settle);
    signal.addEventListener('abort', settle, { once: true });
    if (signal.aborted) settle();
  });
}

/** What is known about one call, and its accounting. */
class Scope implements CallContext {
  readonly method: string;
  readonly namespace: string | undefined;
  readonly lease: string | undefined;
  readonly #call: UnaryCall | StreamCall;
  readonly #hooks: CallHooks;
  readonly #startedAt = performance.now();
  #writeCount: bigint;
  /** Made for a handler that asks for the signal: most do not, and the error of an abort is not cheap either. */
  #controller: AbortController | undefined;
  #whyOver: (() => Error) | undefined;

  constructor(call: UnaryCall | StreamCall, method: string, hooks: CallHooks) {
    this.method = method;
    this.namespace = firstValue(call.metadata, NAMESPACE_HEADER);
    this.lease = firstValue(call.metadata, LEASE_HEADER);
    this.#call = call;
    this.#hooks = hooks;
    this.#writeCount = hooks.writeCount();
    call.once('cancelled', () => this.#abort(this.#whyCanceled()));
    if (call.cancelled) this.#abort(this.#whyCanceled());
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#whyOver !== undefined) this.#controller.abort(this.#whyOver());
    }
    return this.#controller.signal;
  }

  requireNamespace(): string {
    if (this.namespace === undefined || this.namespace === '') throw failedPrecondition('namespace is required');
    try {
      return checkIdentifier(this.namespace);
    } catch (error) {
      throw invalidArgument(`namespace validation: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Waits for the disk if anything was written since the call began or last waited. */
  async durable(): Promise<void> {
    const count = this.#hooks.writeCount();
    if (count === this.#writeCount) return;
    await this.#hooks.durable();
    this.#writeCount = count;
  }

  end(): void {
    this.#finish({ code: 0, message: '' }, undefined);
  }

  /** The status for the wire. "already exists" says that something is safe, so it waits for the disk too. */
  async fail(error: unknown): Promise<grpc.ServiceError> {
    let cause = error;
    if (errorKind(error) === 'already exists') {
      await this.#hooks.durable().catch((failure: unknown) => {
        cause = failure;
      });
    }
    const status = toStatus(cause);
    const message = status.message.slice(0, MESSAGE_LENGTH_MAX);
    this.#finish({ code: status.code, message }, errorKind(cause) === undefined ? cause : undefined);
    return Object.assign(new Error(message), { code: status.code, details: message, metadata: new grpc.Metadata() });
  }

  #finish(status: { code: number; message: string }, cause: unknown): void {
    const { method, namespace } = this;
    const durationMs = performance.now() - this.#startedAt;
    // The answer goes first: it is sent within this turn of the event loop.
    setImmediate(() => this.#hooks.onEnd({ method, namespace, ...status, durationMs, cause }));
    // Whatever the handler left running for this call has nobody to answer any more.
    this.#abort(() => canceled('context canceled'));
  }

  /** Only the first reason counts. */
  #abort(why: () => Error): void {
    if (this.#whyOver !== undefined) return;
    this.#whyOver = why;
    this.#controller?.abort(why());
  }

  #whyCanceled(): () => Error {
    const isLate = Date.now() >= Number(this.#call.getDeadline());
    return isLate ? () => deadlineExceeded('context deadline exceeded') : () => canceled('context canceled');
  }
}

/** node:http2 joins repeated headers with ", "; clients that send several mean the first. */
function firstValue(metadata: grpc.Metadata, key: string): string | undefined {
  const value = metadata.get(key)[0];
  return value === undefined ? undefined : String(value).split(',')[0]?.trim();
}
