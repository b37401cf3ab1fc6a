// Looks step by step at what a pull from a host needs, and says where it ends: configuration, names, connection, TLS, the
// API, and who we are to it. For people who ask why; a transfer asks nothing of this.

import { lookup } from 'node:dns/promises';
import net from 'node:net';
import tls from 'node:tls';
import { messageOf } from '../../proto/errors';
import { Authorizer } from './auth/authorizer';
import { endpointsOf, type HostEndpoint, type HostOptions } from './hosts';
import type { Answer } from './http/ask';
import { urlAt } from './http/endpoint';
import type { Authorize } from './http/exchange';
import { networkError, printable, RegistryError, registryWords } from './http/failure';
import { type ProxyEnvironment, proxyFor } from './http/proxy';
import { secureContextFor } from './http/trust';
import type { RegistryThread } from './thread';
import type { CredentialsSource } from './types';

export type DiagnosisStep = 'config' | 'proxy' | 'dns' | 'tcp' | 'tls' | 'ping' | 'auth';

export interface Finding {
  /** The host that was looked at: the registry, or one of its mirrors. */
  readonly host: string;
  readonly step: DiagnosisStep;
  readonly isGood: boolean;
  /** What was found; when it is not good, why and what to do. */
  readonly detail: string;
  readonly durationMs: number;
}

export interface DiagnosisOptions extends HostOptions {
  readonly thread: RegistryThread;
  readonly proxies: ProxyEnvironment;
  readonly credentials: CredentialsSource | undefined;
}

const API_HEADER = 'docker-distribution-api-version';
const ANSWER_BYTES_MAX = 64 * 1024;
const DAY_MS = 86_400_000;

/** The findings as they come, host after host; for each host the first that is not good is the last. @throws the signal's reason */
export async function* diagnose(host: string, options: DiagnosisOptions, signal: AbortSignal): AsyncGenerator<Finding> {
  let endpoints: readonly HostEndpoint[];
  const startedMs = performance.now();
  const took = () => performance.now() - startedMs;
  try {
    endpoints = endpointsOf(host, options);
    const detail = endpoints.map(({ url, capabilities }) => `${url} (${capabilities.join(', ')})`).join(', then ');
    yield { host, step: 'config', isGood: true, detail, durationMs: took() };
  } catch (error) {
    yield { host, step: 'config', isGood: false, detail: messageOf(error), durationMs: took() };
    return;
  }
  for (const endpoint of endpoints) yield* new Examination(endpoint, options, signal).run();
}

class Examination {
  readonly #options: DiagnosisOptions;
  readonly #signal: AbortSignal;
  #endpoint: HostEndpoint;
  #ping: Answer | undefined;

  constructor(endpoint: HostEndpoint, options: DiagnosisOptions, signal: AbortSignal) {
    this.#endpoint = endpoint;
    this.#options = options;
    this.#signal = signal;
  }

