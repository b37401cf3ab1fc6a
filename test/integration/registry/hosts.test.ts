import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { describeUnless } from '../../setup/needs';
import { descriptorOf, fetchInto, pushBytes } from './blobs';
import { FaultyProxy } from './faulty-proxy';
import { Fixture, reference } from './fixture';
import { missingForRegistry, RegistryServer } from './server';

jest.setTimeout(120_000);

const NEVER = new AbortController().signal;
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const DOCUMENT = Buffer.from(
  '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[]}',
);
const LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';

describeUnless(missingForRegistry())('mirrors', () => {
  let fixture: Fixture;
  let server: RegistryServer;
  let mirror: FaultyProxy;
  let bytes: Buffer;

  beforeAll(async () => {
    fixture = new Fixture();
    server = await RegistryServer.start(fixture.path('server'));
    fixture.defer(() => server.kill());
    bytes = randomBytes(1_000_000);
    const app = reference(server.host, 'app:1');
    await pushBytes(fixture.client(), app, { bytes, path: fixture.path('blob') });
    await pushBytes(fixture.client(), app, { bytes: DOCUMENT, mediaType: LIST, path: fixture.path('blob') });
  });

  afterAll(() => fixture[Symbol.asyncDispose]());

  beforeEach(async () => {
    fs.rmSync(fixture.hostsDirectory, { recursive: true });
    fs.mkdirSync(fixture.hostsDirectory);
    mirror = await FaultyProxy.start(server.port);
  });

  afterEach(() => mirror.close());

  test('a mirror is asked first, for what it may be asked, and told whom it stands in for', async () => {
    const toml = `server = "http://${server.host}"\n[host."http://${mirror.host}"]\ncapabilities = ["pull"]\n[host."http://${mirror.host}".header]\nx-team = ["a", "b"]\n`;
    fixture.configure('registry.test', toml);
    const app = reference('registry.test', 'app:1');
    const client = fixture.client({ headers: { 'X-From': 'tests' } });

    const descriptor = await client.resolve(app, NEVER);
    await client.fetchDocument(app, descriptor, NEVER);
    const got = await fetchInto(client, app, descriptorOf(bytes), { path: fixture.path('from-mirror') });

    expect(got.bytes.equals(bytes)).toBe(true);
    expect(mirror.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
      `GET /v2/app/manifests/${descriptor.digest}?ns=registry.test`,
      `GET /v2/app/blobs/${descriptorOf(bytes).digest}?ns=registry.test`,
    ]);
    expect(mirror.requests[0]?.headers).toMatchObject({ 'x-team': 'a, b', 'x-from': 'tests' });
  });

  test.each([
    ['lacks it', 404],
    ['refuses', 403],
    ['is broken', 500],
  ])('the next host is asked when a mirror %s', async (_, status) => {
    mirror.plan = () => ({ kind: 'answer', status });
    fixture.configure('registry.test', `server = "http://${server.host}"\n[host."http://${mirror.host}"]\n`);
    const app = reference('registry.test', 'app:1');
    const client = fixture.client();

    const descriptor = await client.resolve(app, NEVER);
    const got = await fetchInto(client, app, descriptorOf(bytes), { path: fixture.path(`next-${status}`) });

    expect(descriptor).toEqual(descriptorOf(DOCUMENT, LIST));
    expect(got.bytes.equals(bytes)).toBe(true);
    expect(mirror.requests.length).toBeGreaterThan(0);
  });

  test('the next host is asked when a mirror is not there, or sends other bytes', async () => {
    mirror.plan = () => ({ kind: 'corrupt', atByte: 5 });
    const mirrors = `[host."http://127.0.0.1:1"]\n[host."http://${mirror.host}"]\n`;
    fixture.configure('registry.test', `server = "http://${server.host}"\n${mirrors}`);
    const app = reference('registry.test', 'app:1');

    const got = await fetchInto(fixture.client(), app, descriptorOf(bytes), { path: fixture.path('third') });

    expect(got.bytes.equals(bytes)).toBe(true);
  });

  test('when all fail, what each said is told', async () => {
    mirror.plan = () => ({ kind: 'answer', status: 403 });
    fixture.configure('registry.test', `server = "http://${server.host}"\n[host."http://${mirror.host}"]\n`);

    await expect(fixture.client().resolve(reference('registry.test', 'nothing:1'), NEVER)).rejects.toMatchObject({
      kind: 'not found',
      message: expect.stringMatching(
        new RegExp(
          `^registry "${mirror.host}": resolve nothing:1: 403 .*; registry "${server.host}": resolve nothing:1: 404 `,
        ),
      ),
    });
  });

  test('push() goes to the first host that takes it, never to a mirror that may only be read', async () => {
    fixture.configure(
      'registry.test',
      `server = "http://${server.host}"\n[host."http://${mirror.host}"]\ncapabilities = ["pull", "resolve"]\n`,
    );
    const app = reference('registry.test', 'pushed:1');

    const outcome = await pushBytes(fixture.client(), app, { bytes: randomBytes(10), path: fixture.path('blob') });

    expect(outcome).toBe('uploaded');
    expect(mirror.requests).toEqual([]);
    fixture.configure('registry.test', `server = "http://${server.host}"\ncapabilities = ["pull"]\n`);
    const refused = pushBytes(fixture.client(), app, { bytes: randomBytes(10), path: fixture.path('blob') });
    await expect(refused).rejects.toMatchObject({
      kind: 'failed precondition',
      message: expect.stringContaining('hosts.toml names no host for "registry.test/pushed:1" that may push'),
    });
  });

  test('override_path takes the path as it is', async () => {
    fixture.configure('registry.test', `[host."http://${mirror.host}/v2/sub"]\noverride_path = true\n`);
    mirror.plan = () => ({ kind: 'answer', status: 404 });

    await expect(
      fixture.client({ defaultScheme: 'http' }).resolve(reference('registry.test', 'app:1'), NEVER),
    ).rejects.toThrow();

    expect(mirror.requests.map(({ url }) => url)).toEqual(['/v2/sub/app/manifests/1?ns=registry.test']);
  });
});

