// ttrpc server: services over any number of connections. Used by the shim (Task) and by the daemon (Events). It knows
// no service; handlers get decoded messages and a context, and answer with messages or by throwing.

import { chmodSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Input, Method } from '../codec';
import { ServerConnection } from './server-connection';

export interface TtrpcContext {
  /** From the metadata key containerd-namespace-ttrpc. */
  readonly namespace: string | undefined;
  /** Keys in lower case; a key that came more than once keeps its first value. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Aborted at the caller's deadline and when the connection is lost; its reason is the error to throw. */
  readonly signal: AbortSignal;
}

type HandlerOf<M> =
  M extends Method<infer Req, infer Res, infer Kind>
    ? Kind extends 'unary'
      ? (request: Req, context: TtrpcContext) => Input<Res> | Promise<Input<Res>>
      : Kind extends 'client'
        ? (requests: AsyncIterable<Req>, context: TtrpcContext) => Promise<Input<Res>>
        : Kind extends 'server'
          ? (request: Req, context: TtrpcContext) => AsyncIterable<Input<Res>>
          : (requests: AsyncIterable<Req>, context: TtrpcContext) => AsyncIterable<Input<Res>>
    : never;

/** One handler per method of a generated service. */
export type TtrpcHandlers<S> = { readonly [K in keyof S]: HandlerOf<S[K]> };

/** A service's definition with its handlers, their types checked by `ttrpcService`. */
export interface TtrpcService {
  readonly definition: Readonly<Record<string, AnyMethod>>;
  readonly handlers: Readonly<Record<string, unknown>>;
}

export function ttrpcService<S>(definition: S, handlers: TtrpcHandlers<S>): TtrpcService {
  return { definition, handlers } as unknown as TtrpcService;
}

export interface ServeOptions {
  /** Called with every new connection; throwing refuses it. The place for SO_PEERCRED. */
  readonly authorize?: (socket: Socket) => void;
  readonly connectionsMax?: number;
  /** Told about what no caller hears of: refused connections, failures of accept. */
  readonly onError?: (error: unknown) => void;
}

/** Connections over this number are closed at once, unless the options say another. */
export const CONNECTIONS_MAX = 256;
const DRAIN_MS = 10_000;

export type AnyMethod = Method<never, unknown>;
export type AnyHandler = (request: unknown, context: TtrpcContext) => unknown;
export type Resolver = (
  service: string,
  method: string,
) => { method: AnyMethod; handler: AnyHandler } | 'service' | 'method';

export class TtrpcServer {
  readonly #resolve: Resolver;
  readonly #options: ServeOptions;
  readonly #connections = new Set<ServerConnection>();
  readonly #listener: Server;

  /** Use `serveTtrpc`. */
  constructor(services: Readonly<Record<string, TtrpcService>>, options: ServeOptions) {
    this.#resolve = resolver(services);
    this.#options = options;
    this.#listener = createServer((socket) => this.#accept(socket));
    this.#listener.maxConnections = options.connectionsMax ?? CONNECTIONS_MAX;
    this.#listener.on('error', (error) => options.onError?.(error));
  }

  /** Listens on a unix socket that only the owner may use. @throws what bind(2) says, such as EADDRINUSE. */
  async listen(path: string): Promise<void> {
    // The umask makes the socket 0600 from its first moment; chmod is for umasks that were stricter.
    const umask = process.umask(0o177);
    try {
      await this.#listen({ path });
    } finally {
      process.umask(umask);
    }
    chmodSync(path, 0o600);
  }

  /** Serves a listening socket that was handed over. */
  async listenFd(fd: number): Promise<void> {
    await this.#listen({ fd });
  }

  /** Serves one connection that is open already. */
  serve(stream: Duplex): void {
    const connection = new ServerConnection(stream, this.#resolve, () => this.#connections.delete(connection));
    this.#connections.add(connection);
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Stops listening, lets requests under way finish within a limit, then closes all connections. */
  async close(): Promise<void> {
    const listening = this.#listener.listening;
    const closed = new Promise<void>((resolve) => {
      if (listening) this.#listener.close(() => resolve());
      else resolve();
    });
    const deadline = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, DRAIN_MS);
    await Promise.all([...this.#connections].map((connection) => connection.drain()));
    clearTimeout(deadline);
    await closed;
  }

  #accept(socket: Socket): void {
    try {
      this.#options.authorize?.(socket);
    } catch (error) {
      socket.destroy();
      this.#options.onError?.(error);
      return;
    }
    this.serve(socket);
  }

  async #listen(where: { path: string } | { fd: number }): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#listener.once('error', reject);
      this.#listener.listen(where, () => {
        this.#listener.off('error', reject);
        resolve();
      });
    });
  }
}

/** A server for the services, by their full proto names. It serves nothing until `listen` or `serve` is called. */
export function serveTtrpc(services: Readonly<Record<string, TtrpcService>>, options: ServeOptions = {}): TtrpcServer {
  return new TtrpcServer(services, options);
}

function resolver(services: Readonly<Record<string, TtrpcService>>): Resolver {
  const table = new Map<string, Map<string, { method: AnyMethod; handler: AnyHandler }>>();
  for (const [name, { definition, handlers }] of Object.entries(services)) {
    const methods = new Map<string, { method: AnyMethod; handler: AnyHandler }>();
    for (const [key, method] of Object.entries(definition)) {
      const handler = handlers[key] as AnyHandler;
      methods.set(method.path.slice(method.path.lastIndexOf('/') + 1), { method, handler });
    }
    table.set(name, methods);
  }
  return (service, method) => {
    const methods = table.get(service);
    return methods === undefined ? 'service' : (methods.get(method) ?? 'method');
  };
}
