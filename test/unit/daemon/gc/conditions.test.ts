import { isConditionMet, parseDuration } from '../../../../daemon/gc/conditions';
import { expiryOf, parseRfc3339 } from '../../../../daemon/metadata/expiry';

const HOUR_NS = 3_600_000_000_000;
const at = (text: string) => BigInt(Date.parse(text)) * 1_000_000n;

describe('parseDuration()', () => {
  it.each([
    ['24h', 24 * HOUR_NS],
    ['1h30m', 1.5 * HOUR_NS],
    ['1.5h', 1.5 * HOUR_NS],
    ['-2m', -HOUR_NS / 30],
    ['300ms', 3e8],
    ['0', 0],
    ['.5s', 5e8],
  ])('reads %s', (text, ns) => expect(parseDuration(text)).toBe(ns));
  it.each(['', '24', 'h', '1d', '1h ', '1 h'])('refuses "%s"', (text) => expect(parseDuration(text)).toBeUndefined());
});

describe('isConditionMet()', () => {
  const now = at('2026-01-02T00:00:00Z');
  it.each([
    ['usedat<24h', '2026-01-01T12:00:00Z', true],
    ['usedat<24h', '2025-12-31T00:00:00Z', false],
    ['usedat>24h', '2025-12-31T00:00:00Z', true],
    ['usedat<1h,usedat>20h', '2026-01-01T00:00:00Z', true],
    ['usedat=24h', '2026-01-01T00:00:00Z', false],
    ['other<24h', '2026-01-01T12:00:00Z', false],
    ['usedat<soon', '2026-01-01T12:00:00Z', false],
    ['usedat<24h', 'yesterday', false],
    ['usedat<24h', undefined, false],
  ])('%s of %s is %s', (condition, usedAt, expected) => {
    expect(isConditionMet(condition, usedAt, now)).toBe(expected);
  });
});

describe('parseRfc3339()', () => {
  it.each([
    ['2026-03-04T05:06:07Z', at('2026-03-04T05:06:07Z')],
    ['2026-03-04T05:06:07.123456789Z', at('2026-03-04T05:06:07Z') + 123456789n],
    ['2026-03-04T05:06:07+02:30', at('2026-03-04T02:36:07Z')],
    ['2026-03-04T05:06:07-01:00', at('2026-03-04T06:06:07Z')],
    ['2024-02-29T00:00:00Z', at('2024-02-29T00:00:00Z')],
  ])('reads %s', (text, ns) => expect(parseRfc3339(text)).toBe(ns));
  it.each([
    '',
    '5',
    '2026-03-04',
    '2026-03-04 05:06:07Z',
    '2026-02-30T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-03-04T25:00:00Z',
    '2026-03-04T05:06:07',
  ])('refuses "%s"', (text) => expect(parseRfc3339(text)).toBeUndefined());
});

describe('expiryOf()', () => {
  const expiry = (text: string) => expiryOf({ 'containerd.io/gc.expire': text });
  it('is 0 for never', () => {
    expect(expiryOf({})).toBe(0n);
    expect(expiry('never')).toBe(0n);
  });
  it('stays within what a column holds', () => {
    expect(expiry('0001-01-01T00:00:00Z')).toBe(1n);
    expect(expiry('1970-01-01T00:00:00Z')).toBe(1n);
    expect(expiry('9999-01-01T00:00:00Z')).toBe(2n ** 63n - 1n);
  });
});
