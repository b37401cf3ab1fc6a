// Blobs that a descriptor gives URLs for.

import { randomBytes } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { describeUnless } from '../../setup/needs';
import { credentialsOf, descriptorOf, fetchInto, pushBytes } from './blobs';
import { Fixture, reference } from './fixture';
import { missingForRegistry, RegistryServer } from './server';

jest.setTimeout(120_000);

const FOREIGN = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';

describeUnless(missingForRegistry())('a blob with URLs', () => {
  let fixture: Fixture;
  let registry: RegistryServer;
  let elsewhere: http.Server;
  /** What the other host has, by path. */
  const files = new Map<string, Buffer>();
  const asked: { url: string | undefined; authorization: string | undefined }[] = [];

  beforeAll(async () => {
    fixture = new Fixture();
    registry = await RegistryServer.start(fixture.path('server'), { users: { me: 'secret' } });
    fixture.defer(() => registry.kill());
    elsewhere = http.createServer(({ url, headers }, response) => {
      asked.push({ url, authorization: headers.authorization });
      const file = files.get(url ?? '');
      if (url === '/private') response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      else if (file === undefined) response.writeHead(404).end();
      else response.writeHead(200, { 'content-length': file.length }).end(file);
    });
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
    fixture.defer(() => {
      elsewhere.closeAllConnections();
      elsewhere.close();
    });
  });

  afterAll(() => fixture[Symbol.asyncDispose]());

  beforeEach(() => {
    asked.length = 0;
  });

  const hostOf = () => `127.0.0.1:${(elsewhere.address() as AddressInfo).port}`;
  const urlOf = (path: string) => `http://${hostOf()}${path}`;
  const client = () => {
    const password = { kind: 'password', username: 'me', secret: 'secret' } as const;
    const credentials = credentialsOf({ [registry.host]: password, [hostOf()]: password });
    return fixture.client({ credentials: credentials.source, headers: { 'x-private': 'yes' } });
  };

  test('comes from the first of them that has it, without credentials', async () => {
    const bytes = randomBytes(300_000);
    files.set('/layer?v=1', bytes);
    files.set('/wrong', randomBytes(300_000));
    const urls = ['ftp://127.0.0.1/layer', 'no url', '/missing', '/wrong', '/private', '/layer?v=1'].map((url) =>
      url.startsWith('/') ? urlOf(url) : url,
    );

    for (const [name, list] of [urls.slice(0, 4), [urlOf('/private'), urlOf('/layer?v=1')]].entries()) {
      const descriptor = { ...descriptorOf(bytes, FOREIGN), urls: list };
      const got = fetchInto(client(), reference(registry.host, 'app:1'), descriptor, { path: fixture.path(`${name}`) });
      if (name === 0) await expect(got).rejects.toMatchObject({ kind: 'not found' });
      else expect((await got).bytes.equals(bytes)).toBe(true);
    }

    expect(new Set(asked.map(({ url }) => url))).toEqual(new Set(['/missing', '/wrong', '/private', '/layer?v=1']));
    expect(asked.filter(({ authorization }) => authorization !== undefined)).toEqual([]);
  });

  test('comes from the registry when none of them has it', async () => {
    const bytes = randomBytes(10_000);
    const app = reference(registry.host, 'app:1');
    await pushBytes(client(), app, { bytes, path: fixture.path('pushed') });

    const descriptor = { ...descriptorOf(bytes), urls: [urlOf('/missing')] };
    const got = await fetchInto(client(), app, descriptor, { path: fixture.path('got') });

    expect(got.bytes.equals(bytes)).toBe(true);
    expect(asked.map(({ url }) => url)).toEqual(['/missing']);
  });
});
