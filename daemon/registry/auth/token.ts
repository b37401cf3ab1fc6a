// Bearer tokens from a registry's token service: with GET (distribution's token specification), and with POST for refresh
// tokens and for services that want OAuth 2.

import { isNotFound } from '../../../proto/errors';
import type { Answer, Question } from '../http/ask';
import type { Endpoint } from '../http/endpoint';
import type { Authorize } from '../http/exchange';
import { failureAt, type Place, printable, statusError } from '../http/failure';
import type { Credentials } from '../types';
import type { Challenge } from './challenge';

export interface Token {
  readonly value: string;
  /** Milliseconds since the epoch; from then on it is not used any more. */
  readonly expiresAtMs: number;
}

export type Ask = (question: Question, authorize: Authorize, signal: AbortSignal) => Promise<Answer>;

export interface TokenRequest {
  readonly endpoint: Endpoint;
  readonly challenge: Challenge;
  readonly scopes: readonly string[];
  readonly credentials: Exclude<Credentials, { kind: 'header' }> | undefined;
}

const ANSWER_BYTES_MAX = 1 << 20;
const TOKEN_LENGTH_MAX = 48 * 1024;
/** When the service does not say how long a token lasts (token specification). */
const LIFETIME_S = 60;
const LIFETIME_S_MAX = 86_400;
/** A token is left this part of its life before its end, so that it does not expire on the way. */
const MARGIN = 0.1;
const CLIENT_ID = 'gantry';
const FORM = 'application/x-www-form-urlencoded';

/** @throws UNAUTHENTICATED, PERMISSION_DENIED or another RegistryError; FAILED_PRECONDITION for a service not to be asked */
export async function fetchToken(ask: Ask, request: TokenRequest, signal: AbortSignal): Promise<Token> {
  const { credentials, scopes } = request;
  const realm = checkRealm(request);
  const place = placeOf(request, realm);
  const askFor = (form: 'get' | 'post') => ask(...questionOf(request, realm, form), signal);
  let answer = await askFor(credentials?.kind === 'identity-token' ? 'post' : 'get');
  // Some services speak OAuth 2 only.
  if (credentials?.kind === 'password' && (answer.status === 404 || answer.status === 405))
    answer = await askFor('post');
  if (answer.status !== 200) {
    const failure = statusError(place, answer, adviceFor(answer.status, credentials));
    throw isNotFound(failure) ? failureAt(place, 'unauthenticated', 'there is no token service (404)') : failure;
  }
  return readToken(answer.body, place, scopes);
}

function placeOf({ endpoint, scopes }: TokenRequest, realm: URL): Place {
  return { host: endpoint.host, doing: `auth at "${realm.host}" for ${scopes.join(' ')}` };
}

/** Whom the registry names as token service is believed only as far as the registry itself. */
function checkRealm({ endpoint, challenge, scopes }: TokenRequest): URL {
  const text = challenge.parameters['realm'] ?? '';
  const refuse = (cause: string) => {
    const place = { host: endpoint.host, doing: `auth for ${scopes.join(' ')}` };
    return failureAt(place, 'failed precondition', `its token service "${printable(text)}" ${cause}`);
  };
  const realm = URL.parse(text);
  if (realm === null) throw refuse('is no URL');
  if (realm.protocol !== 'https:' && realm.protocol !== 'http:') throw refuse('is refused: not http or https');
  if (realm.protocol === 'http:' && endpoint.url.startsWith('https:'))
    throw refuse('is refused: http, for a host with https');
  if (realm.username !== '' || realm.password !== '') throw refuse('is refused: it has a user name in it');
  return realm;
}

function questionOf(
  { endpoint, challenge, scopes, credentials }: TokenRequest,
  realm: URL,
  form: 'get' | 'post',
): [Question, Authorize] {
  const service = challenge.parameters['service'];
  const parameters = new URLSearchParams(form === 'get' ? realm.search : '');
  if (service !== undefined) parameters.set('service', service);
  const isSameHost = realm.hostname === new URL(endpoint.url).hostname;
  const common = {
    // Headers and client certificates are for the registry.
    endpoint: {
      ...endpoint,
      url: realm.origin,
      headers: {},
      tls: { ...endpoint.tls, clients: isSameHost ? endpoint.tls.clients : [] },
    },
    doing: `auth at "${realm.host}" for ${scopes.join(' ')}`,
    bytesMax: ANSWER_BYTES_MAX,
  };
  if (form === 'post') {
    parameters.set('client_id', CLIENT_ID);
    parameters.set('scope', scopes.join(' '));
    if (credentials?.kind === 'identity-token') {
      parameters.set('grant_type', 'refresh_token');
      parameters.set('refresh_token', credentials.token);
    } else if (credentials !== undefined) {
      parameters.set('grant_type', 'password');
      parameters.set('username', credentials.username);
      parameters.set('password', credentials.secret);
    }
    const body = Buffer.from(parameters.toString());
    const question: Question = {
      ...common,
      method: 'POST',
      url: realm.href,
      headers: { 'content-type': FORM },
      body,
      isSecret: true,
    };
    return [question, none];
  }
  for (const scope of scopes) parameters.append('scope', scope);
  if (credentials?.kind !== 'password') return [{ ...common, method: 'GET', url: withQuery(realm, parameters) }, none];
  parameters.set('account', credentials.username);
  const authorization = basic(credentials.username, credentials.secret);
  const question: Question = { ...common, method: 'GET', url: withQuery(realm, parameters), scopes: [] };
  return [question, async ({ refused }) => (refused === undefined ? authorization : undefined)];
}

const none: Authorize = async () => undefined;

export function basic(username: string, secret: string): string {
  return `Basic ${Buffer.from(`${username}:${secret}`).toString('base64')}`;
}

function withQuery(realm: URL, parameters: URLSearchParams): string {
  const url = new URL(realm);
  url.search = parameters.toString();
  return url.href;
}

function adviceFor(status: number, credentials: Credentials | undefined): string | undefined {
  if (status !== 401 && status !== 403 && status !== 400) return undefined;
  return credentials === undefined
    ? 'it gives no token to those who are not logged in: log in to this host'
    : 'it does not accept the credentials: check user name and password, or log in again';
}

function readToken(body: Uint8Array, place: Place, scopes: readonly string[]): Token {
  const refuse = (cause: string) =>
    failureAt(place, 'failed precondition', `its answer for ${scopes.join(' ')} ${cause}`);
  let answer: Record<string, unknown>;
  try {
    answer = JSON.parse(Buffer.from(body).toString('utf8'));
  } catch {
    throw refuse('is not JSON');
  }
  const value = answer?.['token'] || answer?.['access_token'];
  if (typeof value !== 'string') throw refuse('has no token');
  if (value.length > TOKEN_LENGTH_MAX || !/^[\x21-\x7e]+$/.test(value))
    throw refuse('has a token that no header can hold');
  const given = Number(answer['expires_in']);
  const lifetimeS = given > 0 ? Math.min(given, LIFETIME_S_MAX) : LIFETIME_S;
  return { value, expiresAtMs: Date.now() + lifetimeS * 1000 * (1 - MARGIN) };
}
