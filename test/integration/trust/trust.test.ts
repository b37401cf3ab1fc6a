// The trust policy of a real daemon before a real registry: what is signed is pulled, imported and run, what is not leaves
// nothing behind, by whichever client it comes.

import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { busyboxEntries } from '../../images/busybox';
import { writeImage, writeLayerTar } from '../../images/oci-image';
import { bundle, makeSigner, messageBundle, type SignatureBlob, simpleSignature } from '../../images/signatures';
import { type CommandResult, runCommand } from '../../setup/command';
import { startGantryd, type TestDaemon } from '../../setup/daemons';
import { describeUnless } from '../../setup/needs';
import { missingForCli } from '../cli/fixture';
import { FaultyProxy } from '../registry/faulty-proxy';
import { missingForRegistry, RegistryServer } from '../registry/server';
import { addSignature } from './signed-archive';
import { SigningRegistry } from './signing-registry';

const GANTRY = resolve(__dirname, '../../../dist/bin/gantry');
const TIMEOUT_MS = 180_000;

describeUnless(missingForCli() ?? missingForRegistry())('the trust policy', () => {
  /** Made by the first step, so that a skipped test leaves nothing. */
  const directory = join(tmpdir(), `gantry-trust-${randomBytes(6).toString('hex')}`);
  const team = makeSigner();
  let daemon: TestDaemon;
  let server: RegistryServer;
  let proxy: FaultyProxy;
  let registry: SigningRegistry;
  let layer: string;
  let serial = 0;

  const path = (name: string) => join(directory, name);
  const gantry = (namespace: string, ...args: string[]) =>
    runCommand([GANTRY, '-n', namespace, ...args], {
      env: {
        ...process.env,
        GANTRY_ADDRESS: daemon.address,
        GANTRY_FIFO_DIR: path('fifo'),
        GANTRY_LOG_DIR: path('log'),
      },
      timeoutMs: TIMEOUT_MS,
    });
  const ctr = (namespace: string, ...args: string[]) =>
    runCommand(['/usr/bin/ctr', '-a', daemon.address, '-n', namespace, ...args], { timeoutMs: TIMEOUT_MS });
  const fresh = () => {
    serial += 1;
    return `${daemon.namespace}${serial}`;
  };

  /** Starts the daemon anew with this policy. */
  const restart = async (policy: string) => {
    await daemon.stop();
    writeFileSync(path('config.toml'), policy);
    await daemon.start();
  };
  const rule = (repositories: string, demand: string) =>
    `[[trust.rules]]\nmatch = "${proxy.host}/${repositories}"\n${demand}\n`;
  const signatureRule = (key = 'team.pem') => rule('team/*', `require = "signature"\nkeys = ["${path(key)}"]`);

  /** An archive with an image of its own. */
  const archive = async (name: string) => {
    serial += 1;
    const file = path(`image${serial}.tar`);
    const defaults = { Cmd: ['/bin/sh'], Env: ['PATH=/bin', `IMAGE=${serial}`], WorkingDir: '/' };
    await writeImage(file, { name, layerTars: [layer], defaults });
    return file;
  };
  /** Puts an image of its own into the registry. @returns its name, repository and digest */
  const publish = async (repository: string) => {
    const name = `${proxy.host}/${repository}:1`;
    const source = `made.invalid/${repository}:1`;
    const namespace = fresh();
    expect(await gantry(namespace, 'images', 'import', '--no-unpack', await archive(source))).toMatchObject({
      exitCode: 0,
    });
    expect(await gantry(namespace, 'push', source, name)).toMatchObject({ exitCode: 0, stderr: '' });
    const digest = (await gantry(namespace, 'images', 'ls', '--format', 'json')).stdout;
    return { name, repository, digest: JSON.parse(digest)[0].target.digest as string };
  };
  const publishSigned = async (repository: string, ...signatures: ((digest: string) => SignatureBlob)[]) => {
    const image = await publish(repository);
    await registry.sign(
      repository,
      image.digest,
      signatures.map((make) => make(image.digest)),
    );
    return image;
  };
  const run = (namespace: string, name: string) =>
    gantry(namespace, 'run', '--rm', name, `c${fresh()}`, 'echo', 'hello');
  const refused = (words: string) => ({
    exitCode: 1,
    stderr: expect.stringMatching(new RegExp(`${words}.*permission denied`)),
  });

  /** The pull fails with these words and leaves nothing, nor has it asked for a layer or a configuration. */
  const expectNoPull = async (name: string, words: string) => {
    const namespace = fresh();
    proxy.requests.length = 0;
    const pulled = await gantry(namespace, 'pull', name);
    expect(pulled).toMatchObject(refused(words));
    expect(
      proxy.requests.map(({ url }) => url).filter((url) => url.includes('/blobs/sha256:') && !isSignature(url)),
    ).toEqual([]);
    expect((await gantry(namespace, 'images', 'ls', '-q')).stdout).toBe('');
    expect((await gantry(namespace, 'content', 'ls', '-q')).stdout).toBe('');
    expect((await gantry(namespace, 'snapshots', 'ls', '-q')).stdout).toBe('');
    return pulled;
  };
  const signatureBlobs = new Set<string>();
  const isSignature = (url: string) => [...signatureBlobs].some((digest) => url.endsWith(digest));
  const known = (make: (digest: string) => SignatureBlob) => (digest: string) => {
    const made = make(digest);
    signatureBlobs.add(made.descriptor.digest);
    return made;
  };
  const byTeam = known((digest) => simpleSignature(team, digest));

  beforeAll(async () => {
    mkdirSync(directory);
    layer = path('layer.tar');
    await writeLayerTar(layer, await busyboxEntries());
    writeFileSync(path('team.pem'), team.publicPem);
    writeFileSync(path('config.toml'), '');
    server = await RegistryServer.start(path('registry'));
    proxy = await FaultyProxy.start(server.port);
    registry = new SigningRegistry(server.host);
    daemon = await startGantryd({ args: ['--config', path('config.toml')] });
  }, TIMEOUT_MS);
  afterEach(() => {
    proxy.plan = () => undefined;
  });
  afterAll(async () => {
    await proxy?.close();
    await server?.kill();
    await daemon?.destroy();
    rmSync(directory, { recursive: true, force: true });
  }, TIMEOUT_MS);

  test(
    'an image with a good signature of any form is pulled and run; it is proved for good',
    async () => {
      const cosign = await publishSigned(
        'team/cosign',
        known((digest) => simpleSignature(makeSigner(), digest)),
        byTeam,
      );
      const referred = await publish('team/referred');
      await registry.refer(referred.repository, referred.digest, [
        bundle(makeSigner(), referred.digest),
        bundle(team, referred.digest),
      ]);
      const first = await publish('team/first');
      const type = 'application/vnd.dev.cosign.artifact.sig.v1+json';
      await registry.refer(first.repository, first.digest, [byTeam(first.digest)], type);
      const message = await publish('team/message');
      const { bytes } = await registry.manifest(message.repository, message.digest);
      await registry.refer(message.repository, message.digest, [messageBundle(team, bytes)]);
      await restart(signatureRule());
      const namespace = fresh();

      for (const { name } of [cosign, referred, first, message]) {
        expect(await gantry(namespace, 'pull', name)).toMatchObject({ exitCode: 0, stderr: '' });
        expect(await run(namespace, name)).toEqual({ exitCode: 0, stdout: 'hello\n', stderr: '' });
      }

      await daemon.stop();
      await daemon.start();
      proxy.plan = () => ({ kind: 'answer', status: 500 });
      expect(await run(namespace, referred.name)).toMatchObject({ exitCode: 0, stdout: 'hello\n' });
    },
    TIMEOUT_MS,
  );

  test(
    'an image without a good signature is refused before anything of it is fetched',
    async () => {
      const unsigned = await publish('team/unsigned');
      const stranger = await publishSigned(
        'team/stranger',
        known((digest) => simpleSignature(makeSigner(), digest)),
      );
      const other = await publishSigned(
        'team/other',
        known(() => simpleSignature(team, unsigned.digest)),
      );
      const free = await publish('free/unsigned');
      await restart(signatureRule());

      const { stderr } = await expectNoPull(unsigned.name, 'no signature was found in');
      expect(stderr).toContain(
        `image "${unsigned.name}" with digest ${unsigned.digest}: the trust policy refuses it by rule "${proxy.host}/team/*": ` +
          `no signature was found in namespace "${daemon.namespace}`,
      );
      await expectNoPull(`${proxy.host}/team/unsigned@${unsigned.digest}`, 'no signature was found in');
      await expectNoPull(stranger.name, 'no signature counts of 1 .*it is not made with a key of the rule');
      await expectNoPull(other.name, `no signature counts of 1 .*it is for another image, ${unsigned.digest}`);
      expect(await gantry(fresh(), 'pull', free.name)).toMatchObject({ exitCode: 0 });
    },
    TIMEOUT_MS,
  );

  test(
    'digests are pinned, names rejected, and a registry that fails proves nothing',
    async () => {
      const [pinned, moved, bad, signed] = [
        await publish('pinned/one'),
        await publish('pinned/two'),
        await publish('bad/app'),
        await publishSigned('team/late', byTeam),
      ];
      await restart(
        signatureRule() +
          rule('pinned/*', `require = "digest"\ndigests = ["${pinned.digest}"]`) +
          rule('held/*', 'require = "digest"') +
          rule('bad/*', 'require = "reject"'),
      );

      expect(await gantry(fresh(), 'pull', pinned.name)).toMatchObject({ exitCode: 0 });
      await expectNoPull(moved.name, 'this digest is not in its list');
      await expectNoPull(bad.name, 'it rejects such images');
      const held = await publish('held/app');
      await expectNoPull(held.name, 'the name does not hold this digest');
      expect(await gantry(fresh(), 'pull', `${proxy.host}/held/app@${held.digest}`)).toMatchObject({ exitCode: 0 });
      proxy.plan = ({ url }) => (url?.endsWith('.sig') === true ? { kind: 'answer', status: 403 } : undefined);
      await expectNoPull(signed.name, 'no signature was found in .*403');
    },
    TIMEOUT_MS,
  );

  test(
    'what a client brings by itself is judged when it is run',
    async () => {
      const [unsigned, signed] = [await publish('team/brought'), await publishSigned('team/fine', byTeam)];
      await restart(signatureRule());
      const namespace = fresh();
      const pull = (name: string) => ctr(namespace, 'images', 'pull', '--plain-http', name);

      expect(await pull(unsigned.name)).toMatchObject({ exitCode: 0 });
      expect(await pull(signed.name)).toMatchObject({ exitCode: 0 });
      const denied = await ctr(namespace, 'run', '--rm', unsigned.name, 'denied', 'echo', 'hello');
      expect(denied).toMatchObject(refused('no signature was found in'));
      expect((await ctr(namespace, 'containers', 'ls', '-q')).stdout).toBe('');
      expect(await ctr(namespace, 'run', '--rm', signed.name, 'allowed', 'echo', 'hello')).toMatchObject({
        exitCode: 0,
        stdout: 'hello\n',
      });
    },
    TIMEOUT_MS,
  );

  test(
    'signatures that are in the store count when the registry is away',
    async () => {
      const image = await publishSigned('team/offline', byTeam);
      await restart(signatureRule());
      const namespace = fresh();
      expect(await ctr(namespace, 'images', 'pull', '--plain-http', image.name)).toMatchObject({ exitCode: 0 });
      const tag = `${proxy.host}/${image.repository}:${image.digest.replace(':', '-')}.sig`;
      const fetchSignature = () => ctr(namespace, 'content', 'fetch', '--plain-http', tag);

      proxy.plan = () => ({ kind: 'answer', status: 404 });
      expect(await run(namespace, image.name)).toMatchObject({ stderr: expect.stringContaining('permission denied') });
      proxy.plan = () => undefined;
      expect(await fetchSignature()).toMatchObject({ exitCode: 0 });
      proxy.plan = () => ({ kind: 'answer', status: 404 });

      expect(await run(namespace, image.name)).toMatchObject({ exitCode: 0, stdout: 'hello\n' });
    },
    TIMEOUT_MS,
  );

  test(
    'a policy that is tightened holds for containers that are there, and for those without an image',
    async () => {
      const image = await publishSigned('team/old', byTeam);
      await restart(signatureRule());
      const namespace = fresh();
      expect(await gantry(namespace, 'pull', image.name)).toMatchObject({ exitCode: 0 });
      expect(await ctr(namespace, 'containers', 'create', image.name, 'old', 'echo', 'hello')).toMatchObject({
        exitCode: 0,
      });
      mkdirSync(path('rootfs'), { recursive: true });
      const local = () => ctr(namespace, 'containers', 'create', '--rootfs', path('rootfs'), `local${fresh()}`, 'x');
      writeFileSync(path('new.pem'), makeSigner().publicPem);

      expect(await local()).toMatchObject({ exitCode: 0 });
      await restart(`[trust]\ndefault = "reject"\n${signatureRule('new.pem')}`);

      expect(await ctr(namespace, 'tasks', 'start', 'old')).toMatchObject(refused('not made with a key of the rule'));
      expect(await local()).toMatchObject(refused('image "": the trust policy refuses it by the default'));
      await restart(signatureRule());
      expect(await ctr(namespace, 'tasks', 'start', 'old')).toMatchObject({ exitCode: 0, stdout: 'hello\n' });
      expect(await ctr(namespace, 'images', 'rm', image.name)).toMatchObject({ exitCode: 0 });
      expect(await ctr(namespace, 'tasks', 'start', 'old')).toMatchObject(refused('has no image of this name'));
    },
    TIMEOUT_MS,
  );

  test(
    'an archive is taken with its signatures, and refused without',
    async () => {
      await restart(signatureRule());
      const name = `${proxy.host}/team/archived:1`;
      const bare = await archive(name);
      const signed = path('signed.tar');
      const digest = await addSignature(bare, signed, (image) => simpleSignature(team, image));
      const [namespace, other] = [fresh(), fresh()];

      expect(await gantry(other, 'images', 'import', bare)).toMatchObject(
        refused('no signature was found in the archive'),
      );
      for (const kind of ['images', 'snapshots', 'leases'])
        expect((await gantry(other, kind, 'ls', '-q')).stdout).toBe('');
      expect(await gantry(namespace, 'images', 'import', signed)).toMatchObject({
        exitCode: 0,
        stdout: `${name} ${digest}\n`,
      });
      expect(await run(namespace, name)).toMatchObject({ exitCode: 0, stdout: 'hello\n' });
    },
    TIMEOUT_MS,
  );

  test(
    'a verifier program has its say on pull, import and run',
    async () => {
      const [good, bad] = [await publish('judged/good'), await publish('judged/bad')];
      mkdirSync(path('verifiers'));
      const program = path('verifiers/judge');
      const judge = (names: string) => {
        writeFileSync(program, `#!/bin/sh\ncase "$2" in ${names}) echo "not on $2"; exit 7;; esac\n`);
        chmodSync(program, 0o755);
      };
      judge('*/bad:1');
      await restart(`[trust.verifiers]\nbin_dir = "${path('verifiers')}"\n`);
      const namespace = fresh();

      await expectNoPull(bad.name, `verifier judge rejects it .exit code 7.: not on ${bad.name}`);
      expect(await gantry(namespace, 'images', 'import', await archive('x.invalid/bad:1'))).toMatchObject(
        refused('exit code 7'),
      );
      expect(await gantry(namespace, 'pull', good.name)).toMatchObject({ exitCode: 0 });
      expect(await run(namespace, good.name)).toMatchObject({ exitCode: 0, stdout: 'hello\n' });
      judge('*');
      const denied: CommandResult = await run(namespace, good.name);
      expect(denied.stderr).toContain(`not on ${good.name}: permission denied`);
    },
    TIMEOUT_MS,
  );

  test(
    'a policy that cannot be read keeps the daemon from starting',
    async () => {
      await daemon.stop();
      for (const [policy, words] of [
        [signatureRule('missing.pem'), /\[trust\] of the configuration: public key .*missing.pem: ENOENT/],
        [
          rule('*', `require = "signature"\ntrusted_root = "${path('root.json')}"\nidentity = "i"\nissuer = "u"`),
          /form of a trusted root/,
        ],
      ] as const) {
        writeFileSync(path('config.toml'), policy);
        writeFileSync(path('root.json'), '{"tlogs":[{}]}');
        await expect(daemon.start()).rejects.toThrow('exit status 2');
        expect(daemon.log).toMatch(words);
      }
      await restart('');
    },
    TIMEOUT_MS,
  );
});
