import { normalizeReference, parseReference } from '../../../../daemon/registry/reference';
import { errorKind } from '../../../../proto/errors';

const DIGEST = `sha256:${'a'.repeat(64)}`;

function failure(body: () => unknown): unknown {
  try {
    body();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

test.each([
  ['registry.test/app', ['registry.test', 'app', undefined, undefined]],
  ['registry.test/app:1', ['registry.test', 'app', '1', undefined]],
  ['registry.test:5000/a/b/c:v1.2', ['registry.test:5000', 'a/b/c', 'v1.2', undefined]],
  [`registry.test/app@${DIGEST}`, ['registry.test', 'app', undefined, DIGEST]],
  [`registry.test/app:1@${DIGEST}`, ['registry.test', 'app', '1', DIGEST]],
  ['[::1]:5000/app:1', ['[::1]:5000', 'app', '1', undefined]],
  ['localhost/a__b/c--d:_x', ['localhost', 'a__b/c--d', '_x', undefined]],
])('parseReference() splits %s', (text, [host, repository, tag, digest]) => {
  expect(parseReference(text)).toEqual({ host, repository, tag, digest, text });
});

test.each([
  ['busybox', 'no host'],
  ['', 'no host'],
  ['registry.test/', 'repository ""'],
  ['registry.test/App', 'repository "App"'],
  ['registry.test/a//b', 'repository "a//b"'],
  ['registry.test/../etc', 'repository "../etc"'],
  ['registry.test/app:', 'tag ""'],
  ['registry.test/app:a/b', 'tag "a/b"'],
  [`registry.test/app:${'x'.repeat(129)}`, 'tag'],
  ['registry.test/app@sha256:abc', 'digest "sha256:abc"'],
  ['registry.test/app@', 'digest ""'],
  ['user@registry.test/app', 'digest'],
  ['registry.test:99999/app', 'host "registry.test:99999"'],
  ['registry test/app', 'host'],
  [`registry.test/${'a'.repeat(300)}`, 'longer than 255'],
  [`registry.test/${'a'.repeat(5000)}`, 'too long'],
])('parseReference() refuses "%s"', (text, words) => {
  const error = failure(() => parseReference(text));

  expect(errorKind(error)).toBe('invalid argument');
  expect((error as Error).message).toContain(words);
});

test.each([
  ['busybox', 'docker.io/library/busybox:latest'],
  ['busybox:1.36', 'docker.io/library/busybox:1.36'],
  ['busybox:1.36/x', undefined],
  [`busybox@${DIGEST}`, `docker.io/library/busybox@${DIGEST}`],
  ['me/app', 'docker.io/me/app:latest'],
  ['docker.io/busybox', 'docker.io/library/busybox:latest'],
  ['index.docker.io/busybox', 'docker.io/library/busybox:latest'],
  ['localhost/app', 'localhost/app:latest'],
  ['localhost:5000/app', 'localhost:5000/app:latest'],
  ['registry.test/app:2', 'registry.test/app:2'],
  ['HOST/app', 'HOST/app:latest'],
])('normalizeReference() completes %s', (text, wanted) => {
  if (wanted === undefined) expect(errorKind(failure(() => normalizeReference(text)))).toBe('invalid argument');
  else expect(normalizeReference(text).text).toBe(wanted);
});
