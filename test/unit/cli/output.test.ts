import { printable } from '../../../cli/failure';
import { age, bytes, formatOf, isoTime, labelText, renderTable, toJson } from '../../../cli/output';
import { GO_ZERO_TIME } from '../../../proto/time';

test('renderTable() aligns columns without trailing blanks', () => {
  const rows = [
    { name: 'short', kind: 'a' },
    { name: 'much-longer', kind: '' },
  ];

  const text = renderTable(
    [
      ['NAME', (row) => row.name],
      ['KIND', (row) => row.kind],
    ],
    rows,
  );

  expect(text).toBe('NAME         KIND\nshort        a\nmuch-longer\n');
});

test('renderTable() shows only headings when there are no rows', () => {
  expect(renderTable([['ID', String]], [])).toBe('ID\n');
});

test('toJson() writes numbers, times, documents and bytes readably', () => {
  const value = {
    size: 5n,
    huge: 2n ** 63n,
    at: { seconds: 1n, nanos: 500_000_000 },
    never: GO_ZERO_TIME,
    spec: { typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Spec', value: Buffer.from('{"a":1}') },
    other: { typeUrl: 'x.Y', value: Buffer.from('hi') },
    absent: undefined,
    labels: Object.assign(Object.create(null), { k: 'v' }),
  };

  expect(JSON.parse(toJson(value))).toEqual({
    size: 5,
    huge: '9223372036854775808',
    at: '1970-01-01T00:00:01.5Z',
    never: null,
    spec: { typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Spec', value: { a: 1 } },
    other: { typeUrl: 'x.Y', value: 'aGk=' },
    labels: { k: 'v' },
  });
});

test('isoTime() keeps nanoseconds and leaves out zeros', () => {
  expect(isoTime({ seconds: 0n, nanos: 123_456_789 })).toBe('1970-01-01T00:00:00.123456789Z');
  expect(isoTime({ seconds: 60n, nanos: 0 })).toBe('1970-01-01T00:01:00Z');
  expect(isoTime(undefined)).toBeNull();
});

test('age() uses the largest unit that fits', () => {
  const now = Date.UTC(2026, 0, 2);
  const before = (seconds: number) => ({ seconds: BigInt(now / 1000 - seconds), nanos: 0 });

  expect(age(before(0), now)).toBe('now');
  expect(age(before(1), now)).toBe('1 second ago');
  expect(age(before(7200), now)).toBe('2 hours ago');
  expect(age(before(86_400 * 40), now)).toBe('1 month ago');
  expect(age(undefined, now)).toBe('-');
});

test('bytes() uses binary units', () => {
  expect([bytes(0), bytes(1023), bytes(1536n), bytes(3 * 2 ** 40)]).toEqual(['0 B', '1023 B', '1.5 KiB', '3.0 TiB']);
});

test('labelText() sorts by key', () => {
  expect(labelText({ b: '2', a: '1' })).toBe('a=1,b=2');
  expect(labelText({})).toBe('-');
});

test('printable() shows control characters instead of sending them', () => {
  expect(printable('a\x1b[31mred\x9b')).toBe('a\\x1b[31mred\\x9b');
});

test('formatOf() refuses unknown formats', () => {
  expect(formatOf({})).toBe('table');
  expect(() => formatOf({ format: 'xml' })).toThrow('unknown format "xml"');
});
