import { mergedScopes } from '../../../../daemon/registry/auth/authorizer';
import { parseChallenges } from '../../../../daemon/registry/auth/challenge';

test.each([
  ['Basic realm="x"', [{ scheme: 'basic', parameters: { realm: 'x' } }]],
  [
    'Bearer realm="https://auth.test/token",service="a, \\"b\\"",scope="repository:app:pull,push"',
    [
      {
        scheme: 'bearer',
        parameters: { realm: 'https://auth.test/token', service: 'a, "b"', scope: 'repository:app:pull,push' },
      },
    ],
  ],
  [
    'Negotiate, Basic Realm = plain , Bearer realm=https://auth.test/token, error="x"',
    [
      { scheme: 'negotiate', parameters: {} },
      { scheme: 'basic', parameters: { realm: 'plain' } },
      { scheme: 'bearer', parameters: { realm: 'https://auth.test/token', error: 'x' } },
    ],
  ],
  ['', []],
  ['"Bearer"', []],
  ['Bearer realm="unfinished', [{ scheme: 'bearer', parameters: {} }]],
])('parseChallenges() reads %s', (header, wanted) => {
  expect(parseChallenges([header])).toEqual(wanted);
});

test('parseChallenges() is done with a hostile header at once', () => {
  const header = `Bearer ${'a="\\'.repeat(100_000)}`;
  const started = process.cpuUsage();

  parseChallenges([header, `${'x '.repeat(100_000)}`, `Bearer ${' '.repeat(100_000)}=`]);

  expect(process.cpuUsage(started).user).toBeLessThan(5_000_000);
});

test('mergedScopes() keeps one scope for each resource', () => {
  expect(
    mergedScopes(['repository:a:pull', 'repository:a:pull,push', 'repository:b/c:pull', 'registry:catalog:*']),
  ).toEqual(['repository:a:pull,push', 'repository:b/c:pull', 'registry:catalog:*']);
});