  async *run(): AsyncGenerator<Finding> {
    for (const [step, look] of this.#steps()) {
      const startedMs = performance.now();
      const finding = { host: this.#endpoint.host, step };
      try {
        const detail = await look();
        // A step may turn out not to be needed.
        if (detail !== undefined) yield { ...finding, isGood: true, detail, durationMs: performance.now() - startedMs };
      } catch (error) {
        this.#signal.throwIfAborted();
        const doing = { host: this.#endpoint.host, doing: step };
        const detail = networkError(doing, error).message;
        yield { ...finding, isGood: false, detail, durationMs: performance.now() - startedMs };
        return;
      }
    }
  }

  #steps(): [DiagnosisStep, () => Promise<string | undefined>][] {
    const url = new URL(this.#endpoint.url);
    const proxy = proxyFor(url, this.#options.proxies);
    const target = proxy === undefined ? url : new URL(proxy);
    const direct: [DiagnosisStep, () => Promise<string | undefined>][] =
      proxy === undefined ? [['tls', () => this.#lookAtTls(url)]] : [];
    return [
      ...(proxy === undefined ? [] : ([['proxy', async () => `by way of ${target.host}`]] as typeof direct)),
      ['dns', () => lookUp(target)],
      ['tcp', () => connect(target, this.#endpoint.connectTimeoutMs, this.#signal)],
      ...direct,
      ['ping', () => this.#pingApi()],
      ['auth', () => this.#logIn()],
    ];
  }

  async #lookAtTls(url: URL): Promise<string | undefined> {
    if (url.protocol !== 'https:') return undefined;
    const { tls: settings, connectTimeoutMs, mayBePlain } = this.#endpoint;
    try {
      return await handshake(url, { settings, timeoutMs: connectTimeoutMs, signal: this.#signal });
    } catch (error) {
      const failure = networkError({ host: this.#endpoint.host, doing: 'tls' }, error);
      if (!mayBePlain || failure.reason !== 'no tls') throw failure;
      this.#endpoint = { ...this.#endpoint, url: this.#endpoint.url.replace(/^https:/, 'http:') };
      return 'it does not speak HTTPS; on loopback plain HTTP is used then';
    }
  }

  async #pingApi(): Promise<string> {
    const answer = await this.#ask(async () => undefined, undefined);
    this.#ping = answer;
    const version = answer.headers[API_HEADER];
    if (answer.status === 200) return `the API answers${version === undefined ? '' : ` (${printable(version)})`}`;
    if (answer.status === 401) return `the API answers and wants a login: ${printable(answer.challenges.join(', '))}`;
    const words = registryWords(answer.body);
    const said = `GET ${this.#endpoint.url}/ gives status ${answer.status}${words === '' ? '' : ` (${words})`}`;
    throw new RegistryError('failed precondition', `${said}: this is no registry, or not at this path`);
  }

  async #logIn(): Promise<string | undefined> {
    if (this.#ping?.status !== 401) return 'no login is needed to be answered; repositories may need one';
    const { thread, credentials } = this.#options;
    const { host } = this.#endpoint;
    let hasCredentials = false;
    const authorizer = new Authorizer({
      reference: host,
      credentials: async (request, signal) => {
        const found = await credentials?.(request, signal);
        hasCredentials = found !== undefined;
        return found;
      },
      ask: (question, authorize, signal) => thread.run('ask', question, { authorize, signal, onProgress: () => {} }),
    });
    const answer = await this.#ask((request, signal) => authorizer.authorize(request, signal), []);
    const who = hasCredentials ? 'with the credentials for this host' : 'without credentials';
    if (answer.status === 200) return `logged in ${who}`;
    const words = registryWords(answer.body);
    const advice = hasCredentials ? 'check user name and password' : 'log in to this host';
    const cause = `${answer.status}${words === '' ? '' : ` (${words})`} ${who}: ${advice}`;
    throw new RegistryError('unauthenticated', `registry "${host}": auth: ${cause}`);
  }

  #ask(authorize: Authorize, scopes: readonly string[] | undefined): Promise<Answer> {
    const endpoint = this.#endpoint;
    const question = {
      endpoint,
      method: 'GET',
      url: urlAt(endpoint, ''),
      doing: 'ping',
      bytesMax: ANSWER_BYTES_MAX,
      attemptsMax: 1,
      scopes,
    } as const;
    return this.#options.thread.run('ask', question, { authorize, signal: this.#signal, onProgress: () => {} });
  }
}

async function lookUp({ hostname }: URL): Promise<string | undefined> {
  const name = bare(hostname);
  if (net.isIP(name) !== 0) return undefined;
  const addresses = await lookup(name, { all: true });
  return `${name} is ${addresses.map(({ address }) => address).join(', ')}`;
}

function connect(url: URL, timeoutMs: number, signal: AbortSignal): Promise<string> {
  const port = portOf(url);
  const socket = net.connect({ host: bare(url.hostname), port, signal, timeout: timeoutMs });
  return settled(socket, 'connect', () => `connected to ${socket.remoteAddress}, port ${socket.remotePort}`);
}

function handshake(
  url: URL,
  { settings, timeoutMs, signal }: { settings: HostEndpoint['tls']; timeoutMs: number; signal: AbortSignal },
): Promise<string> {
  const host = bare(url.hostname);
  const raw = net.connect({ host, port: portOf(url), signal, timeout: timeoutMs });
  const socket = tls.connect({
    socket: raw,
    host,
    ...(net.isIP(host) === 0 ? { servername: host } : {}),
    secureContext: secureContextFor(settings),
    rejectUnauthorized: !settings.skipVerify,
    timeout: timeoutMs,
  });
  raw.on('error', (error) => socket.destroy(error));
  return settled(socket, 'secureConnect', () => {
    const { subject, issuer, valid_to: until } = socket.getPeerCertificate();
    const days = Math.floor((Date.parse(until) - Date.now()) / DAY_MS);
    const trust = socket.authorized ? '' : `; not trusted (${socket.authorizationError}), but skip_verify allows it`;
    const names = `certificate of ${nameOf(subject)} from ${nameOf(issuer)}, good for ${days} more days`;
    return printable(`${socket.getProtocol()}, ${names}${trust}`);
  });
}

function nameOf(name: tls.Certificate | undefined): string {
  return `"${[name?.CN ?? name?.O ?? ''].flat().join(', ')}"`;
}

/** Destroys the socket in the end. */
function settled<S extends net.Socket>(
  socket: S,
  event: 'connect' | 'secureConnect',
  tell: () => string,
): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    socket.once(event, () => resolve(tell()));
    socket.once('timeout', () => reject(Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' })));
    socket.once('close', () => reject(Object.assign(new Error('closed'), { code: 'ECONNRESET' })));
    socket.on('error', reject);
  }).finally(() => socket.destroy());
}

function portOf({ port, protocol }: URL): number {
  return port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port);
}

function bare(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '');
}
