import { annotatedProperties } from '../../../../runtime-native/cgroup/systemd-annotations';

const PREFIX = 'org.systemd.property.';

test.each<[string, string, string, unknown]>([
  ['CollectMode', "'inactive-or-failed'", 's', 'inactive-or-failed'],
  ['TimeoutStopUSec', 'uint64 123456789', 't', 123456789n],
  ['SendSIGHUP', 'true', 'b', true],
  ['OOMScoreAdjust', '-5', 'i', -5],
  ['After', '[\'a.service\', "b\\"c"]', 'as', ['a.service', 'b"c']],
  ['Wants', '@as []', 'as', []],
  ['AllowedCPUs', '[byte 1, 0x2]', 'ay', [1, 2]],
  [
    'DeviceAllow',
    "@a(ss) [('/dev/null', 'rw'), ('/dev/zero', 'r')]",
    'a(ss)',
    [
      ['/dev/null', 'rw'],
      ['/dev/zero', 'r'],
    ],
  ],
  ['Weight', '1.5', 'd', 1.5],
])('annotatedProperties() of %s=%s', (name, text, type, value) => {
  expect(annotatedProperties({ [PREFIX + name]: text, other: 'x' })).toEqual([[name, { type, value }]]);
});

test('annotatedProperties() gives seconds as microseconds', () => {
  const properties = annotatedProperties({ [`${PREFIX}TimeoutStopSec`]: '1.5' });

  expect(properties).toEqual([['TimeoutStopUSec', { type: 't', value: 1_500_000n }]]);
});

test.each([
  ['timeoutSec', '1', 'name incorrect'],
  ['After', "['a'", 'value parse error'],
  ['After', '[]', 'an empty list needs a type'],
  ['After', "'a' b", 'unexpected'],
  ['TimeoutSec', "'a'", 'is no number'],
])('annotatedProperties() refuses %s=%s', (name, text, message) => {
  expect(() => annotatedProperties({ [PREFIX + name]: text })).toThrow(message);
});
