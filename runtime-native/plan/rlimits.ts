// Resource limits by name (getrlimit(2)).

import type { Rlimit } from '../spec';
import type { Operation } from './operations';

export const RLIMITS: Readonly<Record<string, number>> = {
  RLIMIT_CPU: 0,
  RLIMIT_FSIZE: 1,
  RLIMIT_DATA: 2,
  RLIMIT_STACK: 3,
  RLIMIT_CORE: 4,
  RLIMIT_RSS: 5,
  RLIMIT_NPROC: 6,
  RLIMIT_NOFILE: 7,
  RLIMIT_MEMLOCK: 8,
  RLIMIT_AS: 9,
  RLIMIT_LOCKS: 10,
  RLIMIT_SIGPENDING: 11,
  RLIMIT_MSGQUEUE: 12,
  RLIMIT_NICE: 13,
  RLIMIT_RTPRIO: 14,
  RLIMIT_RTTIME: 15,
};
const INFINITY = (1n << 64n) - 1n;

export function compileRlimits(rlimits: readonly Rlimit[]): Operation[] {
  return rlimits.map(({ type, soft, hard }) => ({
    op: 'rlimit',
    type: RLIMITS[type] ?? 0,
    soft: limit(soft),
    hard: limit(hard),
  }));
}

/** "Unlimited" is 2^64 - 1, which JSON.parse has rounded up. */
function limit(value: number): string {
  const exact = BigInt(value);
  return String(exact < 0n || exact > INFINITY ? INFINITY : exact);
}
