// Node's agents for requests that go through a proxy, with what they lack: the trust of the endpoint also for a proxy that
// is spoken to over TLS, a limit for the time that a tunnel takes, and errors that know that they are the proxy's.

import http from 'node:http';
import https from 'node:https';
import type { TlsSettings } from './endpoint';
import { trustByDefault } from './trust';

interface Proxy {
  readonly url: string;
  /** Of the endpoint behind it. */
  readonly tls: TlsSettings;
}

/** For http: the proxy is asked for whole URLs. */
export class ForwardAgent extends http.Agent {
  readonly #proxy: Proxy;

  constructor(options: http.AgentOptions, proxy: Proxy) {
    super({ ...options, proxyEnv: { HTTP_PROXY: proxy.url } });
    this.#proxy = proxy;
  }

  override createConnection(...args: Parameters<http.Agent['createConnection']>) {
    prepare(this.#proxy);
    const connection = super.createConnection(...args);
    return connection?.prependListener('error', (error) => blame(this.#proxy, error));
  }
}

/** For https: the proxy is asked to connect. */
export class TunnelAgent extends https.Agent {
  readonly #proxy: Proxy;
  readonly #timeoutMs: number;

  constructor(options: https.AgentOptions, proxy: Proxy, timeoutMs: number) {
    super({ ...options, proxyEnv: { HTTPS_PROXY: proxy.url } });
    this.#proxy = proxy;
    this.#timeoutMs = timeoutMs;
  }

  override createConnection(...[options, callback]: Parameters<https.Agent['createConnection']>) {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      callback?.(noConnection(), undefined as never);
    }, this.#timeoutMs);
    prepare(this.#proxy);
    return super.createConnection(options, (error, socket) => {
      clearTimeout(timer);
      if (isLate) socket?.destroy();
      else callback?.(error === null ? null : blame(this.#proxy, error), socket);
    });
  }
}

/** Host of the proxy that an error came from. */
export function proxyOf(error: unknown): string | undefined {
  return (error as { proxy?: string } | undefined)?.proxy;
}

export function noConnection(): Error {
  return Object.assign(new Error('no connection'), { code: 'ETIMEDOUT' });
}

function prepare({ url, tls }: Proxy): void {
  if (new URL(url).protocol === 'https:') trustByDefault(tls);
}

function blame<E extends Error>({ url }: Proxy, error: E): E & { proxy: string } {
  return Object.assign(error, { proxy: new URL(url).host });
}
