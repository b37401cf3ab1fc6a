// Names of entries in archives that nobody trusts.

import { entryName } from '../../../../daemon/images/archive-reader';

test.each([
  ['./blobs/sha256/ab', 'blobs/sha256/ab'],
  ['../../etc/passwd', 'etc/passwd'],
  ['/a/../../b', 'b'],
  ['layer/../', ''],
  ['a//b/./c', 'a/b/c'],
])('entryName(%s) stays in the archive as %s', (given, name) => {
  expect(entryName(given)).toBe(name);
});
