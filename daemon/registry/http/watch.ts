// What goes over HTTP as text, for whoever looks for the cause of a failure: heads of requests and answers, documents, and
// where connections lead. Secrets are not in it, nor are blobs.

import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { messageOf } from '../../../proto/errors';
import type { Connections, Requester, SentRequest } from './connections';
import type { Endpoint } from './endpoint';
import { printable } from './failure';

export interface WatchedParts {
  /** Requests and answers. */
  readonly requests: boolean;
  /** Names that are looked up, connections, TLS. */
  readonly connections: boolean;
}

export interface HttpWatch extends WatchedParts {
  readonly tell: (text: string) => void;
}

const SECRET_HEADERS = ['authorization', 'proxy-authorization', 'cookie', 'set-cookie'];
/** Of one document; the rest is counted. */
const DOCUMENT_BYTES_MAX = 64 << 10;

/** Does as the connections do, and tells. */
export class WatchedConnections implements Requester {
  readonly #connections: Connections;
  readonly #watch: HttpWatch;

  constructor(connections: Connections, watch: HttpWatch) {
    this.#connections = connections;
    this.#watch = watch;
  }

  async request(
    url: URL,
    settings: Pick<Endpoint, 'tls' | 'connectTimeoutMs'>,
    request: SentRequest,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const { requests, connections, tell } = this.#watch;
    if (requests) tell(requestText(url, request));
    const onSocket = (socket: Socket, isKept: boolean) => followSocket(socket, { isKept, host: url.host, tell });
    try {
      const sent = connections ? { ...request, onSocket } : request;
      const answer = await this.#connections.request(url, settings, sent, signal);
      if (requests) tell(answerText(answer));
      return answer;
    } catch (error) {
      tell(`* ${request.method} ${url.href}: no answer: ${printable(messageOf(error))}\n`);
      throw error;
    }
  }

  onDocument({ headers }: IncomingMessage, body: Uint8Array): void {
    if (!this.#watch.requests || body.length === 0 || !isText(headers['content-type'])) return;
    this.#watch.tell(`${documentText(body)}\n\n`);
  }
}

function requestText(url: URL, { method, headers, body }: SentRequest): string {
  const lines = [`${method} ${url.pathname}${url.search} HTTP/1.1`, `Host: ${url.host}`];
  for (const [name, value] of Object.entries(headers)) lines.push(headerText(name, value));
  const document = body instanceof Uint8Array && isText(headers['content-type']) ? `${documentText(body)}\n\n` : '';
  return `${lines.join('\n')}\n\n${document}`;
}

function answerText({ httpVersion, statusCode, statusMessage, rawHeaders }: IncomingMessage): string {
  const lines = [`HTTP/${httpVersion} ${statusCode} ${printable(statusMessage ?? '')}`];
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    lines.push(headerText(rawHeaders[index] ?? '', rawHeaders[index + 1] ?? ''));
  }
  return `${lines.join('\n')}\n\n`;
}

function headerText(name: string, value: string): string {
  if (!SECRET_HEADERS.includes(name.toLowerCase())) return `${name}: ${value}`;
  const scheme = /^(Basic|Bearer) /i.exec(value)?.[0] ?? '';
  return `${name}: ${scheme}(not shown)`;
}

/** Forms are what tokens are asked for with. */
function isText(contentType: string | undefined): boolean {
  return /^(text\/|application\/.*json)/.test(contentType ?? '');
}

function documentText(body: Uint8Array): string {
  const text = Buffer.from(body.subarray(0, DOCUMENT_BYTES_MAX)).toString('utf8');
  const rest = body.length - DOCUMENT_BYTES_MAX;
  return rest > 0 ? `${text}... (${rest} bytes more)` : text;
}

function followSocket(
  socket: Socket,
  { isKept, host, tell }: { readonly isKept: boolean; readonly host: string; readonly tell: (text: string) => void },
): void {
  const where = () => `${socket.remoteAddress}:${socket.remotePort}`;
  const isSecure = (socket as Partial<TLSSocket>).encrypted === true;
  const secured = () => tell(`* ${host}: ${(socket as TLSSocket).getProtocol() ?? 'TLS'}\n`);
  if (isKept) {
    tell(`* ${host}: by the connection to ${where()} that is there\n`);
    return;
  }
  if (!socket.connecting) {
    tell(`* ${host}: connected by way of ${where()}\n`);
    if (isSecure) secured();
    return;
  }
  socket.once('lookup', (error: Error | null, address: string) => {
    if (error === null) tell(`* ${host}: is ${address}\n`);
  });
  socket.once('connect', () => tell(`* ${host}: connected to ${where()}\n`));
  if (isSecure) socket.once('secureConnect', secured);
}
