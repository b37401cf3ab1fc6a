// Requests over connections that are kept and shared by all with the same settings. It decides on proxies and trust; it
// knows nothing of registries.

import http from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { Endpoint, TlsSettings } from './endpoint';
import { type ProxyEnvironment, proxyFor } from './proxy';
import { ForwardAgent, noConnection, TunnelAgent } from './proxy-agents';
import { secureContextFor } from './trust';

export interface SentRequest {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | Readable | undefined;
  /** From the end of the request to the headers of its answer. */
  readonly headersTimeoutMs: number;
  /** Called with the connection that it goes over. */
  readonly onSocket?: (socket: Socket, isKept: boolean) => void;
}

/** Sends requests. */
export interface Requester {
  /**
   * Resolves with the headers of the answer; its body is the caller's to read or destroy.
   * @throws errors of the network, and of the signal
   */
  request(
    url: URL,
    settings: Pick<Endpoint, 'tls' | 'connectTimeoutMs'>,
    request: SentRequest,
    signal: AbortSignal,
  ): Promise<http.IncomingMessage>;
  /** Is shown documents that came, by those who have read them. */
  onDocument?(answer: http.IncomingMessage, body: Uint8Array): void;
}

/** Headers of one answer, all together. */
const HEADER_BYTES_MAX = 64 * 1024;
/** A connection that nobody uses is closed after this time. */
const KEEP_ALIVE_MS = 5_000;

export class Connections implements Requester {
  readonly #environment: ProxyEnvironment;
  readonly #perHostMax: number;
  readonly #agents = new Map<string, http.Agent>();

  /** @param perHostMax connections to one host; further requests wait */
  constructor(environment: ProxyEnvironment, perHostMax: number) {
    this.#environment = environment;
    this.#perHostMax = perHostMax;
  }

  request(
    url: URL,
    { tls, connectTimeoutMs }: Pick<Endpoint, 'tls' | 'connectTimeoutMs'>,
    { method, headers, body, headersTimeoutMs, onSocket }: SentRequest,
    signal: AbortSignal,
  ): Promise<http.IncomingMessage> {
    const agent = this.#agentFor(url, tls, connectTimeoutMs);
    const options = { agent, method, headers, signal, maxHeaderSize: HEADER_BYTES_MAX, insecureHTTPParser: false };
    const request = (url.protocol === 'https:' ? https : http).request(url, options);
    if (onSocket !== undefined) request.once('socket', (socket) => onSocket(socket, request.reusedSocket));
    limitConnecting(request, connectTimeoutMs);
    limitWaiting(request, headersTimeoutMs);
    return new Promise((resolve, reject) => {
      request.on('response', (answer) => {
        // A body that breaks while nobody reads it must not end the process.
        answer.on('error', () => {});
        // An answer before the request was sent whole: the rest is not wanted.
        if (!request.writableFinished) answer.once('close', () => request.destroy());
        resolve(answer);
      });
      request.on('error', reject);
      send(request, body, reject);
    });
  }

  #agentFor(url: URL, tls: TlsSettings, connectTimeoutMs: number): http.Agent {
    const proxy = proxyFor(url, this.#environment);
    const isSecure = url.protocol === 'https:';
    const key = JSON.stringify([proxy, isSecure, (isSecure || proxy) && tls, proxy && connectTimeoutMs]);
    let agent = this.#agents.get(key);
    if (agent === undefined) {
      const common = { keepAlive: true, maxSockets: this.#perHostMax, timeout: KEEP_ALIVE_MS };
      if (proxy === undefined)
        agent = isSecure ? new https.Agent({ ...common, ...trustOf(tls) }) : new http.Agent(common);
      else if (!isSecure) agent = new ForwardAgent(common, { url: proxy, tls });
      else agent = new TunnelAgent({ ...common, ...trustOf(tls) }, { url: proxy, tls }, connectTimeoutMs);
      this.#agents.set(key, agent);
    }
    return agent;
  }
}

function trustOf(tls: TlsSettings) {
  return { secureContext: secureContextFor(tls), rejectUnauthorized: !tls.skipVerify };
}

function send(request: http.ClientRequest, body: SentRequest['body'], onError: (error: unknown) => void): void {
  if (body === undefined || body instanceof Uint8Array) {
    request.end(body);
    return;
  }
  body.on('error', (error) => {
    onError(error);
    request.destroy();
  });
  request.on('close', () => body.destroy());
  body.pipe(request);
}

/** Time for a new connection, without the wait for one to become free. */
function limitConnecting(request: http.ClientRequest, timeoutMs: number): void {
  request.once('socket', (socket: Socket & { encrypted?: boolean; secureConnecting?: boolean }) => {
    // A kept one, or a tunnel, which comes when it is ready.
    if (!socket.connecting && socket.secureConnecting !== true) return;
    const timer = setTimeout(() => request.destroy(noConnection()), timeoutMs);
    const done = () => clearTimeout(timer);
    socket.once(socket.encrypted === true ? 'secureConnect' : 'connect', done);
    request.once('close', done);
  });
}

function limitWaiting(request: http.ClientRequest, timeoutMs: number): void {
  request.once('finish', () => {
    const timer = setTimeout(() => request.destroy(coded('no answer', 'ERR_HEADERS_TIMEOUT')), timeoutMs);
    const done = () => clearTimeout(timer);
    request.once('response', done);
    request.once('close', done);
  });
}

function coded(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}
