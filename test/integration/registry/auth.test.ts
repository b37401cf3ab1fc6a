import { randomBytes } from 'node:crypto';
import type { Credentials } from '../../../daemon/registry/types';
import { describeUnless } from '../../setup/needs';
import { credentialsOf, descriptorOf, fetchInto, pushBytes } from './blobs';
import { Authority } from './certificates';
import { FaultyProxy } from './faulty-proxy';
import { Fixture, reference } from './fixture';
import { missingForRegistry, RegistryServer } from './server';
import { TokenServer } from './token-server';

jest.setTimeout(120_000);

const NEVER = new AbortController().signal;
const ALICE: Credentials = { kind: 'password', username: 'alice', secret: 'wonder:land' };

describeUnless(missingForRegistry())('a registry with user names', () => {
  let fixture: Fixture;
  let server: RegistryServer;

  beforeAll(async () => {
    fixture = new Fixture();
    server = await RegistryServer.start(fixture.path('server'), { users: { alice: 'wonder:land' } });
    fixture.defer(() => server.kill());
  });

  afterAll(() => fixture[Symbol.asyncDispose]());

  test('push() and fetch() log in with user name and password, asked for once', async () => {
    const { source, requests } = credentialsOf({ [server.host]: ALICE });
    const client = fixture.client({ credentials: source });
    const app = reference(server.host, 'app:1');
    const bytes = randomBytes(2_000_000);

    await pushBytes(client, app, { bytes, path: fixture.path('blob') });
    const got = await fetchInto(client, app, descriptorOf(bytes), { path: fixture.path('got') });

    expect(got.bytes.equals(bytes)).toBe(true);
    expect(requests).toEqual([{ host: server.host, reference: app.text, challenges: ['Basic realm="test"'] }]);
  });

  test('the Authorization header can be given as it is', async () => {
    const value = `Basic ${Buffer.from('alice:wonder:land').toString('base64')}`;
    const client = fixture.client({ credentials: credentialsOf({ [server.host]: { kind: 'header', value } }).source });

    await expect(client.resolve(reference(server.host, 'nothing:1'), NEVER)).rejects.toMatchObject({
      kind: 'not found',
    });
  });

  test.each([
    ['no credentials', undefined],
    ['a wrong password', { ...ALICE, secret: 'x' }],
  ])('resolve() says so when there is %s', async (_, credentials) => {
    const client = fixture.client({ credentials: async () => credentials });

    await expect(client.resolve(reference(server.host, 'app:1'), NEVER)).rejects.toMatchObject({
      kind: 'unauthenticated',
      message: `registry "${server.host}": resolve app:1: 401 Unauthorized: log in to this host, or check user name and password: unauthorized`,
    });
  });

  test('credentials do not go to another host that takes the bytes of an upload', async () => {
    const elsewhere = await FaultyProxy.start();
    elsewhere.plan = () => ({ kind: 'answer', status: 201 });
    const proxy = await FaultyProxy.start(server.port);
    proxy.plan = ({ method, headers }) =>
      method === 'POST' && headers.authorization !== undefined
        ? { kind: 'answer', status: 202, headers: { location: `http://${elsewhere.host}/upload?id=1` } }
        : undefined;
    const client = fixture.client({ credentials: credentialsOf({ [proxy.host]: ALICE }).source });
    const bytes = randomBytes(1000);

    await pushBytes(client, reference(proxy.host, 'app:1'), { bytes, path: fixture.path('elsewhere') });

    expect(elsewhere.requests).toHaveLength(1);
    const [{ method, url, headers } = {}] = elsewhere.requests;
    expect(`${method} ${url}`).toBe(`PUT /upload?id=1&digest=${encodeURIComponent(descriptorOf(bytes).digest)}`);
    expect(headers).not.toHaveProperty('authorization');
    await proxy.close();
    await elsewhere.close();
  });

  test('a call ends with its signal when nobody answers for credentials', async () => {
    const stop = new AbortController();
    const credentials = () => {
      setImmediate(() => stop.abort(new Error('enough')));
      return new Promise<undefined>(() => {});
    };
    const app = reference(server.host, 'app:1');
    const target = { path: fixture.path('unanswered'), signal: stop.signal };

    const fetching = fetchInto(fixture.client({ credentials }), app, descriptorOf(randomBytes(10)), target);

    await expect(fetching).rejects.toThrow('enough');
  });

  test('credentials do not follow a redirect to another host', async () => {
    const elsewhere = await FaultyProxy.start();
    elsewhere.plan = () => ({ kind: 'answer', status: 200, body: 'hello' });
    const proxy = await FaultyProxy.start(server.port);
    proxy.plan = ({ url = '', headers }) =>
      url.includes('/blobs/') && headers.authorization !== undefined
        ? { kind: 'answer', status: 307, headers: { location: `http://${elsewhere.host}/stored` } }
        : undefined;
    const headers = { 'X-Secret': 'for the registry alone' };
    const client = fixture.client({ headers, credentials: credentialsOf({ [proxy.host]: ALICE }).source });
    const descriptor = descriptorOf(Buffer.from('hello'));

    const got = await fetchInto(client, reference(proxy.host, 'app:1'), descriptor, {
      path: fixture.path('redirected'),
    });

    expect(got.bytes.toString()).toBe('hello');
    expect(proxy.requests.at(-1)?.headers).toMatchObject({ 'x-secret': 'for the registry alone' });
    expect(elsewhere.requests).toHaveLength(1);
    expect(elsewhere.requests[0]?.headers).not.toHaveProperty('authorization');
    expect(elsewhere.requests[0]?.headers).not.toHaveProperty('x-secret');
    await proxy.close();
    await elsewhere.close();
  });
});

