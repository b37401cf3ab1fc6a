// Times: bigint nanoseconds since 1970 inside, google.protobuf.Timestamp on the wire.

import type { Timestamp } from './generated/google.protobuf';

/** Go's zero time, 0001-01-01: what Go clients send and expect for "no time". */
export const GO_ZERO_TIME: Timestamp = { seconds: -62135596800n, nanos: 0 };

const SECOND = 1_000_000_000n;

/** How far the time of day must go back to count as set by somebody, not as two clocks that were read at different times. */
const STEP_BACK_NS = 1_000_000_000n;

let latest = 0n;

/** The time of day, never twice the same and never going backwards, unless the time of day was set back. */
export function nowNs(): bigint {
  const now = BigInt(Date.now()) * 1_000_000n + (process.hrtime.bigint() % 1_000_000n);
  latest = now > latest || now < latest - STEP_BACK_NS ? now : latest + 1n;
  return latest;
}

export function toTimestamp(ns: bigint): Timestamp {
  const nanos = ((ns % SECOND) + SECOND) % SECOND;
  return { seconds: (ns - nanos) / SECOND, nanos: Number(nanos) };
}

/** Zero (no time) for an absent timestamp and for Go's zero time. */
export function fromTimestamp(time: Timestamp | undefined): bigint {
  if (time === undefined || time.seconds === GO_ZERO_TIME.seconds) return 0n;
  return time.seconds * SECOND + BigInt(time.nanos);
}
