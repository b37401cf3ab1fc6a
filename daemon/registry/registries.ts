// The registry clients of a daemon: one thread for all, and what its configuration says where a transfer says nothing.

import { dockerCredentials } from './auth/docker-config';
import { proxyEnvironment } from './http/proxy';
import { Registry } from './registry';
import { RegistryThread } from './thread';
import type { RegistryOptions } from './types';

export interface RegistryConfig {
  /** In the order in which they are looked at. */
  readonly hostsDirectories: readonly string[];
  /** docker's config.json, for transfers that bring no credentials; empty: none. */
  readonly dockerConfig: string;
  readonly connectionsPerHostMax: number;
  readonly stallMs: number;
  readonly bytesPerSecondMin: number;
}

export class Registries {
  readonly #config: RegistryConfig;
  readonly #thread: RegistryThread;

  /** @param env with the variables that name proxies */
  constructor(config: RegistryConfig, env: Readonly<Record<string, string | undefined>>) {
    this.#config = config;
    const { connectionsPerHostMax } = config;
    this.#thread = new RegistryThread({ proxies: proxyEnvironment(env), connectionsPerHostMax });
  }

  /** A client for one transfer. Credentials and tokens are kept as long as the client is. */
  open(options: RegistryOptions = {}): Registry {
    const { hostsDirectories, dockerConfig, stallMs, bytesPerSecondMin } = this.#config;
    const credentials = dockerConfig === '' ? undefined : dockerCredentials(dockerConfig);
    return new Registry({
      hostsDirectory: hostsDirectories.join(':'),
      ...(credentials === undefined ? {} : { credentials }),
      ...options,
      thread: this.#thread,
      limits: { stallMs, bytesPerSecondMin },
    });
  }

  /** Ends transfers that are under way. */
  close(): Promise<void> {
    return this.#thread.close();
  }
}
