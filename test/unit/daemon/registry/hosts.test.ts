import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { endpointsOf } from '../../../../daemon/registry/hosts';
import { errorKind } from '../../../../proto/errors';

let directory: string;

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'hosts-'));
});

afterEach(() => fs.rmSync(directory, { recursive: true }));

function write(name: string, text: string): string {
  const file = path.join(directory, name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text);
  return file;
}

function endpoints(host: string) {
  return endpointsOf(host, { hostsDirectory: directory });
}

function failure(body: () => unknown): Error {
  try {
    body();
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was thrown');
}

test.each([
  ['registry.test', undefined, 'https://registry.test/v2', false],
  ['registry.test:5000', undefined, 'https://registry.test:5000/v2', false],
  ['registry.test', 'http' as const, 'http://registry.test/v2', false],
  ['localhost', undefined, 'https://localhost/v2', false],
  ['localhost:443', undefined, 'https://localhost:443/v2', false],
  ['localhost:5000', undefined, 'https://localhost:5000/v2', true],
  ['localhost:5000', 'https' as const, 'https://localhost:5000/v2', false],
  ['127.1.2.3:5000', undefined, 'https://127.1.2.3:5000/v2', true],
  ['[::1]:5000', undefined, 'https://[::1]:5000/v2', true],
  ['docker.io', undefined, 'https://registry-1.docker.io/v2', false],
])('endpointsOf() has defaults for %s with scheme %s', (host, defaultScheme, url, mayBePlain) => {
  const [endpoint, ...more] = endpointsOf(host, { hostsDirectory: directory, defaultScheme });

  expect(more).toEqual([]);
  expect(endpoint).toMatchObject({ host, url, mayBePlain, capabilities: ['pull', 'resolve', 'push'] });
});

test('endpointsOf() reads hosts.toml, in its order, the server last', () => {
  write('registry.test/ca.pem', 'CA');
  write('registry.test/both.pem', 'BOTH');
  const absolute = write('key.pem', 'KEY');
  write(
    'registry.test/hosts.toml',
    `server = "https://upstream.test/base"
ca = ["ca.pem"]
dial_timeout = "1m30s"
[host."https://second.test:5000"]
  capabilities = ["pull"]
  client = [["both.pem", "${absolute}"], ["both.pem", ""]]
[host."http://first.test/v2"]
  skip_verify = true
  client = "both.pem"
[host."mirror.test/path"]
  override_path = true
  dial_timeout = "200ms"
  client = ["both.pem", "${absolute}"]
  [host."mirror.test/path".header]
    X-One = "1"
    x-more = ["a", "b"]
`,
  );

  expect(endpoints('registry.test')).toMatchObject([
    {
      host: 'second.test:5000',
      url: 'https://second.test:5000/v2',
      capabilities: ['pull'],
      mirrored: 'registry.test',
      tls: {
        authorities: [],
        clients: [
          { certificate: 'BOTH', key: 'KEY' },
          { certificate: 'BOTH', key: 'BOTH' },
        ],
        skipVerify: false,
      },
    },
    {
      host: 'first.test',
      url: 'http://first.test/v2',
      capabilities: ['pull', 'resolve', 'push'],
      tls: { clients: [{ certificate: 'BOTH', key: 'BOTH' }], skipVerify: true },
    },
    {
      url: 'https://mirror.test/path',
      connectTimeoutMs: 200,
      headers: { 'x-one': '1', 'x-more': 'a, b' },
      tls: {
        clients: [
          { certificate: 'BOTH', key: 'BOTH' },
          { certificate: 'KEY', key: 'KEY' },
        ],
      },
    },
    {
      host: 'upstream.test',
      url: 'https://upstream.test/base/v2',
      connectTimeoutMs: 90_000,
      tls: { authorities: ['CA'] },
    },
  ]);
});

test('endpointsOf() asks the host itself when hosts.toml names no server', () => {
  write('localhost_5000_/hosts.toml', '[host."http://mirror.test"]\n');

  expect(endpoints('localhost:5000')).toMatchObject([
    { url: 'http://mirror.test/v2' },
    { host: 'localhost:5000', url: 'https://localhost:5000/v2', mirrored: undefined, mayBePlain: true },
  ]);
});

test('endpointsOf() takes the host under its own name when server or a mirror is the host itself', () => {
  write('docker.io/hosts.toml', 'server = "https://registry-1.docker.io"\n[host."https://registry-1.docker.io"]\n');

  const own = { host: 'docker.io', url: 'https://registry-1.docker.io/v2', mirrored: undefined };
  expect(endpoints('docker.io')).toMatchObject([own, own]);
});

test('endpointsOf() takes the first directory that knows the host, and _default for the others', () => {
  write('first/registry.test/hosts.toml', 'server = "https://a.test"');
  write('second/registry.test/hosts.toml', 'server = "https://b.test"');
  write('second/_default/hosts.toml', 'server = "https://c.test"');
  const hostsDirectory = `${directory}/absent:${directory}/first:${directory}/second`;
  const serverOf = (host: string) => endpointsOf(host, { hostsDirectory })[0]?.url;

  expect(serverOf('registry.test')).toBe('https://a.test/v2');
  expect(serverOf('other.test')).toBe('https://c.test/v2');
});

test("endpointsOf() knows docker's certificates", () => {
  write('registry.test/a.crt', 'A');
  write('registry.test/client.cert', 'CERT');
  write('registry.test/client.key', 'KEY');
  write('registry.test/README', 'x');

  expect(endpoints('registry.test')[0]?.tls).toEqual({
    authorities: ['A'],
    clients: [{ certificate: 'CERT', key: 'KEY' }],
    skipVerify: false,
  });
});

test.each(['client.cert', 'client.key'])('endpointsOf() refuses a lone %s', (name) => {
  write(`registry.test/${name}`, 'X');

  expect(failure(() => endpoints('registry.test')).message).toMatch(
    /client\.(key|cert): missing: \*\.cert and \*\.key come/,
  );
});

test.each([
  ['server = ', /hosts\.toml: /],
  ['server = 5', /"server" must be text/],
  ['host = "x"', /"host" must be tables/],
  ['[host."ftp://x/"]', /"ftp:\/\/x\/" is no address/],
  ['[host."https://user@x"]', /"https:\/\/user@x" is no address/],
  [
    '[host."https://x"]\ncapabilities = ["delete"]',
    /host "https:\/\/x": "capabilities" must be of pull, resolve, push/,
  ],
  ['capabilities = "pull"', /"capabilities" must be/],
  ['ca = "nope.pem"', /ENOENT.*nope\.pem/],
  ['ca = 1', /"ca" must be a file/],
  ['client = [["a", "b", "c"]]', /"client" must be a file, or pairs/],
  ['client = [[1]]', /"client" must be a file/],
  ['skip_verify = "yes"', /"skip_verify" must be true or false/],
  ['dial_timeout = "soon"', /"dial_timeout" must be a duration/],
  ['dial_timeout = 5', /"dial_timeout" must be a duration/],
  ['[header]\nx = "a\\r\\nb"', /header "x" must be text/],
  ['[header]\n"x y" = "a"', /header "x y" must be text/],
])('endpointsOf() refuses %j', (text, words) => {
  write('registry.test/hosts.toml', text);

  const error = failure(() => endpoints('registry.test'));

  expect(errorKind(error)).toBe('invalid argument');
  expect(error.message).toMatch(words);
  expect(error.message).toContain(path.join(directory, 'registry.test'));
});
