// The conditions of gc.cond labels: COND[,COND], any of which makes the reference count. The only condition there is
// compares how long ago a snapshot was used, as its own label says, with a duration: usedat<24h or usedat>24h.

import { parseRfc3339 } from '../metadata/expiry';

/** The label of a snapshot that conditions look at: an RFC 3339 time. */
export const USED_AT_LABEL = 'containerd.io/gc.cond.value-usedat';

const CONDITION = /^usedat([<>])(.+)$/;
const DURATION = /^([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)$/;
const PART = /(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g;
const UNIT_NS: Record<string, number> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  μs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

/** Whether a reference with these conditions counts, given the used-at label of the snapshot it names. */
export function isConditionMet(conditions: string, usedAt: string | undefined, nowNs: bigint): boolean {
  const usedAtNs = parseRfc3339(usedAt ?? '');
  if (usedAtNs === undefined) return false;
  const age = Number(nowNs - usedAtNs);
  return conditions.split(',').some((condition) => {
    const [, operator, text = ''] = CONDITION.exec(condition) ?? [];
    const durationNs = parseDuration(text);
    if (durationNs === undefined) return false;
    return operator === '<' ? age < durationNs : age > durationNs;
  });
}

/** Nanoseconds of a duration in Go's notation (1h30m, 1.5s), or undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  const match = DURATION.exec(text);
  if (match === null) return undefined;
  let total = 0;
  for (const [, amount, unit] of (match[2] ?? '').matchAll(PART)) total += Number(amount) * (UNIT_NS[unit ?? ''] ?? 0);
  return match[1] === '-' ? -total : total;
}
