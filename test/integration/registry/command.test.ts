// gantry registry test, on a real daemon and Debian's docker-registry.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeUnless } from '../../setup/needs';
import { missingForCli, PEER, useDaemon } from '../cli/fixture';
import { missingForRegistry, RegistryServer } from './server';

const TIMEOUT_MS = 120_000;
const peer = PEER === undefined ? undefined : "needs gantryd's own service";

jest.setTimeout(TIMEOUT_MS);

describeUnless(missingForCli() ?? missingForRegistry() ?? peer)('gantry registry test', () => {
  const { daemon, run } = useDaemon();
  let plain: RegistryServer;
  let guarded: RegistryServer;
  const nobody = '127.0.0.1:1';

  beforeAll(async () => {
    plain = await RegistryServer.start(join(daemon.directory, 'plain'));
    guarded = await RegistryServer.start(join(daemon.directory, 'guarded'), { users: { me: 'secret' } });
  }, TIMEOUT_MS);
  afterAll(async () => {
    await plain?.kill();
    await guarded?.kill();
  }, TIMEOUT_MS);

  const look = (...args: string[]) => run('registry', 'test', ...args);

  /** A directory with hosts.toml for registry.test. */
  function hosts(name: string, text: string): string {
    const directory = join(daemon.directory, name);
    mkdirSync(join(directory, 'registry.test'), { recursive: true });
    writeFileSync(join(directory, 'registry.test', 'hosts.toml'), text);
    return directory;
  }

  test('shows each step to a registry that works', async () => {
    const { code, stdout, stderr } = await look(`${plain.host}/some/image:1`);

    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const lines = stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^HOST +STEP +RESULT +TIME +DETAIL$/);
    const steps = lines.slice(1).map((text) => text.split(/ {2,}/));
    expect(steps.map(([host, step, result]) => `${host} ${step} ${result}`)).toEqual(
      ['config', 'tcp', 'tls', 'ping', 'auth'].map((step) => `${plain.host} ${step} ok`),
    );
    expect(steps[1]?.at(-1)).toMatch(/^connected to 127\.0\.0\.1, port \d+$/);
  });

  test('says what fails and what to do, and gives the login that it is given', async () => {
    const gone = await look(nobody);
    const refused = await look(guarded.host);
    const wrong = await look('--user', 'me:wrong', guarded.host);
    const given = await daemon.pipe('secret\n', 'registry', 'test', '-u', 'me', '--password-stdin', guarded.host);

    expect(gone).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        new RegExp(
          `^gantry: nothing can be pulled from "${nobody}": ${nobody}: tcp: nothing listens there: check port`,
        ),
      ),
    });
    expect(gone.stdout).toMatch(/ tcp +failed +[\d.]+ ms +tcp: nothing listens there/);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('log in to this host');
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toContain('check user name and password');
    expect(given).toMatchObject({ code: 0, stderr: '' });
    expect(given.stdout).toContain('logged in with the credentials for this host');
  });

  test('looks at mirrors, as JSON too', async () => {
    const text = `server = "http://${plain.host}"\n[host."http://${nobody}"]\ncapabilities = ["pull"]\n`;
    const directory = hosts('mirrored', text);

    const { code, stdout, stderr } = await look('--hosts-dir', directory, '--format', 'json', 'registry.test');

    const findings: { host: string; step: string; isGood: boolean; detail: string }[] = JSON.parse(stdout);
    expect(findings.map(({ host, step, isGood }) => `${host} ${step} ${isGood}`)).toEqual([
      'registry.test config true',
      `${nobody} tcp false`,
      `${plain.host} tcp true`,
      `${plain.host} ping true`,
      `${plain.host} auth true`,
    ]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^gantry: 1 of 2 hosts for "registry\.test" cannot be used, pulls take the others: /);
  });

  test('says what is wrong with the configuration, and with the name', async () => {
    const directory = hosts('broken', 'ca = "nope.pem"\n');

    const broken = await look('--hosts-dir', directory, 'registry.test');
    const name = await look('--plain-http', 'not a host');

    expect(broken).toMatchObject({ code: 1, stderr: expect.stringMatching(/hosts\.toml: ENOENT/) });
    expect(name.code).toBe(1);
    expect(name.stderr.trim().split('\n')).toHaveLength(1);
  });
});
