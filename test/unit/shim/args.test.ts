// The command lines that containerd and gantryd use (shim v2 protocol).

import { parseArgs } from '../../../shim/args';

test('parseArgs() reads what containerd passes to start', () => {
  const argv = '-namespace moby -address /run/c.sock -publish-binary /usr/bin/containerd -id abc -debug start'.split(
    ' ',
  );

  expect(parseArgs(argv)).toEqual({
    action: 'start',
    namespace: 'moby',
    id: 'abc',
    address: '/run/c.sock',
    publishBinary: '/usr/bin/containerd',
    bundle: '',
    socket: '',
    debug: true,
  });
});

test('parseArgs() reads delete, serve, -info and -v, with one dash or two and with "="', () => {
  expect(parseArgs(['--namespace=a', '-id=b', '-bundle', '/b', 'delete'])).toMatchObject({
    action: 'delete',
    bundle: '/b',
  });
  expect(parseArgs(['-namespace', 'a', '-id', 'b', '-socket', '/s'])).toMatchObject({ action: 'serve', socket: '/s' });
  expect(parseArgs(['-info'])).toMatchObject({ action: 'info' });
  expect(parseArgs(['-v'])).toMatchObject({ action: 'version' });
});

test('parseArgs() refuses what is missing or unknown', () => {
  expect(() => parseArgs(['-id', 'b', 'start'])).toThrow('shim namespace cannot be empty');
  expect(() => parseArgs(['-namespace', 'a', 'start'])).toThrow('shim id cannot be empty');
  expect(() => parseArgs(['-nope', 'start'])).toThrow('flag provided but not defined: -nope');
  expect(() => parseArgs(['-namespace'])).toThrow('flag needs an argument: -namespace');
  expect(() => parseArgs(['-namespace', 'a', '-id', 'b', 'stop'])).toThrow('unknown action "stop"');
});
