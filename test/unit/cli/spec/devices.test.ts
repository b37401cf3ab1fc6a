import { deviceNumbers, hostDevices, parseDevice } from '../../../../cli/spec/devices';

test('deviceNumbers() undoes makedev()', () => {
  expect(deviceNumbers(0x103)).toEqual({ major: 1, minor: 3 });
  expect(deviceNumbers(0x12300045)).toEqual({ major: 0, minor: 0x12345 });
  expect(deviceNumbers(0x10fd02)).toEqual({ major: 0xfd, minor: 0x102 });
});

test('parseDevice() takes path, path inside, and access', () => {
  const { device, rule } = parseDevice('/dev/null:/dev/nothing:r');

  expect(device).toMatchObject({ path: '/dev/nothing', type: 'c', major: 1, minor: 3 });
  expect(rule).toEqual({ allow: true, type: 'c', major: 1, minor: 3, access: 'r' });
  expect(parseDevice('/dev/zero:rw').rule.access).toBe('rw');
  expect(() => parseDevice('/etc/passwd')).toThrow('is not a device');
  expect(() => parseDevice('/dev/nope')).toThrow('does not exist');
  expect(() => parseDevice('/dev/null:/dev/x:q')).toThrow('access');
});

test('hostDevices() leaves terminals out', () => {
  const paths = hostDevices().map(({ path }) => path);

  expect(paths).toContain('/dev/null');
  expect(paths.filter((path) => path.startsWith('/dev/pts'))).toEqual([]);
});
