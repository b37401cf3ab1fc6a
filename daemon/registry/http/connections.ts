// Connections to hosts, kept and shared by all requests with the same settings. It decides on proxies and trust; it
// knows nothing of registries.

import { existsSync, readFileSync } from 'node:fs';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import { Agent, type Dispatcher, ProxyAgent } from 'undici';
import type { Endpoint } from './endpoint';
import { type ProxyEnvironment, proxyFor } from './proxy';

/** Headers of one answer, all together. */
const HEADER_BYTES_MAX = 64 * 1024;
const HEADERS_TIMEOUT_MS = 60_000;
const KEEP_ALIVE_MS = 5_000;

/** Where distributions keep the authorities that the machine trusts, the first one that is there. */
const AUTHORITY_FILES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

export class Connections {
  readonly #environment: ProxyEnvironment;
  readonly #perHostMax: number;
  readonly #dispatchers = new Map<string, Dispatcher>();

  /** @param perHostMax connections to one host; further requests wait */
  constructor(environment: ProxyEnvironment, perHostMax: number) {
    this.#environment = environment;
    this.#perHostMax = perHostMax;
  }

  /** What sends requests for a URL with the trust and the time limits of an endpoint. */
  to(url: URL, { tls, connectTimeoutMs }: Pick<Endpoint, 'tls' | 'connectTimeoutMs'>): Dispatcher {
    const proxy = proxyFor(url, this.#environment);
    const isSecure = url.protocol === 'https:' || (proxy ?? '').startsWith('https:');
    const key = JSON.stringify([proxy, isSecure ? tls : undefined, connectTimeoutMs]);
    let dispatcher = this.#dispatchers.get(key);
    if (dispatcher === undefined) {
      dispatcher = this.#open(proxy, isSecure ? tls : undefined, connectTimeoutMs);
      this.#dispatchers.set(key, dispatcher);
    }
    return dispatcher;
  }

  async close(): Promise<void> {
    const open = [...this.#dispatchers.values()];
    this.#dispatchers.clear();
    await Promise.all(open.map((dispatcher) => dispatcher.destroy()));
  }

  #open(proxy: string | undefined, tls: Endpoint['tls'] | undefined, connectTimeoutMs: number): Dispatcher {
    const trust = tls && { secureContext: secureContextFor(tls), rejectUnauthorized: !tls.skipVerify };
    const options = {
      connections: this.#perHostMax,
      allowH2: false,
      pipelining: 1,
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_TIMEOUT_MS,
      // Bodies are watched by Pace, which also knows of those that are merely slow.
      bodyTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_MS,
    };
    if (proxy === undefined) return new Agent({ ...options, connect: { ...trust, timeout: connectTimeoutMs } });
    const proxyTls = tls && { proxyTls: { secureContext: secureContextFor({ ...tls, clients: [] }) } };
    const requestTls = trust && { requestTls: trust };
    return new ProxyAgent({ ...options, uri: proxy, ...requestTls, ...proxyTls, connectTimeout: connectTimeoutMs });
  }
}

/** Trust in the machine's authorities and those of an endpoint. Reading them takes milliseconds: one for all connections. */
export function secureContextFor({ authorities, clients }: Endpoint['tls']): SecureContext {
  return createSecureContext({
    ca: [...trustedAuthorities(), ...authorities],
    cert: clients.map(({ certificate }) => certificate),
    key: clients.map(({ key }) => key),
    minVersion: 'TLSv1.2',
  });
}

function trustedAuthorities(): readonly string[] {
  const named = process.env['SSL_CERT_FILE'];
  const file = [...(named === undefined ? [] : [named]), ...AUTHORITY_FILES].find((path) => existsSync(path));
  return file === undefined ? rootCertificates : [readFileSync(file, 'utf8')];
}
