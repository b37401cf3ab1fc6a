import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import path from 'node:path';
import { describeUnless } from '../../setup/needs';
import { descriptorOf, fetchInto, pushBytes } from './blobs';
import { Authority } from './certificates';
import { Fixture, reference } from './fixture';
import { ForwardProxy } from './forward-proxy';
import { missingForRegistry, RegistryServer } from './server';

jest.setTimeout(120_000);

const NEVER = new AbortController().signal;

describeUnless(missingForRegistry())('a registry with TLS', () => {
  let fixture: Fixture;
  let authority: Authority;
  let server: RegistryServer;

  beforeAll(async () => {
    fixture = new Fixture();
    authority = await Authority.create(fixture.path('authority'));
    server = await RegistryServer.start(fixture.path('server'), { tls: authority });
    fixture.defer(() => server.kill());
  });

  afterAll(() => fixture[Symbol.asyncDispose]());

  beforeEach(() => {
    fs.rmSync(fixture.hostsDirectory, { recursive: true });
    fs.mkdirSync(fixture.hostsDirectory);
  });

  function place(file: string, ...names: string[]): void {
    const target = path.join(fixture.hostsDirectory, ...names);
    fs.mkdirSync(path.dirname(target), { recursive: true });
    fs.copyFileSync(file, target);
  }

  test('push() and fetch() trust the authority that hosts.toml names', async () => {
    fixture.configure(server.host, `ca = "${authority.certificate}"\n`);
    const app = reference(server.host, 'app:1');
    const bytes = randomBytes(5_000_000);

    await pushBytes(fixture.client(), app, { bytes, path: fixture.path('blob') });
    const got = await fetchInto(fixture.client(), app, descriptorOf(bytes), { path: fixture.path('got') });

    expect(got.bytes.equals(bytes)).toBe(true);
  });

  test('a registry of an unknown authority is refused, unless that is allowed', async () => {
    const app = reference(server.host, 'nothing:1');

    await expect(fixture.client().resolve(app, NEVER)).rejects.toMatchObject({
      kind: 'failed precondition',
      message: expect.stringMatching(
        /^registry "127.*": resolve nothing:1: tls: its certificate is not trusted: put the CA into this host's directory/,
      ),
    });
    fixture.configure(server.host, 'skip_verify = true\n');
    await expect(fixture.client().resolve(app, NEVER)).rejects.toMatchObject({ kind: 'not found' });
  });

  test('a certificate for other names is refused', async () => {
    const wrong = await Authority.create(fixture.path('wrong'));
    wrong.issue = (name) => Authority.prototype.issue.call(wrong, name, ['DNS:elsewhere.test']);
    const other = await RegistryServer.start(fixture.path('wrong-server'), { tls: wrong });
    fixture.configure(other.host, `ca = "${wrong.certificate}"\n`);

    await expect(fixture.client().resolve(reference(other.host, 'app:1'), NEVER)).rejects.toMatchObject({
      kind: 'failed precondition',
      message: expect.stringContaining('tls: its certificate is for other names'),
    });
    await other.kill();
  });

  test.each([
    ['HOST_PORT_', (host: string) => host.replace(/:(\d+)$/, '_$1_')],
    ['HOST:PORT', (host: string) => host],
    ['_default', () => '_default'],
  ])("docker's certificates are found in %s", async (_, name) => {
    place(authority.certificate, name(server.host), 'ca.crt');

    await expect(fixture.client().resolve(reference(server.host, 'nothing:1'), NEVER)).rejects.toMatchObject({
      kind: 'not found',
    });
  });

  test.each(['hosts.toml', 'files'])('a client certificate is shown, as %s has it', async (form) => {
    const strict = await RegistryServer.start(fixture.path(`strict-${form}`), {
      tls: authority,
      clientAuthority: authority,
    });
    const { certificate, key } = await authority.issue('client', []);
    const app = reference(strict.host, 'nothing:1');
    fixture.configure(strict.host, `ca = "${authority.certificate}"\n`);
    const without = fixture.client().resolve(app, NEVER);
    await expect(without).rejects.toMatchObject({
      message: expect.stringContaining(`registry "${strict.host}": resolve`),
    });
    await expect(without).rejects.not.toMatchObject({ kind: 'not found' });

    if (form === 'hosts.toml') {
      fixture.configure(strict.host, `ca = "${authority.certificate}"\nclient = [["${certificate}", "${key}"]]\n`);
    } else {
      fs.rmSync(path.join(fixture.hostsDirectory, strict.host, 'hosts.toml'));
      place(authority.certificate, strict.host, 'ca.crt');
      place(certificate, strict.host, 'client.cert');
      place(key, strict.host, 'client.key');
    }
    await expect(fixture.client().resolve(app, NEVER)).rejects.toMatchObject({ kind: 'not found' });
    await strict.kill();
  });

  test('https and http go through the proxies of the environment, loopback does not', async () => {
    const proxy = await ForwardProxy.start();
    const plain = await RegistryServer.start(fixture.path('plain'));
    const named = proxy.url.replace('://', '://me:pass%20word@');
    const env = { HTTPS_PROXY: named, HTTP_PROXY: named, NO_PROXY: 'direct.test' };
    const client = () => fixture.client({ env });
    fixture.configure(`registry.test:${server.port}`, 'skip_verify = true\n');
    fixture.configure(`plain.test:${plain.port}`, `server = "http://plain.test:${plain.port}"\n`);

    const secure = client().resolve(reference(`registry.test:${server.port}`, 'nothing:1'), NEVER);
    await expect(secure).rejects.toMatchObject({ kind: 'not found' });
    const insecure = client().resolve(reference(`plain.test:${plain.port}`, 'nothing:1'), NEVER);
    await expect(insecure).rejects.toMatchObject({ kind: 'not found' });
    const local = client().resolve(reference(plain.host, 'nothing:1'), NEVER);
    await expect(local).rejects.toMatchObject({ kind: 'not found' });

    expect(proxy.requests).toEqual([
      `CONNECT registry.test:${server.port}`,
      `HEAD http://plain.test:${plain.port}/v2/nothing/manifests/1`,
    ]);

    const authorization = `Basic ${Buffer.from('me:pass word').toString('base64')}`;
    expect(proxy.authorizations).toEqual([authorization, authorization]);

    proxy.refusal = 403;
    const refused = client().resolve(reference(`registry.test:${server.port}`, 'nothing:1'), NEVER);
    await expect(refused).rejects.toMatchObject({ message: expect.stringContaining('proxy: it refuses to connect') });
    await proxy.close();
    await plain.kill();
  });

  test('a proxy that speaks TLS is trusted as the host behind it is, and by its own authority only', async () => {
    const owner = await Authority.create(fixture.path('proxy-authority'));
    const proxy = await ForwardProxy.start(await owner.issue('proxy', ['IP:127.0.0.1']));
    const plain = await RegistryServer.start(fixture.path('plain-behind'));
    const [secureHost, plainHost] = [`registry.test:${server.port}`, `plain.test:${plain.port}`];
    const other = `other.test:${server.port}`;
    const { url } = proxy;
    const client = () => fixture.client({ env: { HTTPS_PROXY: url, HTTP_PROXY: url } });
    const look = (host: string) => client().resolve(reference(host, 'nothing:1'), NEVER);
    const untrusted = {
      kind: 'failed precondition',
      message: expect.stringContaining(
        `resolve nothing:1: proxy "${new URL(url).host}": tls: its certificate is not trusted`,
      ),
    };
    fixture.configure(plainHost, `server = "http://${plainHost}"\n`);
    fixture.configure(other, 'skip_verify = true\n');

    await expect(look(secureHost)).rejects.toMatchObject(untrusted);
    await expect(look(plainHost)).rejects.toMatchObject(untrusted);
    fixture.configure(secureHost, `skip_verify = true\nca = "${owner.certificate}"\n`);
    fixture.configure(plainHost, `server = "http://${plainHost}"\nca = "${owner.certificate}"\n`);
    expect(proxy.requests).toEqual([]);
    for (const host of [secureHost, plainHost, secureHost]) {
      await expect(look(host)).rejects.toMatchObject({ kind: 'not found' });
    }
    // The trust of one host is not that of another one.
    await expect(look(other)).rejects.toMatchObject(untrusted);

    expect(proxy.requests[0]).toBe(`CONNECT ${secureHost}`);
    expect(proxy.requests[1]).toBe(`HEAD http://${plainHost}/v2/nothing/manifests/1`);
    await proxy.close();
    await expect(look(plainHost)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringMatching(/proxy "127\.0\.0\.1:\d+": tcp: /),
    });
    await plain.kill();
  });

  test('dial_timeout limits the time for a tunnel, but not that for what goes through it', async () => {
    const proxy = await ForwardProxy.start();
    const host = `registry.test:${server.port}`;
    fixture.configure(host, 'skip_verify = true\ndial_timeout = "4s"\n');
    const client = () => fixture.client({ env: { HTTPS_PROXY: proxy.url } });
    const bytes = randomBytes(4_000_000);
    await pushBytes(client(), reference(host, 'app:1'), { bytes, path: fixture.path('tunnelled') });

    proxy.pauseMs = 7000;
    proxy.requests.length = 0;
    const got = await fetchInto(client(), reference(host, 'app:1'), descriptorOf(bytes), {
      path: fixture.path('slow'),
    });
    expect(got.bytes.equals(bytes)).toBe(true);
    expect(proxy.requests).toHaveLength(1);

    proxy.isSilent = true;
    fixture.configure(host, 'skip_verify = true\ndial_timeout = "300ms"\n');
    await expect(client().resolve(reference(host, 'app:1'), NEVER)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining('tcp: it does not answer: check address, port, firewall and proxy (ETIMEDOUT)'),
    });
    await proxy.close();
  });

  test('dial_timeout limits the time for a connection with TLS', async () => {
    const silent = net.createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    const host = `127.0.0.1:${(silent.address() as AddressInfo).port}`;
    fixture.configure(host, 'skip_verify = true\ndial_timeout = "300ms"\n');

    await expect(fixture.client().resolve(reference(host, 'app:1'), NEVER)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining('tcp: it does not answer'),
    });
    silent.close();
  });

  test('what does not answer, or not with TLS, is told apart', async () => {
    const silent = net.createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    const closed = `127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const chatty = net.createServer((socket) => socket.resume().end('220 mail.test ESMTP\r\n')).listen(0, '127.0.0.1');
    await new Promise((resolve) => chatty.once('listening', resolve));
    const mail = `127.0.0.1:${(chatty.address() as AddressInfo).port}`;
    await new Promise((resolve) => silent.close(resolve));
    const https = fixture.client({ defaultScheme: 'https' });

    await expect(https.resolve(reference(closed, 'app:1'), NEVER)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining('tcp: nothing listens there: check port and service (ECONNREFUSED)'),
    });
    await expect(https.resolve(reference(mail, 'app:1'), NEVER)).rejects.toMatchObject({
      kind: 'failed precondition',
      message: expect.stringContaining('tls: it does not speak HTTPS'),
    });
    await expect(https.resolve(reference('registry.invalid', 'app:1'), NEVER)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringMatching(/dns: (there is no such host|no name server answers)/),
    });
    await new Promise((resolve) => chatty.close(resolve));
  });
});
