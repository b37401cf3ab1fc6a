// Stands before a registry and does to its answers what bad networks and bad registries do.

import http from 'node:http';
import type { AddressInfo } from 'node:net';

export type Fault =
  /** Answers itself. */
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly headers?: Record<string, string>;
      readonly body?: string | Buffer;
    }
  /** Breaks the connection after so many bytes of the body. */
  | { readonly kind: 'drop'; readonly afterBytes: number }
  /** Sends nothing more after so many bytes. */
  | { readonly kind: 'stall'; readonly afterBytes: number }
  /** Sends a byte now and then. */
  | { readonly kind: 'trickle' }
  /** Turns one byte around. */
  | { readonly kind: 'corrupt'; readonly atByte: number }
  /** Changes headers of the answer; undefined removes. */
  | { readonly kind: 'headers'; readonly headers: Record<string, string | undefined> }
  /** Limits every connection to this rate. */
  | { readonly kind: 'slow'; readonly bytesPerSecond: number }
  /** Turns one byte of the request around. */
  | { readonly kind: 'corrupt-request'; readonly atByte: number }
  /** Takes no more of the request after so many bytes. */
  | { readonly kind: 'stall-request'; readonly afterBytes: number }
  /** Breaks the connection when so many bytes of the request have come. */
  | { readonly kind: 'drop-request'; readonly afterBytes: number };

/** What to do to a request; undefined: nothing. */
export type Plan = (request: http.IncomingMessage) => Fault | undefined;

export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: http.IncomingHttpHeaders;
  /** Of the client: one for each connection. */
  readonly port: number | undefined;
}

export class FaultyProxy {
  readonly requests: SeenRequest[] = [];
  plan: Plan = () => undefined;
  /** Port of the registry. */
  target: number;
  readonly #server: http.Server;
  readonly #timers = new Set<NodeJS.Timeout>();

  private constructor(target: number) {
    this.target = target;
    this.#server = http.createServer((request, response) => this.#take(request, response));
  }

  /** @param target port of the registry; 0: there is none, the plan answers everything */
  static async start(target = 0): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #take(request: http.IncomingMessage, response: http.ServerResponse): void {
    const { method = '', url = '', headers, socket } = request;
    this.requests.push({ method, url, headers, port: socket.remotePort });
    const fault = this.plan(request);
    if (fault?.kind === 'answer') {
      request.resume();
      response.writeHead(fault.status, fault.headers).end(fault.body);
      return;
    }
    const target = { port: this.target, host: '127.0.0.1', path: url };
    const upstream = http.request({ ...target, method, headers, agent: false });
    upstream.on('response', (answer) => this.#pass(answer, response, fault));
    upstream.on('error', () => response.destroy());
    response.on('close', () => upstream.destroy());
    if (fault?.kind === 'drop-request') dropAfter(request, fault.afterBytes, () => upstream.end());
    if (fault?.kind === 'stall-request') stallAfter(request, fault.afterBytes);
    request.on('error', () => upstream.destroy());
    if (fault?.kind === 'corrupt-request') corruptAt(request, fault.atByte);
    request.pipe(upstream);
  }

  #pass(answer: http.IncomingMessage, response: http.ServerResponse, fault: Fault | undefined): void {
    const headers: http.OutgoingHttpHeaders = { ...answer.headers };
    if (fault?.kind === 'headers') {
      for (const [name, value] of Object.entries(fault.headers)) {
        if (value === undefined) delete headers[name];
        else headers[name] = value;
      }
    }
    answer.on('error', () => response.destroy());
    response.writeHead(answer.statusCode ?? 502, headers);
    let sent = 0;
    answer.on('data', (chunk: Buffer) => {
      const before = sent;
      sent += chunk.length;
      if (fault?.kind === 'corrupt' && fault.atByte >= before && fault.atByte < sent)
        chunk[fault.atByte - before]! ^= 0xff;
      if ((fault?.kind === 'drop' || fault?.kind === 'stall') && sent >= fault.afterBytes) {
        answer.pause();
        const cut = () => (fault.kind === 'drop' ? response.destroy() : undefined);
        response.write(chunk.subarray(0, Math.max(0, fault.afterBytes - before)), cut);
        return;
      }
      if (fault?.kind === 'trickle') this.#trickle(answer, response, chunk);
      else if (fault?.kind === 'slow') this.#slow(answer, response, { chunk, rate: fault.bytesPerSecond });
      else if (!response.write(chunk)) {
        answer.pause();
        response.once('drain', () => answer.resume());
      }
    });
    answer.on('end', () => response.end());
  }

  #trickle(answer: http.IncomingMessage, response: http.ServerResponse, chunk: Buffer): void {
    answer.pause();
    let at = 0;
    const timer = setInterval(() => {
      if (response.destroyed || at === chunk.length) return clearInterval(timer);
      response.write(chunk.subarray(at, at + 1));
      at += 1;
    }, 100);
    this.#timers.add(timer);
  }

  #slow(answer: http.IncomingMessage, response: http.ServerResponse, { chunk, rate }: { chunk: Buffer; rate: number }) {
    answer.pause();
    response.write(chunk);
    const timer = setTimeout(() => answer.resume(), (chunk.length / rate) * 1000);
    this.#timers.add(timer);
  }
}

function dropAfter(request: http.IncomingMessage, bytes: number, andThen: () => void): void {
  let received = 0;
  request.on('data', (chunk: Buffer) => {
    received += chunk.length;
    if (received < bytes) return;
    request.unpipe();
    andThen();
    request.socket.destroy();
  });
}

function stallAfter(request: http.IncomingMessage, bytes: number): void {
  let received = 0;
  request.on('data', (chunk: Buffer) => {
    received += chunk.length;
    if (received < bytes) return;
    request.unpipe();
    request.pause();
  });
}

function corruptAt(request: http.IncomingMessage, at: number): void {
  let received = 0;
  request.on('data', (chunk: Buffer) => {
    if (at >= received && at < received + chunk.length) chunk[at - received]! ^= 0xff;
    received += chunk.length;
  });
}
