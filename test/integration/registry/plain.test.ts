import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { sha256 } from '../../../proto/ids';
import { describeUnless } from '../../setup/needs';
import { descriptorOf, fetchInto, pushBytes } from './blobs';
import { Fixture, reference } from './fixture';
import { missingForRegistry, RegistryServer } from './server';

jest.setTimeout(120_000);

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const NEVER = new AbortController().signal;

describeUnless(missingForRegistry())('a plain registry', () => {
  let fixture: Fixture;
  let server: RegistryServer;

  beforeAll(async () => {
    fixture = new Fixture();
    server = await RegistryServer.start(fixture.path('server'));
    fixture.defer(() => server.kill());
  });

  afterAll(() => fixture[Symbol.asyncDispose]());

  test('push() and fetch() bring the same bytes', async () => {
    const client = fixture.client();
    const app = reference(server.host, 'app:1');
    const bytes = randomBytes(3_000_000);

    const first = await pushBytes(client, app, { bytes, path: fixture.path('blob') });
    const second = await pushBytes(client, app, { bytes, path: fixture.path('blob') });
    const {
      fetched,
      bytes: got,
      progress,
    } = await fetchInto(client, app, descriptorOf(bytes), { path: fixture.path('got') });

    expect([first, second]).toEqual(['uploaded', 'exists']);
    expect(fetched).toEqual({ digest: sha256(bytes), sizeBytes: 3_000_000n });
    expect(got.equals(bytes)).toBe(true);
    expect(progress.at(-1)).toEqual({ offsetBytes: 3_000_000n, totalBytes: 3_000_000n });
  });

  test('fetch() goes on from what the file has, and starts anew when that is wrong', async () => {
    const client = fixture.client();
    const app = reference(server.host, 'app:1');
    const bytes = randomBytes(2_000_000);
    await pushBytes(client, app, { bytes, path: fixture.path('blob') });
    const starts = [
      bytes.subarray(0, 1_500_000),
      randomBytes(1_500_000),
      bytes,
      randomBytes(2_000_000),
      Buffer.concat([bytes, bytes]),
    ];

    for (const [index, start] of starts.entries()) {
      const path = fixture.path(`start-${index}`);
      fs.writeFileSync(path, start);

      const { bytes: got } = await fetchInto(client, app, descriptorOf(bytes), { path });

      expect(got.equals(bytes)).toBe(true);
    }
  });

  test('fetch() and push() know empty blobs', async () => {
    const client = fixture.client();
    const app = reference(server.host, 'app:1');

    const outcome = await pushBytes(client, app, { bytes: Buffer.alloc(0), path: fixture.path('blob') });
    const { bytes } = await fetchInto(client, app, descriptorOf(Buffer.alloc(0)), { path: fixture.path('empty') });

    expect(outcome).toBe('uploaded');
    expect(bytes.length).toBe(0);
  });

  test('fetch() says what is not there', async () => {
    const client = fixture.client();
    const missing = descriptorOf(Buffer.from('missing'));

    const fetching = fetchInto(client, reference(server.host, 'app:1'), missing, { path: fixture.path('missing') });

    await expect(fetching).rejects.toMatchObject({
      kind: 'not found',
      message: expect.stringMatching(
        new RegExp(
          `^registry "${server.host}": fetch app@${missing.digest}: 404 Not Found .*BLOB_UNKNOWN.*: not found$`,
        ),
      ),
    });
  });

  test('resolve() and fetchDocument() find what push() put under a tag and under its digest', async () => {
    const client = fixture.client();
    const app = reference(server.host, 'documents:v1');
    const config = Buffer.from('{}');
    await pushBytes(client, app, { bytes: config, path: fixture.path('config') });
    const bytes = manifestOf(config);
    const descriptor = descriptorOf(bytes, MANIFEST);
    const push = (byDigest: boolean) =>
      pushBytes(
        client,
        app,
        { bytes, mediaType: MANIFEST, path: fixture.path('manifest') },
        { signal: NEVER, byDigest },
      );

    const outcomes = [await push(true), await push(false), await push(false), await push(true)];

    expect(outcomes).toEqual(['uploaded', 'uploaded', 'exists', 'exists']);
    expect(await client.resolve(app, NEVER)).toEqual(descriptor);
    expect(await client.resolve(reference(server.host, `documents@${descriptor.digest}`), NEVER)).toEqual(descriptor);
    expect((await client.fetchDocument(app, descriptor, NEVER)).equals(bytes)).toBe(true);
    const { bytes: fetched } = await fetchInto(client, app, descriptor, { path: fixture.path('manifest-file') });
    expect(fetched.equals(bytes)).toBe(true);
    const wrongSize = { ...descriptor, size: descriptor.size + 1n };
    await expect(client.fetchDocument(app, wrongSize, NEVER)).rejects.toMatchObject({ kind: 'failed precondition' });
  });

  test('resolve() says what is not there', async () => {
    const client = fixture.client();

    await expect(client.resolve(reference(server.host, 'nothing:v9'), NEVER)).rejects.toMatchObject({
      kind: 'not found',
      message: `registry "${server.host}": resolve nothing:v9: 404 Not Found: check host, repository and tag; a private repository may also look like this: not found`,
    });
    await expect(client.resolve(reference(server.host, 'nothing'), NEVER)).rejects.toMatchObject({
      kind: 'invalid argument',
    });
  });

  test('push() has the registry take a blob from another repository', async () => {
    const client = fixture.client();
    const bytes = randomBytes(100_000);
    await pushBytes(client, reference(server.host, 'base:1'), { bytes, path: fixture.path('blob') });
    const from = (...mountFrom: string[]) => ({ signal: NEVER, mountFrom });
    const push = (rest: string, options: { signal: AbortSignal; mountFrom: string[] }) =>
      pushBytes(client, reference(server.host, rest), { bytes, path: fixture.path('blob') }, options);

    expect(await push('mounted:1', from('base'))).toBe('mounted');
    expect(await push('elsewhere:1', from('not-there'))).toBe('uploaded');
  });

  test('referrers() lists what was pushed with a subject, though the registry keeps no list', async () => {
    const client = fixture.client();
    const app = reference(server.host, 'referred:v1');
    const config = Buffer.from('{}');
    await pushBytes(client, app, { bytes: config, path: fixture.path('config') });
    const subject = descriptorOf(manifestOf(config), MANIFEST);
    await pushBytes(client, app, { bytes: manifestOf(config), mediaType: MANIFEST, path: fixture.path('manifest') });
    const attach = async (artifactType: string) => {
      const bytes = manifestOf(config, { artifactType, subject: { ...subject, size: Number(subject.size) } });
      const options = { signal: NEVER, byDigest: true };
      await pushBytes(client, app, { bytes, mediaType: MANIFEST, path: fixture.path('manifest') }, options);
      return descriptorOf(bytes, MANIFEST);
    };

    expect(await client.referrers(app, subject.digest, { signal: NEVER })).toEqual([]);
    const signature = { ...(await attach('application/signature')), artifactType: 'application/signature' };
    const bill = { ...(await attach('application/bill')), artifactType: 'application/bill' };

    expect(await client.referrers(app, subject.digest, { signal: NEVER })).toEqual([signature, bill]);
    const only = { signal: NEVER, artifactType: 'application/bill' };
    expect(await client.referrers(app, subject.digest, only)).toEqual([bill]);
  });

  test('a signal ends a call, and the file is not written to afterwards', async () => {
    const client = fixture.client();
    const app = reference(server.host, 'app:1');
    const bytes = randomBytes(50_000_000);
    await pushBytes(client, app, { bytes, path: fixture.path('blob') });
    const stop = new AbortController();
    const path = fixture.path('aborted');

    const fetching = fetchInto(client, app, descriptorOf(bytes), {
      path,
      signal: stop.signal,
      onProgress: () => stop.abort(new Error('enough')),
    });

    await expect(fetching).rejects.toThrow('enough');
    const before = fs.statSync(path);
    await expect(client.resolve(reference(server.host, 'nothing:v9'), NEVER)).rejects.toThrow('not found');
    expect(fs.statSync(path).size).toBe(before.size);
    expect((await fetchInto(client, app, descriptorOf(bytes), { path })).bytes.equals(bytes)).toBe(true);
  });
});

function manifestOf(config: Buffer, more: object = {}): Buffer {
  const { mediaType, digest } = descriptorOf(config, 'application/vnd.oci.image.config.v1+json');
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST,
      config: { mediaType, digest, size: config.length },
      layers: [],
      ...more,
    }),
  );
}
