// What tests of the registry client share: a directory, a thread, and clients that look at nothing else on the machine.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseReference } from '../../../daemon/registry/reference';
import { Registries, type RegistryConfig } from '../../../daemon/registry/registries';
import type { Registry } from '../../../daemon/registry/registry';
import type { Reference, RegistryOptions } from '../../../daemon/registry/types';

const CONFIG: RegistryConfig = {
  hostsDirectories: [],
  dockerConfig: '',
  connectionsPerHostMax: 8,
  stallMs: 30_000,
  bytesPerSecondMin: 1024,
};

interface ClientOptions extends RegistryOptions {
  readonly config?: Partial<RegistryConfig>;
  readonly env?: Readonly<Record<string, string>>;
}

export class Fixture implements AsyncDisposable {
  readonly directory: string;
  readonly hostsDirectory: string;
  readonly #registries: Registries[] = [];
  readonly #stack = new AsyncDisposableStack();

  constructor() {
    this.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'registry-'));
    this.#stack.defer(() => fs.rmSync(this.directory, { recursive: true, force: true }));
    this.hostsDirectory = this.path('hosts');
    fs.mkdirSync(this.hostsDirectory);
    this.#stack.defer(async () => {
      await Promise.all(this.#registries.map((registries) => registries.close()));
    });
  }

  path(...names: string[]): string {
    return path.join(this.directory, ...names);
  }

  /** Called at the end, in reverse order. */
  defer(undo: () => unknown): void {
    this.#stack.defer(async () => {
      await undo();
    });
  }

  client({ config, env, ...options }: ClientOptions = {}): Registry {
    return this.registries({ ...(config && { config }), ...(env && { env }) }).open(options);
  }

  registries({ config = {}, env = {} }: Pick<ClientOptions, 'config' | 'env'> = {}): Registries {
    const registries = new Registries({ ...CONFIG, hostsDirectories: [this.hostsDirectory], ...config }, env);
    this.#registries.push(registries);
    return registries;
  }

  /** hosts.toml of a host. */
  configure(host: string, text: string): void {
    const directory = path.join(this.hostsDirectory, host);
    fs.mkdirSync(directory, { recursive: true });
    fs.writeFileSync(path.join(directory, 'hosts.toml'), text);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

export function reference(host: string, rest: string): Reference {
  return parseReference(`${host}/${rest}`);
}