describe('a hostile registry', () => {
  let fixture: Fixture;
  let registry: FaultyProxy;

  beforeAll(() => {
    fixture = new Fixture();
  });

  afterAll(() => fixture[Symbol.asyncDispose]());

  beforeEach(async () => {
    registry = await FaultyProxy.start();
  });

  afterEach(() => registry.close());

  const refused = (words: RegExp, kind = 'failed precondition') => ({ kind, message: expect.stringMatching(words) });

  test('redirects without end are left', async () => {
    registry.plan = ({ url = '' }) => ({ kind: 'answer', status: 307, headers: { location: `${url}x` } });

    await expect(fixture.client().resolve(reference(registry.host, 'app:1'), NEVER)).rejects.toMatchObject(
      refused(/it redirects more than 10 times/),
    );
  });

  test.each([
    ['file:///etc/passwd', /it redirects to the scheme "file:"/],
    ['http://[', /it redirects to what is no URL/],
  ])('a redirect to %s is refused', async (location, words) => {
    registry.plan = () => ({ kind: 'answer', status: 302, headers: { location } });

    await expect(fixture.client().resolve(reference(registry.host, 'app:1'), NEVER)).rejects.toMatchObject(
      refused(words),
    );
  });

  test('headers without end are refused', async () => {
    registry.plan = () => ({ kind: 'answer', status: 200, headers: { 'x-large': 'x'.repeat(100_000) } });

    await expect(fixture.client().resolve(reference(registry.host, 'app:1'), NEVER)).rejects.toMatchObject(
      refused(/the headers of its answer are too large/),
    );
  });

  test('documents without end are refused', async () => {
    const body = ' '.repeat(9 << 20);
    registry.plan = () => ({ kind: 'answer', status: 200, body });
    const app = reference(registry.host, 'app:1');
    const descriptor = descriptorOf(Buffer.from('x'), MANIFEST);

    const large = refused(/its answer is larger than 8388608 bytes/, 'resource exhausted');
    await expect(fixture.client().resolve(app, NEVER)).rejects.toMatchObject(large);
    await expect(fixture.client().fetchDocument(app, descriptor, NEVER)).rejects.toMatchObject(large);
    await expect(fixture.client().fetchDocument(app, { ...descriptor, size: 9n << 20n }, NEVER)).rejects.toMatchObject({
      kind: 'resource exhausted',
    });
  });

  test('digests of other algorithms are computed as well', async () => {
    const bytes = randomBytes(1000);
    registry.plan = () => ({ kind: 'answer', status: 200, body: bytes });
    const app = reference(registry.host, 'app:1');
    const digest = `sha512:${createHash('sha512').update(bytes).digest('hex')}`;
    const other = `sha512:${createHash('sha512').update('other').digest('hex')}`;
    const fetch = (wanted: string) =>
      fetchInto(fixture.client(), app, { ...descriptorOf(bytes), digest: wanted }, { path: fixture.path('sha512') });

    expect((await fetch(digest)).bytes.equals(bytes)).toBe(true);
    await expect(fetch(other)).rejects.toMatchObject(refused(/its bytes have the digest sha512:/));
    expect(await fixture.client().fetchDocument(app, { ...descriptorOf(bytes), digest }, NEVER)).toEqual(bytes);
  });

  test('a document with another digest is refused, also when its headers say otherwise', async () => {
    const app = reference(registry.host, 'app:1');
    const wanted = descriptorOf(Buffer.from('{}'), MANIFEST);
    const headers = { 'docker-content-digest': wanted.digest, 'content-type': MANIFEST };
    registry.plan = () => ({ kind: 'answer', status: 200, headers, body: '{"evil":true}' });

    await expect(fixture.client().fetchDocument(app, wanted, NEVER)).rejects.toMatchObject(
      refused(/its 13 bytes have the digest sha256:[0-9a-f]+: the registry, or a proxy, changes them/),
    );
  });

  test('resolve() computes the digest when headers are missing or make no sense', async () => {
    const body = '{"schemaVersion":2,"layers":[]}';
    const headers = { 'docker-content-digest': 'md5:1234', 'content-type': 'text/plain' };
    registry.plan = () => ({ kind: 'answer', status: 200, headers, body });

    const descriptor = await fixture.client().resolve(reference(registry.host, 'app:1'), NEVER);

    expect(descriptor).toEqual(descriptorOf(Buffer.from(body), MANIFEST));
  });

  test('an upload is not sent to where no URL leads', async () => {
    registry.plan = ({ method }) =>
      method === 'POST'
        ? { kind: 'answer', status: 202, headers: { location: 'file:///etc/passwd' } }
        : { kind: 'answer', status: 404 };

    await expect(
      pushBytes(fixture.client(), reference(registry.host, 'app:1'), {
        bytes: Buffer.from('x'),
        path: fixture.path('blob'),
      }),
    ).rejects.toMatchObject(refused(/it does not say, or not properly, where to send the bytes/));
  });

  test('a list of referrers with what is no descriptor is refused', async () => {
    registry.plan = () => ({
      kind: 'answer',
      status: 200,
      body: '{"manifests":[{"mediaType":"x","digest":"../../x","size":1}]}',
    });
    const { digest } = descriptorOf(Buffer.from('x'));

    await expect(
      fixture.client().referrers(reference(registry.host, 'app:1'), digest, { signal: NEVER }),
    ).rejects.toMatchObject(refused(/has a digest that is none/));
  });

  test('pages of referrers are followed, but not without end', async () => {
    const item = (name: string) => ({ mediaType: MANIFEST, digest: descriptorOf(Buffer.from(name)).digest, size: 1 });
    const page = (name: string) => JSON.stringify({ manifests: [item(name)] });
    const { digest } = descriptorOf(Buffer.from('x'));
    const next = { link: `</v2/app/referrers/${digest}?last=1>; rel="next"` };
    registry.plan = ({ url = '' }) =>
      url.includes('last=')
        ? { kind: 'answer', status: 200, body: page('second') }
        : { kind: 'answer', status: 200, headers: next, body: page('first') };
    const app = reference(registry.host, 'app:1');

    const found = await fixture.client().referrers(app, digest, { signal: NEVER });
    registry.plan = () => ({ kind: 'answer', status: 200, headers: next, body: page('again') });

    expect(found.map((descriptor) => descriptor.digest)).toEqual([item('first').digest, item('second').digest]);
    await expect(fixture.client().referrers(app, digest, { signal: NEVER })).rejects.toMatchObject({
      kind: 'resource exhausted',
    });
  });
});