describeUnless(missingForRegistry())('a registry with tokens', () => {
  let fixture: Fixture;
  let tokens: TokenServer;
  let server: RegistryServer;

  beforeAll(async () => {
    fixture = new Fixture();
    const authority = await Authority.create(fixture.path('signer'));
    const signer = await authority.issue('signer', []);
    tokens = await TokenServer.start({ users: { alice: 'wonder:land' }, refreshTokens: ['fresh'], ...signer });
    fixture.defer(() => tokens.close());
    const token = { realm: tokens.realm, service: 'test-registry', issuer: 'tests', bundle: authority.certificate };
    server = await RegistryServer.start(fixture.path('server'), { token });
    fixture.defer(() => server.kill());
  });

  afterAll(() => fixture[Symbol.asyncDispose]());

  beforeEach(() => {
    tokens.questions.length = 0;
    tokens.answer = undefined;
    tokens.expiresInS = 300;
  });

  function asAlice() {
    return fixture.client({ credentials: credentialsOf({ [server.host]: ALICE }).source });
  }

  async function pushed(rest: string) {
    const bytes = randomBytes(100_000);
    await pushBytes(asAlice(), reference(server.host, rest), { bytes, path: fixture.path('blob') });
    tokens.questions.length = 0;
    return { bytes, descriptor: descriptorOf(bytes) };
  }

  test('push() gets a token for the repository, and keeps it', async () => {
    const client = asAlice();
    const app = reference(server.host, 'private:1');

    await pushBytes(client, app, { bytes: randomBytes(1000), path: fixture.path('blob') });
    await pushBytes(client, app, { bytes: randomBytes(1000), path: fixture.path('blob') });

    expect(tokens.questions).toHaveLength(1);
    const [question] = tokens.questions;
    expect(Object.fromEntries(question?.parameters ?? [])).toMatchObject({
      service: 'test-registry',
      account: 'alice',
    });
    expect(question?.parameters.getAll('scope')).toContain('repository:private:pull,push');
    expect(question?.authorization).toMatch(/^Basic /);
  });

  test('fetch() of many blobs at once shares one token', async () => {
    const { descriptor } = await pushed('private:1');
    const client = asAlice();
    const app = reference(server.host, 'private:1');

    await Promise.all(
      [1, 2, 3, 4].map((index) => fetchInto(client, app, descriptor, { path: fixture.path(`many-${index}`) })),
    );

    expect(tokens.questions).toHaveLength(1);
  });

  test('fetch() of what is public needs no credentials', async () => {
    const { bytes, descriptor } = await pushed('public:1');

    const got = await fetchInto(fixture.client(), reference(server.host, 'public:1'), descriptor, {
      path: fixture.path('public'),
    });

    expect(got.bytes.equals(bytes)).toBe(true);
    expect(tokens.questions).toMatchObject([{ method: 'GET', authorization: undefined }]);
  });

  test('fetch() of what is private says what is missing', async () => {
    const { descriptor } = await pushed('private:1');
    const target = { path: fixture.path('refused') };
    const app = reference(server.host, 'private:1');
    const wrong = fixture.client({ credentials: async () => ({ ...ALICE, secret: 'x' }) });

    await expect(fetchInto(fixture.client(), app, descriptor, target)).rejects.toMatchObject({
      kind: 'unauthenticated',
      message: expect.stringMatching(/401 Unauthorized.*: log in to this host/),
    });
    await expect(fetchInto(wrong, app, descriptor, target)).rejects.toMatchObject({
      kind: 'unauthenticated',
      message: expect.stringMatching(
        /^registry "127.*": auth at "127.*" for repository:private:pull: 401 Unauthorized \(incorrect username or password\): it does not accept the credentials/,
      ),
    });
  });

  test('push() sends what must not be taken from another repository', async () => {
    const { bytes } = await pushed('secret:1');
    tokens.answer = ({ parameters }) =>
      parameters.getAll('scope').join(' ').includes('repository:secret')
        ? { status: 403, body: '' }
        : (undefined as never);
    const options = { signal: NEVER, mountFrom: ['secret'] };
    const app = reference(server.host, 'private:1');

    const outcome = await pushBytes(asAlice(), app, { bytes, path: fixture.path('blob') }, options);

    expect(outcome).toBe('uploaded');
    expect(tokens.questions.map(({ parameters }) => parameters.getAll('scope').join(' '))).toContain(
      'repository:private:pull,push repository:secret:pull',
    );
  });

  test('a refresh token is given with POST', async () => {
    const { descriptor } = await pushed('private:1');
    const credentials = async (): Promise<Credentials> => ({ kind: 'identity-token', token: 'fresh' });
    const client = fixture.client({ credentials });

    await fetchInto(client, reference(server.host, 'private:1'), descriptor, { path: fixture.path('refreshed') });

    expect(tokens.questions).toMatchObject([{ method: 'POST', authorization: undefined }]);
    expect(Object.fromEntries(tokens.questions[0]?.parameters ?? [])).toMatchObject({
      grant_type: 'refresh_token',
      refresh_token: 'fresh',
      service: 'test-registry',
    });
  });

  test('a service that knows no GET is asked with POST', async () => {
    const { descriptor } = await pushed('private:1');
    tokens.answer = ({ method }) => (method === 'GET' ? { status: 405, body: '' } : (undefined as never));

    await fetchInto(asAlice(), reference(server.host, 'private:1'), descriptor, { path: fixture.path('posted') });

    expect(tokens.questions.map(({ method }) => method)).toEqual(['GET', 'POST']);
  });

  test('a token that has expired, or that is refused, is replaced', async () => {
    const { descriptor } = await pushed('private:1');
    const client = asAlice();
    const app = reference(server.host, 'private:1');
    tokens.expiresInS = 0.001;
    await fetchInto(client, app, descriptor, { path: fixture.path('expired') });
    tokens.expiresInS = 300;
    await fetchInto(client, app, descriptor, { path: fixture.path('renewed') });

    expect(tokens.questions.length).toBeGreaterThanOrEqual(2);

    tokens.questions.length = 0;
    const revoked = asAlice();
    let isFirst = true;
    tokens.answer = () => {
      const good = isFirst;
      isFirst = false;
      return good ? { status: 200, body: '{"token":"of-no-use"}' } : (undefined as never);
    };
    await expect(revoked.resolve(app, NEVER)).rejects.toMatchObject({ kind: 'unauthenticated' });
    await expect(revoked.resolve(app, NEVER)).rejects.toMatchObject({ kind: 'not found' });
  });

  test.each([
    ['{"token":"a\\nb"}', /has a token that no header can hold/],
    ['{}', /has no token/],
    ['<html>', /is not JSON/],
  ])('the answer %j of a token service is refused', async (body, words) => {
    tokens.answer = () => ({ status: 200, body });

    await expect(asAlice().resolve(reference(server.host, 'private:1'), NEVER)).rejects.toMatchObject({
      kind: 'failed precondition',
      message: expect.stringMatching(words),
    });
  });

  test('the password does not follow a redirect of the token service', async () => {
    const thief = await FaultyProxy.start();
    thief.plan = () => ({ kind: 'answer', status: 200, body: '{"token":"x"}' });
    tokens.answer = () => ({ status: 307, body: '', headers: { location: `http://${thief.host}/token` } });
    const app = reference(server.host, 'private:1');
    const identity = fixture.client({ credentials: async () => ({ kind: 'identity-token', token: 'fresh' }) });

    await expect(asAlice().resolve(app, NEVER)).rejects.toMatchObject({ kind: 'unauthenticated' });
    await expect(identity.resolve(app, NEVER)).rejects.toMatchObject({ kind: 'failed precondition' });

    expect(thief.requests.map(({ method, headers }) => [method, headers.authorization])).toEqual([['GET', undefined]]);
    await thief.close();
  });

  test.each([
    ['file:///etc/shadow', /token service "file:\/\/\/etc\/shadow" is refused: not http or https/],
    ['gopher://127.0.0.1/', /is refused: not http or https/],
    ['not a url', /is no URL/],
    ['http://user:secret@127.0.0.1/', /has a user name in it/],
  ])('the realm %j is refused', async (realm, words) => {
    const proxy = await FaultyProxy.start();
    const headers = { 'www-authenticate': `Bearer realm="${realm}",service="x"` };
    proxy.plan = () => ({ kind: 'answer', status: 401, headers });

    await expect(fixture.client().resolve(reference(proxy.host, 'app:1'), NEVER)).rejects.toMatchObject({
      kind: 'failed precondition',
      message: expect.stringMatching(words),
    });
    await proxy.close();
  });

  test('what is asked of the user is said when it cannot be done', async () => {
    const proxy = await FaultyProxy.start();
    proxy.plan = () => ({ kind: 'answer', status: 401, headers: { 'www-authenticate': 'Negotiate' } });

    await expect(fixture.client().resolve(reference(proxy.host, 'app:1'), NEVER)).rejects.toMatchObject({
      kind: 'unauthenticated',
      message: expect.stringMatching(/it wants "negotiate", which is not supported/),
    });
    await proxy.close();
  });
});
