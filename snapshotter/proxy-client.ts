// Calls to the socket of a proxy plug-in: containerd.services.snapshots.v1 over gRPC. Connects when it is first used and
// again when the plug-in comes back. Errors name the plug-in and its socket.

import * as grpc from '@grpc/grpc-js';
import type { Input, Method } from '../proto/codec';
import { ApiError, canceled, deadlineExceeded, unavailable } from '../proto/errors';
import { NAMESPACE_HEADER } from '../proto/ids';
import { fromStatus } from '../proto/status';

export interface ProxyAddress {
  readonly name: string;
  /** Path of the Unix socket. */
  readonly address: string;
}

export interface CallOptions {
  readonly namespace: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** What containerd's Go clients take and send. */
const MESSAGE_BYTES_MAX = 16 << 20;
/** A refused connection is tried again by a call that comes later than this. */
const RECONNECT_MS = 100;

export class ProxyClient {
  readonly #plugin: ProxyAddress;
  readonly #client: grpc.Client;

  constructor(plugin: ProxyAddress) {
    this.#plugin = plugin;
    this.#client = new grpc.Client(`unix:${plugin.address}`, grpc.credentials.createInsecure(), {
      'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
      'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
      'grpc.initial_reconnect_backoff_ms': RECONNECT_MS,
      'grpc.max_reconnect_backoff_ms': RECONNECT_MS,
    });
  }

  /** @throws UNAVAILABLE without the plug-in, DEADLINE_EXCEEDED, CANCELED, and what the plug-in answers */
  unary<Req, Res>(method: Method<Req, Res, 'unary'>, request: Input<Req>, options: CallOptions): Promise<Res> {
    return new Promise((resolve, reject) => {
      const done = (error: grpc.ServiceError | null, response?: Res) => {
        options.signal?.removeEventListener('abort', abort);
        if (error === null && response !== undefined) resolve(response);
        else reject(this.#explain(error, method.path, options));
      };
      const { path, requestSerialize, responseDeserialize } = method;
      const [metadata, call] = callOptions(options);
      const started = this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        call,
        done,
      );
      const abort = () => started.cancel();
      options.signal?.addEventListener('abort', abort, { once: true });
      if (options.signal?.aborted === true) abort();
    });
  }

  /** All answers of a server stream. @throws as unary() */
  async list<Req, Res>(method: Method<Req, Res, 'server'>, request: Input<Req>, options: CallOptions): Promise<Res[]> {
    const { path, requestSerialize, responseDeserialize } = method;
    const [metadata, call] = callOptions(options);
    const stream = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      call,
    );
    const answers: Res[] = [];
    const abort = () => stream.cancel();
    options.signal?.addEventListener('abort', abort, { once: true });
    try {
      for await (const answer of stream) answers.push(answer as Res);
    } catch (error) {
      throw this.#explain(error as grpc.ServiceError, path, options);
    } finally {
      options.signal?.removeEventListener('abort', abort);
    }
    return answers;
  }

  close(): void {
    this.#client.close();
  }

  #explain(error: grpc.ServiceError | null, path: string, { timeoutMs, signal }: CallOptions): ApiError {
    const { name, address } = this.#plugin;
    const call = path.slice(path.lastIndexOf('/') + 1);
    const cause = { cause: error };
    const { code = grpc.status.UNKNOWN, details = 'no answer' } = error ?? {};
    if (signal?.aborted === true) return canceled(`proxy snapshotter "${name}": ${call} was given up`, cause);
    if (code === grpc.status.UNAVAILABLE) {
      const why = /connect (E\w+)/.exec(details)?.[1] ?? details;
      return unavailable(
        `proxy snapshotter "${name}" cannot be reached at ${address}: ${why}; is the plug-in running?`,
        cause,
      );
    }
    const where = `proxy snapshotter "${name}" at ${address}: ${call}`;
    if (code === grpc.status.DEADLINE_EXCEEDED) {
      return deadlineExceeded(`${where} was not answered within ${timeoutMs / 1000} seconds`, cause);
    }
    const { kind, message } = fromStatus(code, details);
    return new ApiError(kind, `${where}: ${message}`, cause);
  }
}

function callOptions({ namespace, timeoutMs }: CallOptions): [grpc.Metadata, grpc.CallOptions] {
  const metadata = new grpc.Metadata();
  metadata.set(NAMESPACE_HEADER, namespace);
  return [metadata, { deadline: Date.now() + timeoutMs }];
}
