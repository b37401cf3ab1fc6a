import { parseDocument } from '../../../../cli/image/documents';
import { parsePlatform, platformMatches, platformText } from '../../../../cli/image/platform';
import { candidateNames, fullName } from '../../../../cli/image/reference';
import { chainIds } from '../../../../cli/image/unpack';
import { sha256 } from '../../../../proto/ids';

test.each([
  ['busybox', 'docker.io/library/busybox:latest'],
  ['busybox:1.36', 'docker.io/library/busybox:1.36'],
  ['me/app', 'docker.io/me/app:latest'],
  ['host:5000/app', 'host:5000/app:latest'],
  ['localhost/app:x', 'localhost/app:x'],
  ['quay.io/a/b@sha256:00', 'quay.io/a/b@sha256:00'],
])('fullName() completes %s', (name, expected) => {
  expect(fullName(name)).toBe(expected);
});

test('candidateNames() begins with the name as written', () => {
  expect(candidateNames('a')).toEqual(['a', 'docker.io/library/a:latest']);
  expect(candidateNames('docker.io/library/a:latest')).toEqual(['docker.io/library/a:latest']);
});

test('platforms are parsed, matched and printed', () => {
  expect(parsePlatform('linux/aarch64/v8')).toEqual({ os: 'linux', architecture: 'arm64', variant: 'v8' });
  expect(parsePlatform('amd64')).toEqual({ os: 'linux', architecture: 'amd64' });
  expect(() => parsePlatform('a/b/c/d')).toThrow('is not a platform');
  expect(platformMatches({ os: 'linux', architecture: 'arm', variant: 'v7' }, parsePlatform('linux/arm'))).toBe(true);
  expect(platformMatches({ os: 'linux', architecture: 'arm', variant: 'v7' }, parsePlatform('linux/arm/v6'))).toBe(
    false,
  );
  expect(platformText({ os: 'linux', architecture: 'arm', variant: 'v7' })).toBe('linux/arm/v7');
  expect(platformText(undefined)).toBe('unknown');
});

test('chainIds() hashes each layer onto the chain before it', () => {
  const [a, b, c] = [sha256('a'), sha256('b'), sha256('c')];

  const chain = chainIds([a, b, c]);

  expect(chain).toEqual([a, sha256(`${a} ${b}`), sha256(`${sha256(`${a} ${b}`)} ${c}`)]);
  expect(chainIds([])).toEqual([]);
});

describe('parseDocument()', () => {
  const descriptor = { digest: sha256('x'), size: 1, mediaType: 'm' };
  const parse = (value: unknown) => parseDocument(Buffer.from(JSON.stringify(value)), 'it');

  test('tells index and manifest apart', () => {
    expect(parse({ manifests: [descriptor] })).toEqual({ manifests: [descriptor] });
    expect(parse({ config: descriptor, layers: [] })).toEqual({ config: descriptor, layers: [] });
  });

  test.each([
    [{ manifests: [], layers: [] }, 'an index and a manifest at once'],
    [{}, 'neither an image index nor an image manifest'],
    [{ manifests: [{ ...descriptor, digest: 'sha256:../..' }] }, 'invalid digest'],
    [{ manifests: [{ ...descriptor, size: -1 }] }, 'without digest, size or media type'],
    [[], 'neither'],
    [null, 'not a JSON object'],
  ])('refuses %j', (value, words) => {
    expect(() => parse(value)).toThrow(words);
  });
});
