// One request and its answer: authorization, redirects and the words for what fails. Bodies of answers are streams; who
// asks reads or destroys them.

import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import type { Requester } from './connections';
import type { Endpoint } from './endpoint';
import { failureAt, networkError, type Place, type StatusAnswer } from './failure';

export interface HttpRequest {
  readonly endpoint: Endpoint;
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Called once for each time that the request is sent. */
  readonly body?: (() => Uint8Array | Readable) | undefined;
  /** What is being done, for errors. */
  readonly doing: string;
  /** What a token must allow (`repository:app:pull`); undefined: the request goes without authorization. */
  readonly scopes?: readonly string[] | undefined;
  readonly headersTimeoutMs?: number;
  /** Its body is for this host alone: redirects are refused. */
  readonly isSecret?: boolean;
}

export interface HttpAnswer {
  readonly status: number;
  /** Names in lower case; several of one name are joined with commas. */
  readonly headers: Readonly<Record<string, string>>;
  readonly challenges: readonly string[];
  /** Where it came from in the end. */
  readonly url: string;
  readonly body: IncomingMessage;
}

export interface AuthorizationRequest {
  readonly endpoint: Endpoint;
  readonly scopes: readonly string[];
  /** When the host has refused a request: its WWW-Authenticate headers, and the authorization that it refused. */
  readonly refused?: { readonly challenges: readonly string[]; readonly authorization: string | undefined };
}

/** Value for the Authorization header; undefined: there is none. */
export type Authorize = (request: AuthorizationRequest, signal: AbortSignal) => Promise<string | undefined>;

const REDIRECTS_MAX = 10;
const REDIRECT_STATUSES = [301, 302, 303, 307, 308];
/** What is read of a body that nobody wants, so that the connection can be used again. */
const DRAIN_BYTES = 16 * 1024;
const ERROR_BODY_BYTES = 16 * 1024;
const ERROR_BODY_TIMEOUT_MS = 10_000;
const HEADERS_TIMEOUT_MS = 60_000;
const USER_AGENT = 'gantry';

export function placeOf({ endpoint, doing }: Pick<HttpRequest, 'endpoint' | 'doing'>): Place {
  return { host: endpoint.host, doing };
}

/**
 * Sends a request; a host that wants authorization is asked once more with it.
 * @throws RegistryError when no answer comes, the signal's reason. Statuses are the caller's to judge.
 */
export async function exchange(
  connections: Requester,
  request: HttpRequest,
  authorize: Authorize,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const { endpoint, scopes } = request;
  let authorization = scopes === undefined ? undefined : await authorize({ endpoint, scopes }, signal);
  const first = await follow(connections, request, authorization, signal);
  if (first.status !== 401 || scopes === undefined || !isSameOrigin(first.url, endpoint.url)) return first;
  const refused = { challenges: first.challenges, authorization };
  authorization = await authorize({ endpoint, scopes, refused }, signal);
  if (authorization === undefined) return first;
  await drain(first);
  return follow(connections, request, authorization, signal);
}

/** The first bytes of an answer that is no success, for statusError(). */
export async function errorAnswer({ status, headers, body }: HttpAnswer): Promise<StatusAnswer> {
  const timer = setTimeout(() => body.destroy(), ERROR_BODY_TIMEOUT_MS);
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      length += chunk.length;
      if (length >= ERROR_BODY_BYTES) break;
    }
  } catch {
    // The status says enough.
  } finally {
    clearTimeout(timer);
  }
  return { status, headers, body: Buffer.concat(chunks).subarray(0, ERROR_BODY_BYTES) };
}

export async function drain({ body }: HttpAnswer): Promise<void> {
  let length = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > DRAIN_BYTES) break;
    }
  } catch {
    // Its status and headers are known.
  }
}

async function follow(
  connections: Requester,
  request: HttpRequest,
  authorization: string | undefined,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  let url = new URL(request.url);
  for (let redirects = 0; ; redirects += 1) {
    const answer = await send(connections, request, { url, authorization }, signal);
    const location = answer.headers['location'];
    if (!REDIRECT_STATUSES.includes(answer.status) || location === undefined) return answer;
    await drain(answer);
    if (redirects === REDIRECTS_MAX) {
      throw failureAt(placeOf(request), 'failed precondition', `it redirects more than ${REDIRECTS_MAX} times`);
    }
    url = redirected(request, url, location, answer.status);
  }
}

/** @throws FAILED_PRECONDITION for a redirect that must not be followed */
function redirected(request: HttpRequest, from: URL, location: string, status: number): URL {
  const refuse = (cause: string) => failureAt(placeOf(request), 'failed precondition', `it redirects ${cause}`);
  const { method, isSecret = false } = request;
  if (isSecret) throw refuse('a request that is for itself alone');
  if (method !== 'GET' && method !== 'HEAD' && status !== 307 && status !== 308) {
    throw refuse(`a ${method} request with status ${status}`);
  }
  const to = URL.parse(location, from.href);
  if (to === null) throw refuse('to what is no URL');
  if (to.protocol !== 'https:' && to.protocol !== 'http:') throw refuse(`to the scheme "${to.protocol}"`);
  if (from.protocol === 'https:' && to.protocol === 'http:') throw refuse(`from https to http, to host "${to.host}"`);
  return to;
}

async function send(
  connections: Requester,
  request: HttpRequest,
  { url, authorization }: { url: URL; authorization: string | undefined },
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const { endpoint, method, body } = request;
  // What is meant for the registry is not for where it redirects.
  const own = isSameOrigin(url.href, endpoint.url)
    ? { ...endpoint.headers, ...(authorization === undefined ? {} : { authorization }) }
    : {};
  const headers = { 'user-agent': USER_AGENT, 'accept-encoding': 'identity', ...request.headers, ...own };
  const clients = isSameOrigin(url.href, endpoint.url) ? endpoint.tls.clients : [];
  const settings = { ...endpoint, tls: { ...endpoint.tls, clients } };
  const { headersTimeoutMs = HEADERS_TIMEOUT_MS } = request;
  try {
    const answer = await connections.request(
      url,
      settings,
      { method, headers, body: body?.(), headersTimeoutMs },
      signal,
    );
    return {
      status: answer.statusCode ?? 0,
      headers: joined(answer.headers),
      challenges: [answer.headersDistinct['www-authenticate'] ?? []].flat(),
      url: url.href,
      body: answer,
    };
  } catch (error) {
    signal.throwIfAborted();
    const host = isSameOrigin(url.href, endpoint.url) ? endpoint.host : `${endpoint.host}" by way of "${url.host}`;
    throw networkError({ host, doing: request.doing }, error);
  }
}

function joined(headers: IncomingHttpHeaders): Record<string, string> {
  const result: Record<string, string> = Object.create(null);
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) result[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return result;
}

function isSameOrigin(a: string, b: string): boolean {
  return new URL(a).origin === new URL(b).origin;
}
