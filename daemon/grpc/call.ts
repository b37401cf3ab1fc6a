// Puts handlers on the wire: metadata to context, deadline and cancel to an AbortSignal, errors to one status, durable
// acknowledgement before every answer, back-pressure in streams, one log line a call.

import * as grpc from '@grpc/grpc-js';
import type { Input, Method } from '../../proto/codec';
import { canceled, failedPrecondition } from '../../proto/errors';
import { checkIdentifier, LEASE_HEADER, NAMESPACE_HEADER } from '../../proto/ids';
import { toStatus } from '../../proto/status';
import type { CallContext, Service } from './handler';

export interface CallHooks {
  /** Resolves when all that was written is on disk. */
  readonly durable: () => Promise<void>;
  readonly onEnd: (call: {
    method: string;
    namespace: string | undefined;
    code: number;
    message: string;
    durationMs: number;
  }) => void;
}

type AnyCall = grpc.ServerUnaryCall<unknown, unknown> | grpc.ServerDuplexStream<unknown, unknown>;
type Stream = grpc.ServerWritableStream<unknown, unknown> & Partial<grpc.ServerReadableStream<unknown, unknown>>;

export function addService(server: grpc.Server, service: Service, hooks: CallHooks): void {
  const implementation: grpc.UntypedServiceImplementation = {};
  for (const [name, method] of Object.entries(service.definition)) {
    const handler = service.handlers[name];
    if (handler === undefined) throw new Error(`${method.path} has no handler`);
    implementation[name] = adapt(method, handler.bind(service.handlers) as never, hooks);
  }
  server.addService(service.definition as unknown as grpc.ServiceDefinition, implementation);
}

function adapt(
  method: Method<unknown, unknown>,
  handler: (request: unknown, context: CallContext) => unknown,
  hooks: CallHooks,
): grpc.UntypedHandleCall {
  if (!method.responseStream) {
    return async (call: grpc.ServerUnaryCall<unknown, unknown>, callback: grpc.sendUnaryData<unknown>) => {
      const scope = open(call, method.path, hooks);
      try {
        const request = method.requestStream ? requestsOf(call as unknown as Stream) : call.request;
        const response = await handler(request, scope.context);
        await hooks.durable();
        scope.end(undefined);
        callback(null, response);
      } catch (error) {
        callback(scope.end(error));
      }
    };
  }
  const serve = async (call: Stream) => {
    const scope = open(call as unknown as AnyCall, method.path, hooks);
    try {
      const request = method.requestStream ? requestsOf(call) : call.request;
      const responses = handler(request, scope.context) as AsyncIterable<Input<unknown>>;
      await writeAll(call, responses, scope.context.signal, hooks);
      scope.end(undefined);
      call.end();
    } catch (error) {
      call.emit('error', scope.end(error));
    }
  };
  return serve as unknown as grpc.UntypedHandleCall;
}

/** Starts the accounting of one call. `end` turns what happened into the status for the wire. */
function open(call: AnyCall, path: string, hooks: CallHooks) {
  const controller = new AbortController();
  const startedAt = performance.now();
  const namespace = firstValue(call.metadata, NAMESPACE_HEADER);
  const abort = () => controller.abort(canceled('context canceled'));
  call.once('cancelled', abort);
  const context: CallContext = {
    method: path,
    namespace,
    lease: firstValue(call.metadata, LEASE_HEADER),
    signal: controller.signal,
    requireNamespace: () => {
      if (namespace === undefined || namespace === '') throw failedPrecondition('namespace is required');
      return checkIdentifier(namespace);
    },
  };
  const end = (error: unknown): grpc.ServiceError => {
    call.removeListener('cancelled', abort);
    const status = error === undefined ? { code: 0, message: '' } : toStatus(error);
    hooks.onEnd({ method: path, namespace, ...status, durationMs: performance.now() - startedAt });
    controller.abort(canceled('call ended'));
    return Object.assign(new Error(status.message), {
      code: status.code,
      details: status.message,
      metadata: new grpc.Metadata(),
    });
  };
  return { context, end };
}

/** node:http2 joins repeated headers with ", "; clients that send several mean the first. */
function firstValue(metadata: grpc.Metadata, key: string): string | undefined {
  const value = metadata.get(key)[0];
  return value === undefined ? undefined : String(value).split(',')[0]?.trim();
}

async function* requestsOf(call: Stream): AsyncIterable<unknown> {
  for await (const request of call as AsyncIterable<unknown>) yield request;
}

async function writeAll(
  call: Stream,
  responses: AsyncIterable<Input<unknown>>,
  signal: AbortSignal,
  hooks: CallHooks,
): Promise<void> {
  for await (const response of responses) {
    if (signal.aborted) throw signal.reason;
    await hooks.durable();
    if (!call.write(response)) await drained(call, signal);
  }
  await hooks.durable();
}

function drained(call: Stream, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      call.removeListener('drain', settle);
      signal.removeEventListener('abort', settle);
      if (signal.aborted) reject(signal.reason as Error);
      else resolve();
    };
    call.once('drain', settle);
    signal.addEventListener('abort', settle, { once: true });
  });
}
