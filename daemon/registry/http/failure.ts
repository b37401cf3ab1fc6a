// What goes wrong between here and a registry, in words: which host, at what, why, and what to do about it. Every error of
// the registry client is made here, so that all of them read alike.

import { ApiError, type ErrorKind, errorKind, messageOf } from '../../../proto/errors';
import { proxyOf } from './proxy-agents';

/** Which request of which host failed. */
export interface Place {
  readonly host: string;
  /** What was being done, with its object: `resolve app:1`. */
  readonly doing: string;
}

/** Why a request failed, where a caller goes on differently. */
export type FailureReason = 'no tls' | 'content' | 'too large' | 'other';

/** An ApiError that knows whether another try may help. */
export class RegistryError extends ApiError {
  readonly canRetry: boolean;
  readonly reason: FailureReason;
  /** What the registry asked to wait before the next try. */
  readonly retryAfterMs: number;

  constructor(
    kind: ErrorKind,
    message: string,
    { canRetry = false, reason = 'other', retryAfterMs = 0, ...options }: RegistryErrorOptions = {},
  ) {
    super(kind, message, options);
    this.canRetry = canRetry;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }
}

interface RegistryErrorOptions extends ErrorOptions {
  readonly canRetry?: boolean;
  readonly reason?: FailureReason;
  readonly retryAfterMs?: number;
}

export function failureAt(place: Place, kind: ErrorKind, cause: string, options?: RegistryErrorOptions): RegistryError {
  return new RegistryError(kind, `registry "${place.host}": ${place.doing}: ${cause}`, options);
}

/** Bytes that are not what was promised: another try may bring the right ones, so may another host. */
export function contentError(place: Place, cause: string): RegistryError {
  return failureAt(place, 'failed precondition', cause, { canRetry: true, reason: 'content' });
}

const STATUS_TEXT: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  416: 'Range Not Satisfiable',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

interface StatusMeaning {
  readonly kind: ErrorKind;
  readonly advice: string;
  readonly canRetry?: boolean;
  readonly reason?: FailureReason;
}

const LATER: StatusMeaning = {
  kind: 'unavailable',
  advice: 'the registry is in trouble, try again later',
  canRetry: true,
};
const STATUS_MEANING: Readonly<Record<number, StatusMeaning>> = {
  401: { kind: 'unauthenticated', advice: 'log in to this host, or check user name and password' },
  403: { kind: 'permission denied', advice: 'ask for access to this repository, or log in as somebody who has it' },
  404: { kind: 'not found', advice: 'check host, repository and tag; a private repository may also look like this' },
  408: LATER,
  413: {
    kind: 'resource exhausted',
    advice: 'it, or a proxy before it, takes no body of this size',
    reason: 'too large',
  },
  429: {
    kind: 'unavailable',
    advice: 'too many requests for this account or address: wait, or log in',
    canRetry: true,
  },
  500: LATER,
  502: LATER,
  503: LATER,
  504: LATER,
};

/** What an answer says that is no success. */
export interface StatusAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** The first bytes of its body. */
  readonly body: Uint8Array;
}

/** The error for an answer. UNKNOWN for statuses without a kind, with the words that clients take the status from. */
export function statusError(place: Place, answer: StatusAnswer, advice?: string): RegistryError {
  const { status } = answer;
  const words = registryWords(answer.body);
  const text = `${status} ${STATUS_TEXT[status] ?? ''}`.trim() + (words === '' ? '' : ` (${words})`);
  const meaning = STATUS_MEANING[status] ?? (status > 500 ? LATER : undefined);
  if (meaning === undefined) {
    return failureAt(place, 'unknown', `${advice ?? 'the registry refused this'}: unexpected status ${text}`);
  }
  const { kind, canRetry = false, reason = 'other' } = meaning;
  const retryAfterMs = retryAfter(answer.headers['retry-after']);
  return failureAt(place, kind, `${text}: ${advice ?? meaning.advice}`, { canRetry, reason, retryAfterMs });
}

const WORDS_MAX = 300;

/** The error document of a registry (distribution-spec, error codes) in short; nothing of a body that is none. */
export function registryWords(body: Uint8Array): string {
  try {
    const { errors, error, error_description: description, details } = JSON.parse(Buffer.from(body).toString('utf8'));
    const list: unknown[] = Array.isArray(errors) ? errors.slice(0, 3) : [];
    const words = list.map((item) => {
      const { code, message } = item as { code?: unknown; message?: unknown };
      return [code, message].filter((part) => typeof part === 'string' && part !== '').join(': ');
    });
    for (const part of [error, description, details]) if (typeof part === 'string') words.push(part);
    return printable(words.filter((word) => word !== '').join('; '));
  } catch {
    return '';
  }
}

/** Text of a foreign host that can be shown: one line, no control characters, not long. */
export function printable(text: string, lengthMax = WORDS_MAX): string {
  const line = text.replace(/[\p{Cc}\p{Cf}\s]+/gu, ' ').trim();
  return line.length > lengthMax ? `${line.slice(0, lengthMax)}...` : line;
}

