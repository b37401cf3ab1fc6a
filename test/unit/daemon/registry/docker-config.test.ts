import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { dockerCredentials } from '../../../../daemon/registry/auth/docker-config';

const NEVER = new AbortController().signal;
const searchPath = process.env['PATH'];
let directory: string;

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'docker-config-'));
  process.env['PATH'] = `${directory}:${searchPath}`;
});

afterEach(() => {
  process.env['PATH'] = searchPath;
  fs.rmSync(directory, { recursive: true });
});

function ask(config: unknown, host: string) {
  const file = path.join(directory, 'config.json');
  fs.writeFileSync(file, typeof config === 'string' ? config : JSON.stringify(config));
  return dockerCredentials(file)({ host, reference: `${host}/app:1`, challenges: [] }, NEVER);
}

/** A program docker-credential-NAME that runs a shell script; the host is in $host. */
function helper(name: string, script: string): void {
  const file = path.join(directory, `docker-credential-${name}`);
  fs.writeFileSync(file, `#!/bin/sh\ntest "$1" = get || exit 9\nread -r host\n${script}\n`, { mode: 0o755 });
}

const auth = (text: string) => Buffer.from(text).toString('base64');
const alice = { kind: 'password', username: 'alice', secret: 'a:b' };

test.each([
  ['registry.test:5000', { 'registry.test:5000': { auth: auth('alice:a:b') } }, alice],
  ['registry.test', { 'https://registry.test': { auth: auth('alice:a:b') } }, alice],
  ['registry.test', { 'https://registry.test/v1/': { auth: auth('alice:a:b') } }, alice],
  ['registry.test', { 'registry.test/v2/': { auth: auth('alice:a:b') } }, alice],
  ['registry.test', { 'registry.test': { username: 'alice', password: 'a:b' } }, alice],
  [
    'registry.test',
    { 'registry.test': { auth: auth('<token>:x'), identitytoken: 'fresh' } },
    { kind: 'identity-token', token: 'fresh' },
  ],
  ['registry.test', { 'registry.test': { registrytoken: 'x' } }, { kind: 'header', value: 'Bearer x' }],
  ['docker.io', { 'https://index.docker.io/v1/': { auth: auth('alice:a:b') } }, alice],
  ['registry-1.docker.io', { 'docker.io': { auth: auth('alice:a:b') } }, alice],
  [
    'registry.test',
    { 'other.test': { auth: auth('alice:a:b') }, 'registry.test.evil.test': { auth: auth('x:y') } },
    undefined,
  ],
  ['registry.test', { 'registry.test': {} }, undefined],
  ['__proto__', {}, undefined],
])('dockerCredentials() finds %s among "auths"', async (host, auths, wanted) => {
  expect(await ask({ auths }, host)).toEqual(wanted);
});

test('dockerCredentials() has none without the file', async () => {
  const source = dockerCredentials(path.join(directory, 'absent.json'));

  expect(await source({ host: 'registry.test', reference: '', challenges: [] }, NEVER)).toBeUndefined();
});

test('dockerCredentials() asks the helper of the host before the store of all', async () => {
  helper('one', 'echo \'{"ServerURL":"\'$host\'","Username":"alice","Secret":"a:b"}\'');
  helper('all', 'echo \'{"Username":"<token>","Secret":"for \'$host\'"}\'');
  const config = { credHelpers: { 'registry.test': 'one' }, credsStore: 'all' };

  expect(await ask(config, 'registry.test')).toEqual(alice);
  expect(await ask(config, 'other.test')).toEqual({ kind: 'identity-token', token: 'for other.test' });
});

test('dockerCredentials() goes on with the file when the helper knows nothing', async () => {
  helper('all', 'echo "credentials not found in native keychain"; exit 1');
  const config = { credsStore: 'all', auths: { 'registry.test': { auth: auth('alice:a:b') } } };

  expect(await ask(config, 'registry.test')).toEqual(alice);
});

test.each([
  ['{"auths": secret', {}, /config\.json: the file is not JSON/],
  [{ auths: { 'registry.test': { auth: 'AAAA' } } }, {}, /an "auth" is not base64 of USER:PASSWORD/],
  [{ credsStore: '../evil' }, {}, /"\.\.\/evil" is no name of a credential helper/],
  [{ credsStore: 'absent' }, {}, /docker-credential-absent: there is no such program on the PATH/],
  [{ credsStore: 'bad' }, { bad: 'echo "no keychain"; exit 3' }, /credential helper bad: exit status 3: no keychain/],
  [{ credsStore: 'bad' }, { bad: 'echo "<html>"' }, /credential helper bad: its answer is not JSON/],
])('dockerCredentials() says what is wrong with %j', async (config, helpers, words) => {
  for (const [name, script] of Object.entries(helpers)) helper(name, script as string);

  await expect(ask(config, 'registry.test')).rejects.toMatchObject({
    kind: 'failed precondition',
    message: expect.stringMatching(words),
  });
});

test('dockerCredentials() ends with its signal', async () => {
  helper('slow', 'exec sleep 600');
  const file = path.join(directory, 'config.json');
  fs.writeFileSync(file, '{"credsStore":"slow"}');
  const stop = new AbortController();

  const asking = dockerCredentials(file)({ host: 'registry.test', reference: '', challenges: [] }, stop.signal);
  setImmediate(() => stop.abort(new Error('enough')));

  await expect(asking).rejects.toThrow('enough');
});
