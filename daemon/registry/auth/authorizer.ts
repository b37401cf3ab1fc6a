// Who we are to each host of one transfer: credentials are asked for once, tokens kept until they expire. Nothing is sent
// to a host before it has asked for it.

import type { Endpoint } from '../http/endpoint';
import type { AuthorizationRequest } from '../http/exchange';
import { failureAt } from '../http/failure';
import type { Credentials, CredentialsSource } from '../types';
import { type Challenge, parseChallenges } from './challenge';
import { type Ask, basic, fetchToken, type Token } from './token';

export interface AuthorizerOptions {
  /** The name that the user gave, for whoever is asked for credentials. */
  readonly reference: string;
  readonly credentials: CredentialsSource | undefined;
  readonly ask: Ask;
}

interface HostState {
  challenge: Challenge | undefined;
  credentials: Promise<Credentials | undefined> | undefined;
  readonly tokens: Map<string, Promise<Token>>;
}

export class Authorizer {
  readonly #options: AuthorizerOptions;
  readonly #hosts = new Map<string, HostState>();

  constructor(options: AuthorizerOptions) {
    this.#options = options;
  }

  /**
   * The value of the Authorization header for a request; undefined: none is needed, or none is left to try.
   * @throws RegistryError when the token service fails, what the source of credentials throws, the signal's reason
   */
  async authorize(request: AuthorizationRequest, signal: AbortSignal): Promise<string | undefined> {
    const { endpoint, refused } = request;
    const state = this.#state(endpoint);
    if (refused !== undefined) state.challenge = choose(endpoint, refused.challenges);
    const { challenge } = state;
    if (challenge === undefined) return undefined;
    const credentials = await this.#credentials(state, endpoint, refused?.challenges ?? [], signal);
    const value =
      credentials?.kind === 'header'
        ? credentials.value
        : challenge.scheme === 'basic'
          ? basicOf(credentials)
          : await this.#bearer(state, { ...request, challenge, credentials }, signal);
    return value === refused?.authorization ? undefined : value;
  }

  #state({ url }: Endpoint): HostState {
    let state = this.#hosts.get(url);
    if (state === undefined) {
      state = { challenge: undefined, credentials: undefined, tokens: new Map() };
      this.#hosts.set(url, state);
    }
    return state;
  }

  async #credentials(
    state: HostState,
    { host }: Endpoint,
    challenges: readonly string[],
    signal: AbortSignal,
  ): Promise<Credentials | undefined> {
    const { credentials, reference } = this.#options;
    state.credentials ??= credentials?.({ host, reference, challenges }, signal);
    try {
      return await state.credentials;
    } catch (error) {
      state.credentials = undefined;
      throw error;
    }
  }

  async #bearer(
    state: HostState,
    request: AuthorizationRequest & {
      readonly challenge: Challenge;
      readonly credentials: Exclude<Credentials, { kind: 'header' }> | undefined;
    },
    signal: AbortSignal,
  ): Promise<string> {
    const { challenge, refused } = request;
    const asked = refused === undefined ? [] : (challenge.parameters['scope'] ?? '').split(' ').filter(Boolean);
    const scopes = mergedScopes([...request.scopes, ...asked]);
    const key = request.scopes.join(' ');
    const current = state.tokens.get(key);
    if (current !== undefined) {
      const token = await current.catch(() => undefined);
      const isRefused = refused !== undefined && refused.authorization === `Bearer ${token?.value}`;
      if (token !== undefined && token.expiresAtMs > Date.now() && !isRefused) return `Bearer ${token.value}`;
      if (state.tokens.get(key) === current) state.tokens.delete(key);
    }
    // Others may have asked for a new one already.
    let next = state.tokens.get(key);
    if (next === undefined) {
      next = fetchToken(this.#options.ask, { ...request, scopes }, signal);
      state.tokens.set(key, next);
    }
    return `Bearer ${(await next).value}`;
  }
}

/** One scope for each resource, with all the actions that are named for it. */
export function mergedScopes(scopes: readonly string[]): string[] {
  const resources = new Map<string, Set<string>>();
  for (const scope of scopes) {
    const colon = scope.lastIndexOf(':');
    const actions = resources.get(scope.slice(0, colon)) ?? new Set();
    for (const action of scope.slice(colon + 1).split(',')) actions.add(action);
    resources.set(scope.slice(0, colon), actions);
  }
  return [...resources].map(([resource, actions]) => `${resource}:${[...actions].join(',')}`);
}

function basicOf(credentials: Exclude<Credentials, { kind: 'header' }> | undefined): string | undefined {
  return credentials?.kind === 'password' ? basic(credentials.username, credentials.secret) : undefined;
}

/** Bearer before Basic, as the registry's own tokens are of less worth to a thief. @throws UNAUTHENTICATED for others */
function choose(endpoint: Endpoint, headers: readonly string[]): Challenge | undefined {
  const challenges = parseChallenges(headers);
  const usable = ['bearer', 'basic'].flatMap((scheme) => challenges.filter((challenge) => challenge.scheme === scheme));
  if (usable[0] !== undefined || challenges.length === 0) return usable[0];
  const schemes = challenges.map(({ scheme }) => scheme).join(', ');
  throw failureAt(
    { host: endpoint.host, doing: 'auth' },
    'unauthenticated',
    `it wants "${schemes}", which is not supported`,
  );
}