const RETRY_AFTER_MS_MAX = 60_000;

/** Seconds or a date (RFC 9110, 10.2.3); at most a minute. */
function retryAfter(value: string | undefined): number {
  if (value === undefined) return 0;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), RETRY_AFTER_MS_MAX) : 0;
}

interface NetworkMeaning {
  readonly cause: string;
  readonly kind?: ErrorKind;
  readonly canRetry?: boolean;
  readonly reason?: FailureReason;
}

const BROKEN: NetworkMeaning = { cause: 'tcp: the connection broke', canRetry: true };
const SILENT: NetworkMeaning = {
  cause: 'tcp: it does not answer: check address, port, firewall and proxy',
  canRetry: true,
};
const UNTRUSTED: NetworkMeaning = {
  cause: 'tls: its certificate is not trusted: put the CA into this host\'s directory of hosts.toml ("ca")',
  kind: 'failed precondition',
};
const NO_TLS: NetworkMeaning = {
  cause: 'tls: it does not speak HTTPS: if it is a plain HTTP registry, allow that for this host',
  kind: 'failed precondition',
  reason: 'no tls',
};
const NETWORK_MEANING: Readonly<Record<string, NetworkMeaning>> = {
  ENOTFOUND: { cause: "dns: there is no such host: check the name and this machine's DNS" },
  EAI_AGAIN: { cause: 'dns: no name server answers', canRetry: true },
  ECONNREFUSED: { cause: 'tcp: nothing listens there: check port and service', canRetry: true },
  EHOSTUNREACH: { cause: 'tcp: no route to it', canRetry: true },
  ENETUNREACH: { cause: 'tcp: no route to it', canRetry: true },
  ETIMEDOUT: SILENT,
  ECONNRESET: BROKEN,
  EPIPE: BROKEN,
  ERR_STREAM_PREMATURE_CLOSE: BROKEN,
  ERR_HEADERS_TIMEOUT: { cause: 'http: no answer came in time', canRetry: true },
  HPE_HEADER_OVERFLOW: { cause: 'http: the headers of its answer are too large', kind: 'failed precondition' },
  DEPTH_ZERO_SELF_SIGNED_CERT: UNTRUSTED,
  SELF_SIGNED_CERT_IN_CHAIN: UNTRUSTED,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNTRUSTED,
  CERT_HAS_EXPIRED: {
    cause: "tls: its certificate has expired: renew it, or check this machine's clock",
    kind: 'failed precondition',
  },
  CERT_NOT_YET_VALID: {
    cause: "tls: its certificate is not valid yet: check this machine's clock",
    kind: 'failed precondition',
  },
  ERR_TLS_CERT_ALTNAME_INVALID: { cause: 'tls: its certificate is for other names', kind: 'failed precondition' },
  ERR_SSL_WRONG_VERSION_NUMBER: NO_TLS,
  ERR_SSL_PACKET_LENGTH_TOO_LONG: NO_TLS,
  EPROTO: NO_TLS,
};

/** The error for a request that got no answer, or whose answer broke off. */
export function networkError(place: Place, error: unknown): RegistryError {
  if (error instanceof RegistryError) return error;
  const known = errorKind(error);
  if (known !== undefined) return failureAt(place, known, messageOf(error), { cause: error });
  const code = codeOf(error);
  const meaning = NETWORK_MEANING[code] ?? otherMeaning(code, messageOf(error));
  const { cause, kind = 'unavailable', canRetry = false, reason = 'other' } = meaning;
  const detail = code === '' ? printable(messageOf(error)) : code;
  const proxy = proxyOf(error);
  const who = proxy === undefined || code === 'ERR_PROXY_TUNNEL' ? '' : `proxy "${proxy}": `;
  return failureAt(place, kind, `${who}${cause} (${detail})`, {
    cause: error,
    canRetry,
    // What the proxy does not speak says nothing of the host.
    reason: who === '' ? reason : 'other',
  });
}

function otherMeaning(code: string, message: string): NetworkMeaning {
  if (code === 'ERR_PROXY_TUNNEL') return { cause: `proxy: it refuses to connect: ${printable(message)}` };
  if (code.startsWith('HPE_')) return { cause: 'http: its answer is not HTTP', kind: 'failed precondition' };
  if (/^(ERR_SSL_|ERR_TLS_|CERT_|CRL_)/.test(code))
    return { cause: `tls: ${printable(message)}`, kind: 'failed precondition' };
  return { cause: printable(message), kind: 'unknown' };
}

/** The code of an error or of what caused it. */
function codeOf(error: unknown): string {
  for (let at = error, depth = 0; typeof at === 'object' && at !== null && depth < 4; depth += 1) {
    const { code, cause } = at as { code?: unknown; cause?: unknown };
    if (typeof code === 'string') return code;
    at = cause;
  }
  return '';
}
