// A token service as registries have one (distribution's token specification, with its OAuth 2 form), for docker-registry
// with auth.token. It knows a few users, and keeps what it was asked.

import { createSign, randomUUID, X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

interface Access {
  readonly type: string;
  readonly name: string;
  readonly actions: readonly string[];
}

export interface TokenQuestion {
  readonly method: string;
  readonly parameters: URLSearchParams;
  readonly authorization: string | undefined;
}

export class TokenServer {
  readonly questions: TokenQuestion[] = [];
  readonly users: Readonly<Record<string, string>>;
  /** Refresh tokens that are good for everything. */
  readonly refreshTokens: readonly string[];
  expiresInS = 300;
  /** Answers in place of a token. */
  answer: ((question: TokenQuestion) => { status: number; body: string; headers?: Record<string, string> }) | undefined;
  readonly #server: http.Server;
  readonly #key: string;
  readonly #chain: string;

  private constructor({ users, refreshTokens, certificate, key }: TokenServerOptions) {
    this.users = users;
    this.refreshTokens = refreshTokens;
    this.#key = fs.readFileSync(key, 'utf8');
    this.#chain = new X509Certificate(fs.readFileSync(certificate)).raw.toString('base64');
    this.#server = http.createServer((request, response) => void this.#take(request, response));
  }

  static async start(options: TokenServerOptions): Promise<TokenServer> {
    const server = new TokenServer(options);
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get realm(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/token`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #take(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = request;
    const parameters =
      method === 'POST' ? new URLSearchParams(await text(request)) : new URL(url, this.realm).searchParams;
    const question = { method, parameters, authorization: headers.authorization };
    this.questions.push(question);
    const own = this.answer?.(question);
    if (own !== undefined) {
      response.writeHead(own.status, own.headers).end(own.body);
      return;
    }
    const user = this.#userOf(question);
    if (user === undefined) {
      response
        .writeHead(401, { 'content-type': 'application/json' })
        .end('{"details":"incorrect username or password"}');
      return;
    }
    const scopes = parameters.getAll('scope').flatMap((scope) => scope.split(' '));
    const token = this.#token(user, parameters.get('service') ?? '', scopes);
    const key = method === 'POST' ? 'access_token' : 'token';
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ [key]: token, expires_in: this.expiresInS }));
  }

  /** Empty: nobody in particular. */
  #userOf({ method, parameters, authorization }: TokenQuestion): string | undefined {
    if (method === 'POST') {
      if (parameters.get('grant_type') === 'refresh_token') {
        return this.refreshTokens.includes(parameters.get('refresh_token') ?? '') ? 'token' : undefined;
      }
      const name = parameters.get('username') ?? '';
      return this.users[name] !== undefined && this.users[name] === parameters.get('password') ? name : undefined;
    }
    if (authorization === undefined) return '';
    const pair = Buffer.from(authorization.replace('Basic ', ''), 'base64').toString();
    const name = pair.slice(0, pair.indexOf(':'));
    const secret = pair.slice(name.length + 1);
    return this.users[name] !== undefined && this.users[name] === secret ? name : undefined;
  }

  /** Nobody in particular may pull what is public. */
  #token(user: string, audience: string, scopes: readonly string[]): string {
    const access: Access[] = scopes.map((scope) => {
      const [type = '', name = '', actions = ''] = scope.split(':');
      const wanted = actions.split(',');
      const mayPull = user !== '' || name.startsWith('public');
      return { type, name, actions: wanted.filter((action) => user !== '' || (mayPull && action === 'pull')) };
    });
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      iss: 'tests',
      sub: user,
      aud: audience,
      exp: now + 300,
      nbf: now - 60,
      iat: now,
      jti: randomUUID(),
      access,
    };
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const signed = `${encode({ typ: 'JWT', alg: 'ES256', x5c: [this.#chain] })}.${encode(claims)}`;
    const signature = createSign('sha256').update(signed).sign({ key: this.#key, dsaEncoding: 'ieee-p1363' });
    return `${signed}.${signature.toString('base64url')}`;
  }
}

interface TokenServerOptions {
  readonly users: Readonly<Record<string, string>>;
  readonly refreshTokens: readonly string[];
  readonly certificate: string;
  readonly key: string;
}
