// The daemon's end of one shim connection: the Task service in the version that the shim speaks.

import type { Input, Method } from '../../proto/codec';
import { ApiError, errorKind, isNotImplemented, messageOf } from '../../proto/errors';
import { TaskService as TaskServiceV2 } from '../../proto/generated/containerd.task.v2';
import { TaskService as TaskServiceV3 } from '../../proto/generated/containerd.task.v3';
import { isTtrpcClosed, TtrpcClient } from '../../proto/ttrpc/client';
import type { Bootstrap } from './bundle';

type Tasks = typeof TaskServiceV3;
type Name = keyof Tasks;
type RequestOf<N extends Name> = Tasks[N] extends Method<infer Req, infer _, 'unary'> ? Req : never;
type ResponseOf<N extends Name> = Tasks[N] extends Method<infer _, infer Res, 'unary'> ? Res : never;

export interface ShimClientOptions {
  readonly namespace: string;
  readonly signal: AbortSignal;
  /** Called once when the connection ends, unless it was closed from this side. */
  readonly onClose: () => void;
}

/** The messages of both versions are the same on the wire. */
const SERVICES = { 2: TaskServiceV2 as Tasks, 3: TaskServiceV3 } as const;

export class ShimClient {
  private readonly client: TtrpcClient;
  private readonly namespace: string;
  private version: 2 | 3;
  private isClosing = false;

  private constructor(client: TtrpcClient, version: 2 | 3, options: ShimClientOptions) {
    this.client = client;
    this.version = version;
    this.namespace = options.namespace;
    client.onClose(() => {
      if (!this.isClosing) options.onClose();
    });
  }

  /** @throws UNAVAILABLE when nobody listens, UNIMPLEMENTED for an address of an unknown kind. */
  static async connect(bootstrap: Bootstrap, options: ShimClientOptions): Promise<ShimClient> {
    const client = await TtrpcClient.connect(socketPathOf(bootstrap.address), { signal: options.signal });
    return new ShimClient(client, bootstrap.version >= 3 ? 3 : 2, options);
  }

  get isClosed(): boolean {
    return this.client.isClosed;
  }

  /**
   * Calls a method of the Task service. Version 3 falls back to 2 for good when the shim does not implement it.
   * @throws the shim's status in the form in which clients of containerd 1.x and 2.x understand it; the signal's reason
   * when it aborts.
   */
  async call<N extends Name>(name: N, request: Input<RequestOf<N>>, signal: AbortSignal): Promise<ResponseOf<N>> {
    try {
      return await this.callVersion(name, request, signal);
    } catch (error) {
      if (this.version !== 3 || !isNotImplemented(error)) throw worded(error);
      this.version = 2;
      return await this.callVersion(name, request, signal).catch((second: unknown) => Promise.reject(worded(second)));
    }
  }

  /** Resolves when the connection has ended. */
  untilClosed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(signal.reason);
      if (signal.aborted) onAbort();
      signal.addEventListener('abort', onAbort, { once: true });
      this.client.onClose(() => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      });
    });
  }

  close(): void {
    this.isClosing = true;
    this.client.close();
  }

  private callVersion<N extends Name>(
    name: N,
    request: Input<RequestOf<N>>,
    signal: AbortSignal,
  ): Promise<ResponseOf<N>> {
    const definition = SERVICES[this.version][name] as unknown as Method<RequestOf<N>, ResponseOf<N>, 'unary'>;
    return this.client.call(definition, request, { signal, namespace: this.namespace });
  }
}

/** True for the error of a call whose shim is gone. */
export function isShimGone(error: unknown): boolean {
  return isTtrpcClosed(error) || (error instanceof Error && isShimGone(error.cause));
}

/** Path for connect(2); an address without a scheme is an abstract socket. @throws UNIMPLEMENTED for other schemes. */
export function socketPathOf(address: string): string {
  if (address.startsWith('unix://')) return address.slice('unix://'.length);
  if (address.includes('://')) throw new ApiError('not implemented', `shim address ${address}`);
  return address.startsWith('/') ? address : `\0${address}`;
}

/** containerd 1.x ends what it does not know a class for with the word unknown; later clients cut it off. */
function worded(error: unknown): unknown {
  const message = messageOf(error);
  if (isTtrpcClosed(error)) return new ApiError('unknown', 'ttrpc: closed: unknown', { cause: error });
  if (errorKind(error) !== 'unknown' || message.endsWith(': unknown')) return error;
  return new ApiError('unknown', `${message}: unknown`, { cause: error });
}
