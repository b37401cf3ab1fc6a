// The gRPC server on a Unix socket: prior-knowledge h2c, messages of a bounded size, mode 0660. The socket is our own,
// so that connections can be bounded; grpc-js gets each connection handed over.

import { chmodSync } from 'node:fs';
import { createServer, type Socket, type Server as SocketServer } from 'node:net';
import * as grpc from '@grpc/grpc-js';
import { addService, type CallHooks } from './call';
import type { Service } from './handler';
import { setHttp2Options } from './http2-options';

/** What containerd and its Go clients use. */
export const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
/** Calls of one connection at the same time; more wait in the client. */
export const STREAMS_PER_CONNECTION_MAX = 4096;
/** Memory of one HTTP/2 session for headers and queued frames. */
const SESSION_MEGABYTES_MAX = 64;
export const CONNECTIONS_MAX = 1024;
const SOCKET_MODE = 0o660;

export interface ServerOptions {
  readonly connectionsMax?: number;
  /** Both ways. */
  readonly messageBytesMax?: number;
  /** Told about what no caller hears of, such as failures of accept. */
  readonly onError?: (error: unknown) => void;
}

export class ApiServer {
  readonly #server: grpc.Server;
  readonly #listener: SocketServer;
  readonly #injector: grpc.ConnectionInjector;
  readonly #options: ServerOptions;
  readonly #sockets = new Set<Socket>();

  constructor(services: readonly Service[], hooks: CallHooks, options: ServerOptions = {}) {
    this.#options = options;
    const messageBytesMax = options.messageBytesMax ?? MESSAGE_BYTES_MAX;
    this.#server = new grpc.Server({
      'grpc.max_receive_message_length': messageBytesMax,
      'grpc.max_send_message_length': messageBytesMax,
      'grpc.max_concurrent_streams': STREAMS_PER_CONNECTION_MAX,
      'grpc-node.max_session_memory': SESSION_MEGABYTES_MAX,
      'grpc.enable_channelz': 0,
    });
    for (const service of services) addService(this.#server, service, hooks);
    setHttp2Options(this.#server);
    this.#injector = this.#server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
    this.#listener = createServer((socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      this.#injector.injectConnection(socket);
    });
    this.#listener.maxConnections = options.connectionsMax ?? CONNECTIONS_MAX;
  }

  /** @throws what bind(2) says, such as EADDRINUSE */
  async listen(path: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#listener.once('error', reject);
      this.#listener.listen(path, () => {
        this.#listener.off('error', reject);
        resolve();
      });
    });
    this.#listener.on('error', (error) => this.#options.onError?.(error));
    this.#listener.on('drop', () => this.#options.onError?.(new Error('too many connections')));
    // Until here the umask lets nobody but the owner write to it, and connecting needs that.
    chmodSync(path, SOCKET_MODE);
  }

  /** Stops listening; calls under way get a moment to end, then their connections are cut. */
  async close(graceMs: number): Promise<void> {
    const isClosed = new Promise<void>((resolve) => {
      if (this.#listener.listening) this.#listener.close(() => resolve());
      else resolve();
    });
    const timer = setTimeout(() => this.#server.forceShutdown(), graceMs);
    await new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    clearTimeout(timer);
    this.#server.forceShutdown();
    // grpc-js forgets connections whose session has ended before the socket did.
    for (const socket of this.#sockets) socket.destroy();
    await isClosed;
  }
}
