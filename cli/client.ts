// The connection to the daemon: typed, promise-based calls on top of grpc-js, made from the generated service
// definitions. It adds the namespace and lease headers and deadlines, and turns statuses into ApiError.
// @grpc/grpc-js is loaded on the first call only, so that commands which need no daemon start quickly.

import type * as grpc from '@grpc/grpc-js';
import type { Input, Method } from '../proto/codec';
import { deadlineExceeded, unavailable } from '../proto/errors';
import { ContainersService } from '../proto/generated/containerd.services.containers.v1';
import { ContentService } from '../proto/generated/containerd.services.content.v1';
import { DiffService } from '../proto/generated/containerd.services.diff.v1';
import { EventsService } from '../proto/generated/containerd.services.events.v1';
import { ImagesService } from '../proto/generated/containerd.services.images.v1';
import { IntrospectionService } from '../proto/generated/containerd.services.introspection.v1';
import { LeasesService } from '../proto/generated/containerd.services.leases.v1';
import { NamespacesService } from '../proto/generated/containerd.services.namespaces.v1';
import { SnapshotsService } from '../proto/generated/containerd.services.snapshots.v1';
import { StreamingService } from '../proto/generated/containerd.services.streaming.v1';
import { TasksService } from '../proto/generated/containerd.services.tasks.v1';
import { TransferService } from '../proto/generated/containerd.services.transfer.v1';
import { VersionService } from '../proto/generated/containerd.services.version.v1';
import { AdminService } from '../proto/generated/gantry.admin.v1';
import { LEASE_HEADER, NAMESPACE_HEADER } from '../proto/ids';
import { fromStatus } from '../proto/status';

/** Largest message in either direction, as the daemon and Go clients have it. */
const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;

const NO_CONNECTION = 'No connection established';

export interface CallOptions {
  /** Instead of the connection's own namespace. */
  readonly namespace?: string;
  /** Created objects are attached to this lease. */
  readonly lease?: string | undefined;
  /** No deadline: for calls that wait for something to happen, such as Tasks.Wait. */
  readonly patient?: boolean;
  readonly signal?: AbortSignal;
}

/** A bidirectional stream: `send` resolves when the message was taken, `receive` with undefined at the end. */
export interface Duplex<Req, Res> {
  send(request: Input<Req>): Promise<void>;
  receive(): Promise<Res | undefined>;
  end(): void;
  cancel(): void;
}

export type ClientOf<S> = {
  readonly [K in keyof S]: S[K] extends Method<infer Req, infer Res, infer Kind>
    ? Kind extends 'unary'
      ? (request: Input<Req>, options?: CallOptions) => Promise<Res>
      : Kind extends 'server'
        ? (request: Input<Req>, options?: CallOptions) => AsyncIterable<Res>
        : (options?: CallOptions) => Duplex<Req, Res>
    : never;
};

export interface ConnectionOptions {
  readonly address: string;
  readonly namespace: string;
  /** Deadline of each call that is not patient; 0 = none. */
  readonly timeoutMs: number;
  /** Told of every call when it ended. */
  readonly trace?: ((path: string, milliseconds: number, error: unknown) => void) | undefined;
}

type GrpcModule = typeof import('@grpc/grpc-js');

/** One connection to the daemon with a client for every service. Close it, or the process stays alive. */
export class Connection {
  readonly namespace: string;
  readonly admin = this.#client(AdminService);
  readonly containers = this.#client(ContainersService);
  readonly content = this.#client(ContentService);
  readonly diff = this.#client(DiffService);
  readonly events = this.#client(EventsService);
  readonly images = this.#client(ImagesService);
  readonly introspection = this.#client(IntrospectionService);
  readonly leases = this.#client(LeasesService);
  readonly namespaces = this.#client(NamespacesService);
  readonly snapshots = this.#client(SnapshotsService);
  readonly streaming = this.#client(StreamingService);
  readonly tasks = this.#client(TasksService);
  readonly transfer = this.#client(TransferService);
  readonly version = this.#client(VersionService);
  readonly #options: ConnectionOptions;
  #channel: { grpc: GrpcModule; client: grpc.Client } | undefined;

  constructor(options: ConnectionOptions) {
    this.namespace = options.namespace;
    this.#options = options;
  }

  close(): void {
    this.#channel?.client.close();
    this.#channel = undefined;
  }

  #open(): { grpc: GrpcModule; client: grpc.Client } {
    if (this.#channel !== undefined) return this.#channel;
    const grpc = require('@grpc/grpc-js') as GrpcModule;
    const client = new grpc.Client(target(this.#options.address), grpc.credentials.createInsecure(), {
      'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
      'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
      'grpc.enable_retries': 0,
      'grpc.enable_channelz': 0,
    });
    this.#channel = { grpc, client };
    return this.#channel;
  }

