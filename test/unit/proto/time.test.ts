// Times on the wire and the clock behind them.

import { fromTimestamp, GO_ZERO_TIME, nowNs, toTimestamp } from '../../../proto/time';

afterEach(() => jest.restoreAllMocks());

test('nowNs() never goes backwards and stays near the time of day', () => {
  let last = nowNs();
  for (let count = 0; count < 200_000; count += 1) {
    const now = nowNs();
    if (now <= last) throw new Error(`${now} after ${last}`);
    last = now;
  }

  expect(Math.abs(Number(last / 1_000_000n) - Date.now())).toBeLessThan(1000);
});

test('nowNs() goes on when the time of day jitters, and follows it when it is set back', () => {
  const before = nowNs();
  const clock = jest.spyOn(Date, 'now');
  clock.mockReturnValue(Number(before / 1_000_000n) - 500);
  const jittered = nowNs();
  clock.mockReturnValue(Number(before / 1_000_000n) - 3_600_000);
  const setBack = nowNs();

  expect(jittered).toBeGreaterThan(before);
  expect(setBack).toBeLessThan(before - 3_599_000_000_000n);
});

test.each([0n, 1n, 1_700_000_000_123_456_789n, -1n, -1_500_000_000n])('toTimestamp() and back: %s', (ns) => {
  const time = toTimestamp(ns);

  expect(time.nanos).toBeGreaterThanOrEqual(0);
  expect(time.seconds * 1_000_000_000n + BigInt(time.nanos)).toBe(ns);
  expect(fromTimestamp(time)).toBe(ns);
});

test('fromTimestamp() reads no time and the zero time of Go as 0', () => {
  expect([fromTimestamp(undefined), fromTimestamp(GO_ZERO_TIME)]).toEqual([0n, 0n]);
});
