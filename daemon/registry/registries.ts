// The registry clients of a daemon: one thread for all, and what its configuration says where a transfer says nothing.

import { dockerCredentials } from './auth/docker-config';
import { diagnose, type Finding } from './diagnosis';
import { type ProxyEnvironment, proxyEnvironment } from './http/proxy';
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
  readonly #proxies: ProxyEnvironment;
  readonly #thread: RegistryThread;

  /** @param env with the variables that name proxies */
  constructor(config: RegistryConfig, env: Readonly<Record<string, string | undefined>>) {
    this.#config = config;
    const { connectionsPerHostMax } = config;
    this.#proxies = proxyEnvironment(env);
    this.#thread = new RegistryThread({ proxies: this.#proxies, connectionsPerHostMax });
  }

  /** To be called when a client is sure to be asked soon: its thread starts while other things are looked up. */
  prepare(): void {
    this.#thread.prepare();
  }

  /** A client for one transfer. Credentials and tokens are kept as long as the client is. */
  open(options: RegistryOptions = {}): Registry {
    const { stallMs, bytesPerSecondMin } = this.#config;
    const limits = { stallMs, bytesPerSecondMin };
    return new Registry({ ...this.#defaults(), ...options, thread: this.#thread, limits });
  }

  /** Looks what works and what does not, step by step (diagnosis.ts). @throws the signal's reason */
  diagnose(host: string, options: RegistryOptions, signal: AbortSignal): AsyncGenerator<Finding> {
    const { hostsDirectory, credentials, defaultScheme } = { ...this.#defaults(), ...options };
    const parts = { thread: this.#thread, proxies: this.#proxies };
    return diagnose(host, { ...parts, hostsDirectory, credentials, defaultScheme }, signal);
  }

  /** Ends transfers that are under way. */
  close(): Promise<void> {
    return this.#thread.close();
  }

  #defaults(): RegistryOptions {
    const { hostsDirectories, dockerConfig } = this.#config;
    const credentials = dockerConfig === '' ? {} : { credentials: dockerCredentials(dockerConfig) };
    return { hostsDirectory: hostsDirectories.join(':'), ...credentials };
  }
}
