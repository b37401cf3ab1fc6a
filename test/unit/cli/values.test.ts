import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  mergeEnvironment,
  parseDuration,
  parseEnvironment,
  parseInteger,
  parseLabels,
  parseSignal,
  parseSize,
  randomId,
} from '../../../cli/values';
import { checkIdentifier } from '../../../proto/ids';

describe('parseDuration()', () => {
  test.each([
    ['10', 10_000],
    ['1.5s', 1500],
    ['500ms', 500],
    ['1m30s', 90_000],
    ['2h', 7_200_000],
    ['0', 0],
  ])('takes %s', (text, expected) => {
    expect(parseDuration(text)).toBe(expected);
  });

  test.each(['', 'soon', '1x', '5s later', '-1s'])('refuses "%s"', (text) => {
    expect(() => parseDuration(text)).toThrow(/is not a duration/);
  });
});

describe('parseSize()', () => {
  test.each([
    ['512m', 512 * 2 ** 20],
    ['1g', 2 ** 30],
    ['64KiB', 65_536],
    ['1.5MB', 1.5 * 2 ** 20],
    ['4096', 4096],
    ['7b', 7],
  ])('takes %s', (text, expected) => {
    expect(parseSize(text)).toBe(expected);
  });

  test.each(['', 'lots', '-5m', '1q', '99999999999t'])('refuses "%s"', (text) => {
    expect(() => parseSize(text)).toThrow(/size/);
  });
});

test('parseInteger() names the option and its range', () => {
  expect(parseInteger('--tail', '3')).toBe(3);
  expect(() => parseInteger('--tail', '-1')).toThrow('--tail must be a whole number from 0');
  expect(() => parseInteger('--tail', '1.5')).toThrow('--tail');
});

test('parseLabels() keeps equals signs in the value and takes a bare key as empty', () => {
  expect(parseLabels(['a=b=c', 'bare', 'x='])).toEqual({ a: 'b=c', bare: '', x: '' });
  expect(() => parseLabels(['=v'])).toThrow('is not a label');
});

describe('parseSignal()', () => {
  test.each([
    ['TERM', 15],
    ['sigkill', 9],
    ['9', 9],
    ['RTMIN+3', 37],
    ['SIGRTMAX-1', 63],
  ])('takes %s', (text, expected) => {
    expect(parseSignal(text)).toBe(expected);
  });

  test.each(['0', '65', 'NOPE', 'RTMIN+99'])('refuses %s', (text) => {
    expect(() => parseSignal(text)).toThrow(/signal/);
  });
});

test('parseEnvironment() reads files first, skips comments, and inherits bare names that are set', () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-env-'));
  const file = join(directory, 'env');
  writeFileSync(file, '# comment\nA=1\n\n  B=two words\r\nUNSET_NAME_OF_THIS_TEST\n');
  process.env['SET_NAME_OF_THIS_TEST'] = 'here';

  const result = parseEnvironment(['C=3', 'SET_NAME_OF_THIS_TEST'], [file]);

  expect(result).toEqual(['A=1', 'B=two words', 'C=3', 'SET_NAME_OF_THIS_TEST=here']);
  expect(() => parseEnvironment(['=x'], [])).toThrow('is not an environment variable');
  delete process.env['SET_NAME_OF_THIS_TEST'];
  rmSync(directory, { recursive: true });
});

test('mergeEnvironment() replaces in place and appends what is new', () => {
  expect(mergeEnvironment(['A=1', 'B=2'], ['B=3', 'C=4'])).toEqual(['A=1', 'B=3', 'C=4']);
});

test('randomId() makes identifiers', () => {
  const ids = Array.from({ length: 50 }, () => randomId());

  for (const id of ids) expect(checkIdentifier(id)).toMatch(/^[a-f][0-9a-f]{11}$/);
  expect(new Set(ids).size).toBe(50);
});
