// The trust policy before images that a real cosign has signed, with keys that it has made, in Debian's docker-registry on
// loopback; nothing is asked of sigstore's services.

import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { busyboxEntries } from '../../images/busybox';
import { writeImage, writeLayerTar } from '../../images/oci-image';
import { BUNDLE, digestOf } from '../../images/signatures';
import { unpackedCosign } from '../../setup/clients';
import { mustRun, runCommand } from '../../setup/command';
import { startGantryd, type TestDaemon } from '../../setup/daemons';
import { describeUnless } from '../../setup/needs';
import { missingForCli } from '../cli/fixture';
import { missingForRegistry, RegistryServer } from '../registry/server';
import { SigningRegistry } from './signing-registry';

const GANTRY = resolve(__dirname, '../../../dist/bin/gantry');
const TIMEOUT_MS = 180_000;
const SIGN = 'https://sigstore.dev/cosign/sign/v1';

interface Published {
  readonly name: string;
  readonly repository: string;
  readonly digest: string;
  /** As cosign wants it. */
  readonly byDigest: string;
}

describeUnless(missingForCli() ?? missingForRegistry())('the trust policy and cosign', () => {
  const directory = join(tmpdir(), `gantry-cosign-${randomBytes(6).toString('hex')}`);
  const path = (name: string) => join(directory, name);
  let program: string;
  let daemon: TestDaemon;
  let server: RegistryServer;
  let layer: string;
  let serial = 0;

  const env: NodeJS.ProcessEnv = { ...process.env, COSIGN_PASSWORD: 'of-this-test', HOME: directory };
  const cosign = (...args: string[]) => mustRun([program, ...args], { cwd: directory, env, timeoutMs: TIMEOUT_MS });
  const offline = (key: string) => ['--key', path(`${key}.key`), '--tlog-upload=false', '-y'];
  /** Signs as cosign does by itself, or with further options. */
  const sign = (key: string, { byDigest }: Published, ...options: string[]) =>
    cosign('sign', ...offline(key), '--allow-http-registry', ...options, byDigest);
  /** Puts a statement about an image beside it, in a bundle. */
  const attest = (key: string, { byDigest }: Published, type: string) => {
    const predicate = ['--predicate', path('predicate.json'), '--type', type];
    return cosign('attest', ...offline(key), '--allow-http-registry', '--new-bundle-format', ...predicate, byDigest);
  };
  const gantry = (namespace: string, ...args: string[]) =>
    runCommand([GANTRY, '-n', namespace, ...args], {
      env: { ...env, GANTRY_ADDRESS: daemon.address, GANTRY_FIFO_DIR: path('fifo'), GANTRY_LOG_DIR: path('log') },
      timeoutMs: TIMEOUT_MS,
    });
  const fresh = () => {
    serial += 1;
    return `${daemon.namespace}${serial}`;
  };

  /** Puts an image of its own into the registry. */
  const publish = async (repository: string): Promise<Published> => {
    const file = path(`${repository.replace('/', '-')}.tar`);
    const defaults = { Cmd: ['/bin/sh'], Env: ['PATH=/bin', `REPOSITORY=${repository}`], WorkingDir: '/' };
    await writeImage(file, { name: 'x:1', layerTars: [layer], defaults });
    const name = `${server.host}/${repository}:1`;
    const digests = path('digest');
    const copy = ['skopeo', '--insecure-policy', 'copy', '-q', '--dest-tls-verify=false', '--digestfile', digests];
    await mustRun([...copy, `oci-archive:${file}`, `docker://${name}`]);
    const digest = (await mustRun(['cat', digests])).trim();
    return { name, repository, digest, byDigest: `${server.host}/${repository}@${digest}` };
  };
  const expectPull = async ({ name }: Published) => {
    const namespace = fresh();
    expect(await gantry(namespace, 'pull', name)).toMatchObject({ exitCode: 0, stderr: '' });
    const ran = await gantry(namespace, 'run', '--rm', name, `c${namespace}`, 'echo', 'hello');
    expect(ran).toEqual({ exitCode: 0, stdout: 'hello\n', stderr: '' });
  };
  const expectNoPull = async ({ name, digest }: Published, words: string) => {
    const namespace = fresh();
    const { exitCode, stderr } = await gantry(namespace, 'pull', name);
    expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: expect.stringMatching(words) });
    expect(stderr).toContain(`image "${name}" with digest ${digest}: the trust policy refuses it`);
    expect((await gantry(namespace, 'content', 'ls', '-q')).stdout).toBe('');
  };

  beforeAll(async () => {
    mkdirSync(directory);
    program = await unpackedCosign();
    for (const name of ['team', 'stranger']) await cosign('generate-key-pair', '--output-key-prefix', name);
    writeFileSync(path('predicate.json'), '{}');
    layer = path('layer.tar');
    await writeLayerTar(layer, await busyboxEntries());
    server = await RegistryServer.start(path('registry'));
    const rule = (repositories: string, more = '') =>
      `[[trust.rules]]\nmatch = "${server.host}/${repositories}"\nrequire = "signature"\n` +
      `keys = ["${path('team.pub')}"]\n${more}\n`;
    writeFileSync(
      path('config.toml'),
      rule('team/*') +
        rule('tested/*', 'predicates = ["https://example.com/tested"]') +
        rule('named/*', `signed_as = "${server.host}/named/app"`),
    );
    daemon = await startGantryd({ args: ['--config', path('config.toml')] });
  }, TIMEOUT_MS);
  afterAll(async () => {
    await daemon?.destroy();
    await server?.kill();
    rmSync(directory, { recursive: true, force: true });
  }, TIMEOUT_MS);

  test('what is signed under the tag beside the image is pulled and run', async () => {
    const [image, several] = [await publish('team/tagged'), await publish('team/several')];
    await sign('team', image);
    await sign('stranger', several);
    await sign('team', several, '-a', 'reviewed=yes');

    await expectPull(image);
    await expectPull(several);
  });

  test('what is signed in a referrer, or in a bundle, is pulled and run', async () => {
    const [referred, stated, message] = [
      await publish('team/referred'),
      await publish('team/stated'),
      await publish('team/message'),
    ];
    env['COSIGN_EXPERIMENTAL'] = '1';
    await sign('team', referred, '--registry-referrers-mode=oci-1-1');
    delete env['COSIGN_EXPERIMENTAL'];
    await attest('stranger', stated, SIGN);
    await attest('team', stated, SIGN);
    // cosign has no command that puts such a bundle beside an image.
    const registry = new SigningRegistry(server.host);
    const { bytes } = await registry.manifest(message.repository, message.digest);
    writeFileSync(path('manifest.json'), bytes);
    const file = path('manifest.bundle');
    await cosign('sign-blob', ...offline('team'), '--new-bundle-format', '--bundle', file, path('manifest.json'));
    const bundle = Buffer.from(await mustRun(['cat', file]));
    const descriptor = { mediaType: BUNDLE, digest: digestOf(bundle), size: bundle.length };
    await registry.refer(message.repository, message.digest, [{ descriptor, bytes: bundle }]);

    await expectPull(referred);
    await expectPull(stated);
    await expectPull(message);
  });

  test('what is not signed, by somebody else, or for another image is refused', async () => {
    const [unsigned, stranger, stated, moved, signed] = [
      await publish('team/unsigned'),
      await publish('team/stranger'),
      await publish('team/stranger-stated'),
      await publish('team/moved'),
      await publish('team/signed'),
    ];
    await sign('stranger', stranger);
    await attest('stranger', stated, SIGN);
    // The good signature of one image under the tag of another one.
    await sign('team', signed);
    const tagOf = ({ repository, digest }: Published) =>
      `docker://${server.host}/${repository}:${digest.replace(':', '-')}.sig`;
    const copy = ['skopeo', '--insecure-policy', 'copy', '-q', '--src-tls-verify=false', '--dest-tls-verify=false'];
    await mustRun([...copy, tagOf(signed), tagOf(moved)]);

    await expectNoPull(unsigned, 'no signature was found in');
    await expectNoPull(stranger, 'no signature counts of 1 .*it is not made with a key of the rule');
    await expectNoPull(stated, 'no signature counts of 1 .*it is not made with a key of the rule');
    await expectNoPull(moved, `no signature counts of 1 .*it is for another image, ${signed.digest}`);
    await expectPull(signed);
  });

  test('what is stated, and for which name, counts where the rule says so', async () => {
    const [failed, tested, app, other] = [
      await publish('team/failed'),
      await publish('tested/app'),
      await publish('named/app'),
      await publish('named/other'),
    ];
    for (const image of [failed, tested]) await attest('team', image, 'https://example.com/tested');
    await attest('team', app, SIGN);
    await sign('team', other);

    await expectNoPull(failed, 'no signature counts of 1 .*it states "https://example.com/tested"');
    await expectPull(tested);
    await expectPull(app);
    await expectNoPull(other, `it is for the name "${server.host}/named/other"`);
  });

  test('what was saved with its signatures is imported and run where no registry is', async () => {
    const [image, stranger] = [await publish('team/saved'), await publish('team/stranger-saved')];
    await sign('team', image);
    await sign('stranger', stranger);
    const saved = async ({ byDigest, repository }: Published) => {
      const directory = path(`${repository.replace('/', '-')}-saved`);
      await cosign('save', '--allow-http-registry', '--dir', directory, byDigest);
      await mustRun(['tar', '-C', directory, '-cf', `${directory}.tar`, 'blobs', 'index.json', 'oci-layout']);
      return `${directory}.tar`;
    };
    const archives = [await saved(image), await saved(stranger)] as const;
    const namespace = fresh();
    const importAs = ({ name }: Published, file: string) => gantry(namespace, 'images', 'import', '--name', name, file);
    const run = ({ name }: Published) => gantry(namespace, 'run', '--rm', name, `c${fresh()}`, 'echo', 'hello');

    await server.kill();
    try {
      expect(await importAs(image, archives[0])).toMatchObject({ exitCode: 0, stderr: '' });
      expect(await importAs(stranger, archives[1])).toMatchObject({ exitCode: 0, stderr: '' });

      expect(await run(image)).toEqual({ exitCode: 0, stdout: 'hello\n', stderr: '' });
      expect((await run(stranger)).stderr).toMatch(/the trust policy refuses it by .*permission denied/);
    } finally {
      await server.resume();
    }
  });
});
