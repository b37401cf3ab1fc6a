// Times: bigint nanoseconds since 1970 inside, google.protobuf.Timestamp on the wire.

import type { Timestamp } from './generated/google.protobuf';

/** Go's zero time, 0001-01-01: what Go clients send and expect for "no time". */
export const GO_ZERO_TIME: Timestamp = { seconds: -62135596800n, nanos: 0 };

const SECOND = 1_000_000_000n;

/** How far the steady clock may be from the time of day before it is set again. */
const DRIFT_NS_MAX = 2_000_000n;
let anchor = readClocks();

/** The time of day with the steps of the steady clock: two calls never go backwards, unless the time of day was set. */
export function nowNs(): bigint {
  const clocks = readClocks();
  const now = anchor.wallNs + (clocks.steadyNs - anchor.steadyNs);
  const drift = now - clocks.wallNs;
  if (drift < DRIFT_NS_MAX && drift > -DRIFT_NS_MAX) return now;
  anchor = clocks;
  return clocks.wallNs;
}

function readClocks(): { wallNs: bigint; steadyNs: bigint } {
  return { wallNs: BigInt(Date.now()) * 1_000_000n, steadyNs: process.hrtime.bigint() };
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