  #client<S>(definition: S): ClientOf<S> {
    const client: Record<string, unknown> = {};
    for (const [name, method] of Object.entries(definition as Record<string, Method<unknown, unknown>>)) {
      if (method.kind === 'unary') {
        client[name] = (request: unknown, options?: CallOptions) => this.#unary(method, request, options ?? {});
      } else if (method.kind === 'server') {
        client[name] = (request: unknown, options?: CallOptions) => this.#stream(method, request, options ?? {});
      } else {
        client[name] = (options?: CallOptions) => this.#duplex(method, options ?? {});
      }
    }
    return client as ClientOf<S>;
  }

  #unary(method: Method<unknown, unknown>, request: unknown, options: CallOptions): Promise<unknown> {
    const { client } = this.#open();
    const started = performance.now();
    return new Promise((resolve, reject) => {
      const call = client.makeUnaryRequest(
        method.path,
        method.requestSerialize as (value: unknown) => Buffer,
        method.responseDeserialize,
        request,
        this.#metadata(options),
        this.#callOptions(options),
        (error, response) => {
          this.#options.trace?.(method.path, performance.now() - started, error);
          if (error === null) resolve(response);
          else reject(this.#failure(error));
        },
      );
      options.signal?.addEventListener('abort', () => call.cancel(), { once: true });
    });
  }

  async *#stream(
    method: Method<unknown, unknown>,
    request: unknown,
    options: CallOptions,
  ): AsyncGenerator<unknown, void, void> {
    const { client } = this.#open();
    const started = performance.now();
    const call = client.makeServerStreamRequest(
      method.path,
      method.requestSerialize as (value: unknown) => Buffer,
      method.responseDeserialize,
      request,
      this.#metadata(options),
      this.#callOptions(options),
    );
    const abort = () => call.cancel();
    options.signal?.addEventListener('abort', abort, { once: true });
    let failure: unknown;
    try {
      for await (const message of call) yield message;
    } catch (error) {
      failure = error;
      throw this.#failure(error);
    } finally {
      options.signal?.removeEventListener('abort', abort);
      call.cancel();
      this.#options.trace?.(method.path, performance.now() - started, failure);
    }
  }

  #duplex(method: Method<unknown, unknown>, options: CallOptions): Duplex<unknown, unknown> {
    const { client } = this.#open();
    const call = client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize as (value: unknown) => Buffer,
      method.responseDeserialize,
      this.#metadata(options),
      this.#callOptions({ ...options, patient: true }),
    );
    return duplexOf(call, (error) => this.#failure(error));
  }

  #metadata(options: CallOptions): grpc.Metadata {
    const metadata = new (this.#open().grpc.Metadata)();
    metadata.set(NAMESPACE_HEADER, options.namespace ?? this.namespace);
    if (options.lease !== undefined) metadata.set(LEASE_HEADER, options.lease);
    return metadata;
  }

  #callOptions(options: CallOptions): { deadline?: number } {
    const { timeoutMs } = this.#options;
    return timeoutMs > 0 && options.patient !== true ? { deadline: Date.now() + timeoutMs } : {};
  }

  #failure(error: unknown): unknown {
    const { code, details, message } = error as Partial<grpc.ServiceError>;
    if (typeof code !== 'number') return error;
    const text = details ?? message ?? '';
    // What the daemon itself could not reach is another matter; this is how grpc-js begins when it has no connection.
    const refused =
      code === 14 && text.startsWith(NO_CONNECTION)
        ? /\b(ENOENT|ECONNREFUSED|EACCES|ENOTSOCK|EPERM)\b/.exec(text)?.[1]
        : undefined;
    if (refused !== undefined) return unreachable(this.#options.address, refused);
    if (code === 4 && this.#options.timeoutMs > 0) {
      return deadlineExceeded(`no answer within ${this.#options.timeoutMs} ms (--timeout)`);
    }
    return fromStatus(code, text);
  }
}

/** An error that says in one sentence why nobody answers at the socket. */
export function unreachable(address: string, errno: string): Error {
  const path = address.replace(/^unix:(\/\/)?/, '');
  if (errno === 'EACCES' || errno === 'EPERM')
    return unavailable(`no permission to use the socket ${path}; try as root`);
  const why = errno === 'ENOENT' ? 'the socket does not exist' : 'nobody answers on the socket';
  return unavailable(`cannot reach gantryd at ${path}: ${why}; is gantryd running? (see --address)`);
}

/** gRPC target of an address given as a path or as unix:///path. */
function target(address: string): string {
  return address.startsWith('/') ? `unix:${address}` : address.includes(':') ? address : `unix:${address}`;
}

function duplexOf(
  call: grpc.ClientDuplexStream<unknown, unknown>,
  failure: (error: unknown) => unknown,
): Duplex<unknown, unknown> {
  const messages = call[Symbol.asyncIterator]();
  // A call that failed rejects in receive(); without a listener a late error would end the process.
  let failed: unknown;
  call.on('error', (error: unknown) => {
    failed = error;
  });
  return {
    send(request) {
      if (failed !== undefined) return Promise.reject(failure(failed));
      if (call.write(request)) return Promise.resolve();
      return new Promise((resolve, reject) => {
        const settle = () => {
          call.off('drain', settle).off('error', settle).off('end', settle);
          if (failed === undefined) resolve();
          else reject(failure(failed));
        };
        call.once('drain', settle).once('error', settle).once('end', settle);
      });
    },
    async receive() {
      try {
        const next = await messages.next();
        if (next.done !== true) return next.value;
      } catch (error) {
        throw failure(error);
      }
      if (failed !== undefined) throw failure(failed);
      return undefined;
    },
    end: () => call.end(),
    cancel: () => call.cancel(),
  };
}
