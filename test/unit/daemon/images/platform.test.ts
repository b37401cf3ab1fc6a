// Which platforms are the same, which run where, and which is best.

import { exactly, normalize, platformText, runningOn } from '../../../../daemon/images/platform';

const parse = (text: string) => {
  const [os = '', architecture = '', variant = ''] = text.split('/');
  return { os, architecture, variant };
};

test.each([
  ['linux/x86_64', 'linux/amd64'],
  ['linux/amd64/v1', 'linux/amd64'],
  ['linux/aarch64', 'linux/arm64'],
  ['linux/arm64/v8', 'linux/arm64'],
  ['linux/arm64/8', 'linux/arm64'],
  ['linux/arm', 'linux/arm/v7'],
  ['linux/armhf', 'linux/arm/v7'],
  ['linux/armel', 'linux/arm/v6'],
  ['Linux/AMD64', 'linux/amd64'],
  ['linux/i386', 'linux/386'],
  ['linux/riscv64', 'linux/riscv64'],
])('normalize() makes of %s %s', (given, expected) => {
  expect(platformText(normalize(parse(given)))).toBe(expected);
});

test.each([
  ['linux/amd64', ['linux/amd64', 'linux/386'], ['linux/amd64/v2', 'linux/arm64', 'windows/amd64']],
  ['linux/amd64/v3', ['linux/amd64/v3', 'linux/amd64/v2', 'linux/amd64', 'linux/386'], ['linux/amd64/v4']],
  ['linux/arm/v7', ['linux/arm', 'linux/arm/v6', 'linux/arm/v5'], ['linux/arm/v8', 'linux/arm64']],
  [
    'linux/arm64',
    ['linux/arm64/v8', 'linux/arm/v8', 'linux/arm/v7', 'linux/arm/v6'],
    ['linux/arm64/v9', 'linux/amd64'],
  ],
  ['linux/arm64/v9', ['linux/arm64/v9', 'linux/arm64/v8.5', 'linux/arm64', 'linux/arm/v7'], ['linux/arm64/v8.6']],
  ['linux/riscv64', ['linux/riscv64'], ['linux/amd64']],
])('on %s run %j, best first, and not %j', (machine, taken, refused) => {
  const choice = runningOn(parse(machine));

  const ranks = taken.map((text) => choice.rank(parse(text)));

  expect(ranks).toEqual([...ranks].sort((a, b) => a - b));
  expect(ranks.every(Number.isFinite)).toBe(true);
  expect(refused.filter((text) => choice.matches(parse(text)))).toEqual([]);
});

test('exactly() takes just what is named, in that order', () => {
  const choice = exactly([parse('linux/arm64'), parse('linux/amd64')]);

  expect(['linux/amd64', 'linux/arm64/v8', 'linux/386'].map((text) => choice.rank(parse(text)))).toEqual([
    1,
    0,
    Number.POSITIVE_INFINITY,
  ]);
});
