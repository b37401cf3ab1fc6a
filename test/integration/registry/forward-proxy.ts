// A forward proxy: CONNECT for https, absolute URLs for http, itself over http or https. It keeps what it was asked for.

import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';

interface ProxyCertificate {
  readonly cert: Buffer;
  readonly key: Buffer;
}

export class ForwardProxy {
  /** `CONNECT host:port` or `GET http://...`, in order. */
  readonly requests: string[] = [];
  /** Proxy-Authorization of each request. */
  readonly authorizations: (string | undefined)[] = [];
  /** Refuses every request with this status. */
  refusal: number | undefined;
  /** Takes requests and says nothing. */
  isSilent = false;
  /** Holds every tunnel up for this time once some bytes have come back. */
  pauseMs = 0;
  readonly #server: http.Server;
  readonly #scheme: string;
  readonly #sockets = new Set<net.Socket>();

  private constructor(tls: ProxyCertificate | undefined) {
    this.#scheme = tls === undefined ? 'http' : 'https';
    this.#server = tls === undefined ? http.createServer() : https.createServer(tls);
    this.#server.on('request', (request, response) => this.#forward(request, response));
    this.#server.on('connect', (request, socket: net.Socket, head) => this.#tunnel(request, socket, head));
  }

  /** @param files of its certificate, when it shall speak TLS */
  static async start(files?: { readonly certificate: string; readonly key: string }): Promise<ForwardProxy> {
    const proxy = new ForwardProxy(
      files && { cert: fs.readFileSync(files.certificate), key: fs.readFileSync(files.key) },
    );
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get url(): string {
    return `${this.#scheme}://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #tunnel(request: http.IncomingMessage, socket: net.Socket, head: Buffer): void {
    this.requests.push(`CONNECT ${request.url}`);
    this.authorizations.push(request.headers['proxy-authorization']);
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    if (this.refusal !== undefined) {
      socket.end(`HTTP/1.1 ${this.refusal} Refused\r\ncontent-length: 0\r\n\r\n`);
      return;
    }
    if (this.isSilent) return;
    // Names of tests stand for this machine.
    const port = Number(/:(\d+)$/.exec(request.url ?? '')?.[1]);
    const upstream = net.connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      if (head.length > 0) upstream.write(head);
      upstream.pipe(socket).pipe(upstream);
      if (this.pauseMs > 0) holdUp(upstream, socket, this.pauseMs);
    });
    this.#sockets.add(upstream);
    upstream.on('error', () => socket.destroy());
  }

  #forward(request: http.IncomingMessage, response: http.ServerResponse): void {
    this.requests.push(`${request.method} ${request.url}`);
    this.authorizations.push(request.headers['proxy-authorization']);
    if (this.refusal !== undefined) {
      response.writeHead(this.refusal).end();
      return;
    }
    const { port, pathname, search } = new URL(request.url ?? '');
    const { method, headers } = request;
    const path = pathname + search;
    const upstream = http.request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    upstream.on('error', () => response.destroy());
    request.pipe(upstream);
  }
}

const BYTES_BEFORE_PAUSE = 256 * 1024;

function holdUp(upstream: net.Socket, socket: net.Socket, ms: number): void {
  let bytes = 0;
  upstream.on('data', (chunk: Buffer) => {
    const before = bytes;
    bytes += chunk.length;
    if (before >= BYTES_BEFORE_PAUSE || bytes < BYTES_BEFORE_PAUSE) return;
    upstream.unpipe(socket);
    upstream.pause();
    setTimeout(() => upstream.pipe(socket), ms);
  });
}
