// The gc.expire label of leases and images as a column. Parsed here, strictly, because SQLite's own date functions
// would take a bare number for a date and so expire what must stay.

export const EXPIRE_LABEL = 'containerd.io/gc.expire';

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:Z|([+-])(\d\d):(\d\d))$/;
const MINUTE_MS = 60_000;
const NS_PER_MS = 1_000_000n;
/** What a column holds: nanoseconds until the year 2262. */
const INT64_MAX = 2n ** 63n - 1n;

/** Nanoseconds since 1970, at least 1; 0 when there is no such label or it is no RFC 3339 time: then nothing expires. */
export function expiryOf(labels: Readonly<Record<string, string>>): bigint {
  const ns = parseRfc3339(labels[EXPIRE_LABEL] ?? '');
  if (ns === undefined) return 0n;
  if (ns <= 0n) return 1n;
  return ns < INT64_MAX ? ns : INT64_MAX;
}

/** Nanoseconds since 1970, or undefined when the text is not an RFC 3339 time. */
export function parseRfc3339(text: string): bigint | undefined {
  const match = RFC3339.exec(text);
  if (match === null) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number);
  const local = new Date(0);
  local.setUTCFullYear(year, month - 1, day);
  local.setUTCHours(hour, minute, second);
  const isReal =
    local.getUTCMonth() === month - 1 && local.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  if (!isReal) return undefined;
  const fraction = BigInt((match[7] ?? '').slice(0, 9).padEnd(9, '0'));
  const offsetMs = (Number(match[9] ?? 0) * 60 + Number(match[10] ?? 0)) * MINUTE_MS * (match[8] === '-' ? -1 : 1);
  return BigInt(local.getTime() - offsetMs) * NS_PER_MS + fraction;
}
