import { needsFiles, resolveGroups, resolveUser } from '../../../../cli/spec/user';

const FILES: Record<string, string> = {
  '/etc/passwd': 'root:x:0:0::/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\nbroken line\n:x:5:5\n',
  '/etc/group': 'root:x:0:\nalice:x:1001:\nstaff:x:50:bob,alice\nwheel:x:10:root\n',
};
const readFile = (path: string) => FILES[path];

test.each([
  ['', { uid: 0, gid: 0, additionalGids: [0, 10] }],
  ['alice', { uid: 1000, gid: 1001, additionalGids: [1001, 50] }],
  ['1000', { uid: 1000, gid: 1001, additionalGids: [1001, 50] }],
  ['alice:staff', { uid: 1000, gid: 50, additionalGids: [50] }],
  ['alice:', { uid: 1000, gid: 1001, additionalGids: [1001, 50] }],
  ['4242', { uid: 4242, gid: 0, additionalGids: [0] }],
  ['7:8', { uid: 7, gid: 8, additionalGids: [8] }],
])('resolveUser() resolves "%s"', (text, expected) => {
  expect(resolveUser(text, readFile)).toEqual(expected);
});

test('resolveUser() names what it does not find', () => {
  expect(() => resolveUser('carol', readFile)).toThrow('user "carol" is not in the image');
  expect(() => resolveUser('alice:none', readFile)).toThrow('group "none" is not in the image');
});

test.each(['2147483648', '4294967296', '1:4294967296'])('resolveUser() refuses %s, which would wrap to 0', (text) => {
  expect(() => resolveUser(text, readFile)).toThrow('out of range');
});

test('resolveUser() ignores ids out of range in the files', () => {
  expect(() => resolveUser('evil', () => 'evil:x:4294967296:0::/:\n')).toThrow('not in the image');
});

test('needsFiles() is false only for two numbers', () => {
  expect([needsFiles('1:2'), needsFiles('1'), needsFiles('a:2'), needsFiles('')]).toEqual([false, true, true, true]);
});

test('resolveGroups() takes names and numbers', () => {
  expect(resolveGroups(['staff', '99'], readFile)).toEqual([50, 99]);
});
