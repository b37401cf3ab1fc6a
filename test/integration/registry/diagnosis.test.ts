import fs from 'node:fs';
import type { Finding } from '../../../daemon/registry/diagnosis';
import type { RegistryOptions } from '../../../daemon/registry/types';
import { describeUnless } from '../../setup/needs';
import { credentialsOf } from './blobs';
import { Authority } from './certificates';
import { FaultyProxy } from './faulty-proxy';
import { Fixture } from './fixture';
import { ForwardProxy } from './forward-proxy';
import { missingForRegistry, RegistryServer } from './server';

jest.setTimeout(120_000);

const NEVER = new AbortController().signal;

describeUnless(missingForRegistry())('diagnose()', () => {
  let fixture: Fixture;
  let authority: Authority;
  let plain: RegistryServer;
  let secure: RegistryServer;

  beforeAll(async () => {
    fixture = new Fixture();
    authority = await Authority.create(fixture.path('authority'));
    plain = await RegistryServer.start(fixture.path('plain'));
    fixture.defer(() => plain.kill());
    secure = await RegistryServer.start(fixture.path('secure'), { tls: authority, users: { alice: 'secret' } });
    fixture.defer(() => secure.kill());
  });

  afterAll(() => fixture[Symbol.asyncDispose]());

  beforeEach(() => {
    fs.rmSync(fixture.hostsDirectory, { recursive: true });
    fs.mkdirSync(fixture.hostsDirectory);
  });

  async function findings(host: string, options: RegistryOptions = {}, env = {}): Promise<Finding[]> {
    const list: Finding[] = [];
    for await (const finding of fixture.registries({ env }).diagnose(host, options, NEVER)) list.push(finding);
    return list;
  }

  const told = (list: readonly Finding[]) =>
    list.map(({ step, isGood, detail }) => `${step} ${isGood ? 'ok' : 'failed'}: ${detail}`);

  test('tells of a plain registry on loopback', async () => {
    expect(told(await findings(plain.host))).toEqual([
      `config ok: https://${plain.host}/v2 (pull, resolve, push)`,
      expect.stringMatching(/^tcp ok: connected to 127\.0\.0\.1, port \d+$/),
      'tls ok: it does not speak HTTPS; on loopback plain HTTP is used then',
      'ping ok: the API answers (registry/2.0)',
      'auth ok: no login is needed to be answered; repositories may need one',
    ]);
  });

  test('tells of TLS and of logins', async () => {
    fixture.configure(secure.host, `ca = "${authority.certificate}"\n`);
    const alice = { kind: 'password', username: 'alice', secret: 'secret' } as const;
    const credentials = credentialsOf({ [secure.host]: alice }).source;

    expect(told(await findings(secure.host, { credentials })).slice(2)).toEqual([
      expect.stringMatching(/^tls ok: TLSv1\.\d, certificate of "server" from "authority", good for \d+ more days$/),
      'ping ok: the API answers and wants a login: Basic realm="test"',
      'auth ok: logged in with the credentials for this host',
    ]);
    expect(told(await findings(secure.host)).at(-1)).toMatch(
      /^auth failed: registry "127.*": auth: 401 \(UNAUTHORIZED: authentication required\) without credentials: log in to this host/,
    );
  });

  test('ends a host at the first step that fails, and goes on with the next host', async () => {
    fixture.configure(
      'registry.test',
      `server = "https://${secure.host}"\n[host."http://127.0.0.1:1"]\n[host."https://registry.invalid"]\n[host."http://${plain.host}"]\n`,
    );

    const list = await findings('registry.test');

    expect(list.map(({ host, step, isGood }) => `${host} ${step} ${isGood}`)).toEqual([
      'registry.test config true',
      '127.0.0.1:1 tcp false',
      'registry.invalid dns false',
      `${plain.host} tcp true`,
      `${plain.host} ping true`,
      `${plain.host} auth true`,
      `${secure.host} tcp true`,
      `${secure.host} tls false`,
    ]);
    expect(list[1]?.detail).toContain('nothing listens there');
    expect(list.at(-1)?.detail).toContain('its certificate is not trusted');
  });

  test('tells what is wrong with the configuration', async () => {
    fixture.configure('registry.test', 'ca = "nope.pem"\n');

    expect(told(await findings('registry.test'))).toEqual([
      expect.stringMatching(/^config failed: .*hosts\.toml: ENOENT/),
    ]);
  });

  test('tells of what is no registry', async () => {
    const other = await FaultyProxy.start();
    other.plan = () => ({ kind: 'answer', status: 404, body: '<html>' });

    const list = told(await findings(other.host, { defaultScheme: 'http' }));

    expect(list.at(-1)).toMatch(/^ping failed: .*gives status 404: this is no registry, or not at this path/);
    await other.close();
  });

  test('looks at the proxy in place of the host behind it', async () => {
    const proxy = await ForwardProxy.start();
    fixture.configure(`registry.test:${secure.port}`, 'skip_verify = true\n');
    const look = () => findings(`registry.test:${secure.port}`, {}, { HTTPS_PROXY: proxy.url });

    const through = (await look()).map(({ step, isGood }) => `${step} ${isGood}`);
    proxy.refusal = 403;
    const refused = await look();

    expect(through).toEqual(['config true', 'proxy true', 'tcp true', 'ping true', 'auth false']);
    expect(refused.at(-1)).toMatchObject({ step: 'ping', isGood: false });
    expect(refused.at(-1)?.detail).toContain('proxy: it refuses to connect');
    await proxy.close();
  });
});
