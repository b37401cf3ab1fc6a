// Names of images: full, short, and with the prefix that an import gives.

import { familiarName, objectOf, prefixedName } from '../../../../daemon/images/reference';

test.each([
  ['docker.io/library/busybox:1', 'busybox:1'],
  ['docker.io/me/app', 'me/app:latest'],
  ['host:5000/app:2', 'host:5000/app:2'],
  ['library/app:2', 'library/app:2'],
  ['test/app@sha256:0123', 'test/app@sha256:0123'],
])('familiarName(%s) is %s', (name, short) => {
  expect(familiarName(name)).toBe(short);
});

test.each([
  ['docker.io/library/busybox:latest', 'latest'],
  ['host:5000/app', ''],
  ['host:5000/app:2', '2'],
  ['test/app@sha256:0123', '@sha256:0123'],
  ['plain', 'plain'],
])('objectOf(%s) is "%s"', (name, object) => {
  expect(objectOf(name)).toBe(object);
});

test.each([
  ['latest', 'import', false, 'import:latest'],
  ['host/app:1', 'import', false, 'host/app:1'],
  ['host/app:1', 'import', true, ''],
  ['host/app:1', 'host/app', true, 'host/app:1'],
  ['host/application:1', 'host/app', true, ''],
  ['docker.io/library/app:1', 'app', true, 'docker.io/library/app:1'],
  ['latest', '', true, ''],
])('prefixedName(%s, %s, %s) is "%s"', (ref, prefix, onlyPrefixed, name) => {
  expect(prefixedName(ref, prefix, onlyPrefixed)).toBe(name);
});
