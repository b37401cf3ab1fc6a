// Debian's docker-registry on loopback, with storage of its own: plain, with TLS, with user names or with tokens.

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { mustRun, waitFor } from '../../setup/command';
import { needsFile } from '../../setup/needs';
import type { Authority } from './certificates';

const PROGRAM = '/usr/bin/docker-registry';
const START_TIMEOUT_MS = 60_000;

/** Why docker-registry cannot be used; undefined when it can. */
export function missingForRegistry(): string | undefined {
  return needsFile(PROGRAM, 'package docker-registry') ?? needsFile('/usr/bin/htpasswd', 'package apache2-utils');
}

export interface ServerOptions {
  /** A command that runs it in another place, for example nsenter; it must keep the pid. */
  readonly within?: readonly string[];
  /** Serves https, with a certificate for 127.0.0.1 and localhost from this authority. */
  readonly tls?: Authority;
  /** Clients have to show a certificate of this authority. */
  readonly clientAuthority?: Authority;
  readonly users?: Readonly<Record<string, string>>;
  /** Takes manifests with layers that are only at http URLs. */
  readonly foreignLayers?: boolean;
  readonly token?: {
    readonly realm: string;
    readonly service: string;
    readonly issuer: string;
    readonly bundle: string;
  };
}

export class RegistryServer {
  readonly directory: string;
  readonly #config: string;
  readonly #command: readonly string[];
  #process: ChildProcess | undefined;
  #port = 0;

  private constructor(directory: string, config: string, within: readonly string[]) {
    this.directory = directory;
    this.#config = config;
    this.#command = [...within, PROGRAM, 'serve'];
  }

  /** Resolves when it serves. The directory is the caller's to remove. */
  static async start(directory: string, options: ServerOptions = {}): Promise<RegistryServer> {
    fs.mkdirSync(path.join(directory, 'storage'), { recursive: true });
    const server = new RegistryServer(directory, await configuration(directory, options), options.within ?? []);
    await server.resume();
    return server;
  }

  get port(): number {
    return this.#port;
  }

  /** Name for references. */
  get host(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** Starts it again after kill(), on the port and with the storage that it had. */
  async resume(): Promise<void> {
    await waitFor('docker-registry to listen', () => this.#listen(), START_TIMEOUT_MS);
  }

  /** False when another process has the port for a moment. */
  async #listen(): Promise<boolean> {
    const file = path.join(this.directory, 'config.yml');
    fs.writeFileSync(file, this.#config.replace('@PORT@', String(this.#port)));
    const [program, ...args] = this.#command;
    const child = spawn(program!, [...args, file], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#process = child;
    let log = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (log.length < 1 << 20) log += text;
    });
    const isTaken = () => log.includes('address already in use');
    const port = await waitFor(
      'docker-registry to say where it listens',
      () => {
        if (child.exitCode !== null && !isTaken()) throw new Error(`docker-registry has ended: ${log}`);
        return isTaken() ? 0 : Number(/listening on 127\.0\.0\.1:(\d+)/.exec(log)?.[1] ?? 0) || undefined;
      },
      START_TIMEOUT_MS,
    );
    if (port !== 0) this.#port = port;
    return port !== 0;
  }

  /** As a crash would. Idempotent. */
  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }
}

async function configuration(directory: string, options: ServerOptions): Promise<string> {
  const { tls, clientAuthority, users, token, foreignLayers } = options;
  const lines = [
    'version: 0.1',
    'log: { level: info, accesslog: { disabled: true } }',
    `storage: { filesystem: { rootdirectory: ${path.join(directory, 'storage')} }, delete: { enabled: true } }`,
    'http:',
    '  addr: 127.0.0.1:@PORT@',
    '  secret: of-this-test',
  ];
  if (tls !== undefined) {
    const { certificate, key } = await tls.issue('server', ['IP:127.0.0.1', 'DNS:localhost']);
    lines.push('  tls:', `    certificate: ${certificate}`, `    key: ${key}`);
    if (clientAuthority !== undefined) lines.push(`    clientcas: [ ${clientAuthority.certificate} ]`);
  }
  if (foreignLayers === true) lines.push("validation: { manifests: { urls: { allow: [ '^http://' ] } } }");
  if (users !== undefined) {
    const file = path.join(directory, 'htpasswd');
    const entries = Object.entries(users).map(([name, secret]) =>
      mustRun(['htpasswd', '-nbB', '-C', '4', name, secret]),
    );
    fs.writeFileSync(file, (await Promise.all(entries)).map((entry) => entry.trim()).join('\n'));
    lines.push(`auth: { htpasswd: { realm: test, path: ${file} } }`);
  }
  if (token !== undefined) {
    const { realm, service, issuer, bundle } = token;
    lines.push(
      `auth: { token: { realm: "${realm}", service: ${service}, issuer: ${issuer}, rootcertbundle: ${bundle} } }`,
    );
  }
  return `${lines.join('\n')}\n`;
}
