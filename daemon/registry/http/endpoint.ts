// One host that is asked for a repository, as hosts.toml or the defaults make it. Plain data: it goes to the thread that
// speaks HTTP.

export type Capability = 'pull' | 'resolve' | 'push';

export interface TlsSettings {
  /** PEM; trusted besides the machine's own. */
  readonly authorities: readonly string[];
  /** PEM. */
  readonly clients: readonly { readonly certificate: string; readonly key: string }[];
  readonly skipVerify: boolean;
}

export interface Endpoint {
  /** With port; what it is called in messages and asked credentials for. */
  readonly host: string;
  /** Where the API is, without a slash at the end: `https://registry.test:5000/v2`. */
  readonly url: string;
  readonly capabilities: readonly Capability[];
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: TlsSettings;
  readonly connectTimeoutMs: number;
  /** Of a mirror: the host that it stands in for; sent as `ns`. */
  readonly mirrored: string | undefined;
}

export const NO_TLS_SETTINGS: TlsSettings = { authorities: [], clients: [], skipVerify: false };

/** The URL of something below the API, with the host that a mirror stands in for. */
export function urlAt({ url, mirrored }: Endpoint, path: string, query: Readonly<Record<string, string>> = {}): string {
  const search = new URLSearchParams(query);
  if (mirrored !== undefined) search.set('ns', mirrored);
  return search.size === 0 ? `${url}/${path}` : `${url}/${path}?${search}`;
}
