// hosts.toml (containerd's docs/hosts.md): mirrors of a host in order, what each may be used for, and what it takes to
// reach it.

import { readFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { parse } from 'smol-toml';
import { invalidArgument, messageOf } from '../../proto/errors';
import type { HostEndpoint } from './hosts';
import { type Capability, NO_TLS_SETTINGS, type TlsSettings } from './http/endpoint';

interface FileContext {
  readonly directory: string;
  /** The host that the file is for. */
  readonly host: string;
  readonly standard: HostEndpoint;
}

type Table = Record<string, unknown>;

const CAPABILITIES: readonly Capability[] = ['pull', 'resolve', 'push'];
const DURATION_UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** The mirrors in the order of the file, then the host itself. @throws INVALID_ARGUMENT */
export function parseHostsFile(text: string, context: FileContext): HostEndpoint[] {
  const file = join(context.directory, 'hosts.toml');
  let root: Table;
  try {
    root = parse(text) as Table;
  } catch (error) {
    throw invalidArgument(`${file}: ${messageOf(error).split('\n')[0]}`, { cause: error });
  }
  const hosts = root['host'] ?? {};
  if (!isTable(hosts)) throw invalidArgument(`${file}: "host" must be tables, as [host."https://mirror"]`);
  const mirrors = Object.entries(hosts).map(([name, table]) => {
    const reader = new Reader(table, `${file}: host "${name}"`, context);
    return reader.endpoint(name);
  });
  const server = root['server'];
  if (server !== undefined && typeof server !== 'string') throw invalidArgument(`${file}: "server" must be text`);
  const reader = new Reader(root, file, context);
  return [...mirrors, server ? reader.endpoint(server) : reader.standard()];
}

/** The settings of one host, or of the server at the top of the file. */
class Reader {
  readonly #table: Table;
  readonly #where: string;
  readonly #context: FileContext;

  constructor(table: unknown, where: string, context: FileContext) {
    if (!isTable(table)) throw invalidArgument(`${where}: must be a table`);
    this.#table = table;
    this.#where = where;
    this.#context = context;
  }

  endpoint(server: string): HostEndpoint {
    const text = /^https?:\/\//.test(server) ? server : `https://${server}`;
    const url = URL.parse(text);
    if (url === null || url.host === '' || url.username !== '' || url.pathname.startsWith('//'))
      throw this.#bad(`"${server}" is no address of a host`);
    const path = url.pathname.replace(/\/+$/, '');
    const isWhole = this.#flag('override_path') || path.endsWith('/v2');
    // URL leaves out the port that a scheme has anyway; a name keeps it.
    const host = /^https?:\/\/([^/]+)/.exec(text)?.[1] ?? url.host;
    const isItself = url.host === new URL(this.#context.standard.url).host;
    return {
      ...this.#settings(),
      host: isItself ? this.#context.host : host,
      url: `${url.origin}${path}${isWhole ? '' : '/v2'}`,
      mirrored: isItself ? undefined : this.#context.host,
      mayBePlain: false,
    };
  }

  /** The host itself, at its own address. */
  standard(): HostEndpoint {
    const { standard } = this.#context;
    const settings = this.#settings();
    return { ...standard, ...settings, mayBePlain: standard.mayBePlain && settings.tls === NO_TLS_SETTINGS };
  }

  #settings() {
    return {
      capabilities: this.#capabilities(),
      headers: this.#headers(),
      tls: this.#tls(),
      connectTimeoutMs: this.#timeout() ?? this.#context.standard.connectTimeoutMs,
    };
  }

  #capabilities(): readonly Capability[] {
    const list = this.#table['capabilities'];
    if (list === undefined) return CAPABILITIES;
    const known = (item: unknown) => CAPABILITIES.includes(item as Capability);
    if (!Array.isArray(list) || !list.every(known))
      throw this.#bad(`"capabilities" must be of ${CAPABILITIES.join(', ')}`);
    return list as Capability[];
  }

  #headers(): Record<string, string> {
    const table = this.#table['header'] ?? {};
    if (!isTable(table)) throw this.#bad('"header" must be a table');
    return Object.fromEntries(
      Object.entries(table).map(([name, value]) => {
        const values = [value].flat();
        const isText = values.every((item) => typeof item === 'string' && !/[\r\n\0]/.test(item));
        if (!isText || !/^[\w!#$%&'*+.^`|~-]+$/.test(name))
          throw this.#bad(`header "${name}" must be text, or a list of text`);
        return [name.toLowerCase(), values.join(', ')];
      }),
    );
  }

  #tls(): TlsSettings {
    const authorities = this.#texts(this.#table['ca'], '"ca"').map((path) => this.#read(path));
    const skipVerify = this.#flag('skip_verify');
    const clients = this.#clients();
    if (authorities.length + clients.length === 0 && !skipVerify) return NO_TLS_SETTINGS;
    return { authorities, clients, skipVerify };
  }

  /** A file with both, several of these, or pairs of files. */
  #clients(): TlsSettings['clients'] {
    const client = this.#table['client'];
    const list: unknown[] = client === undefined ? [] : [client].flat();
    return list.map((item) => {
      const [certificate, key = certificate] = this.#texts(item, '"client"');
      if (certificate === undefined || key === undefined || (Array.isArray(item) && item.length > 2)) {
        throw this.#bad('"client" must be a file, or pairs [certificate, key]');
      }
      // A pair without a key, as in ["cert.pem", ""], has both in one file.
      return { certificate: this.#read(certificate), key: this.#read(key === '' ? certificate : key) };
    });
  }

  #timeout(): number | undefined {
    const text = this.#table['dial_timeout'];
    if (text === undefined) return undefined;
    const parts = typeof text === 'string' ? [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)] : [];
    const whole = parts.map(([part]) => part).join('');
    if (whole === '' || whole !== text) throw this.#bad('"dial_timeout" must be a duration such as "5s"');
    return parts.reduce((sum, [, value, unit]) => sum + Number(value) * (DURATION_UNITS_MS[unit ?? ''] ?? 0), 0);
  }

  #flag(name: string): boolean {
    const value = this.#table[name] ?? false;
    if (typeof value !== 'boolean') throw this.#bad(`"${name}" must be true or false`);
    return value;
  }

  #texts(value: unknown, name: string): string[] {
    const list = value === undefined ? [] : [value].flat();
    if (list.some((item) => typeof item !== 'string')) throw this.#bad(`${name} must be a file, or a list of files`);
    return list as string[];
  }

  #read(path: string): string {
    const file = isAbsolute(path) ? path : join(this.#context.directory, path);
    try {
      return readFileSync(file, 'utf8');
    } catch (error) {
      throw this.#bad(messageOf(error));
    }
  }

  #bad(cause: string): Error {
    return invalidArgument(`${this.#where}: ${cause}`);
  }
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
