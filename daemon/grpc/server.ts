// The gRPC server on a Unix socket: prior-knowledge h2c, 16 MiB messages both ways, mode 0660.

import { chmodSync } from 'node:fs';
import * as grpc from '@grpc/grpc-js';
import { addService, type CallHooks } from './call';
import type { Service } from './handler';

const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
const STREAMS_PER_CONNECTION_MAX = 4096;
const SOCKET_MODE = 0o660;

export class ApiServer {
  readonly #server: grpc.Server;

  constructor(services: readonly Service[], hooks: CallHooks) {
    this.#server = new grpc.Server({
      'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
      'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
      'grpc.max_concurrent_streams': STREAMS_PER_CONNECTION_MAX,
    });
    for (const service of services) addService(this.#server, service, hooks);
  }

  /** For services that register themselves, such as reflection. */
  get raw(): grpc.Server {
    return this.#server;
  }

  async listen(path: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.bindAsync(`unix:${path}`, grpc.ServerCredentials.createInsecure(), (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
    chmodSync(path, SOCKET_MODE);
  }

  /** Stops listening; calls under way get a moment to end, then their connections are cut. */
  async close(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#server.forceShutdown(), graceMs);
    await new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    clearTimeout(timer);
  }
}
