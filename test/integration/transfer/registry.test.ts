// Pull and push between a daemon and Debian's docker-registry on loopback, over the command line: whole images, platforms,
// logins, and what is left when the registry, the network, the client or the daemon fails in the middle.

import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unpackedContainerd } from '../../setup/clients';
import { mustRun, waitFor } from '../../setup/command';
import { describeUnless } from '../../setup/needs';
import { missingForCli, useDaemon } from '../cli/fixture';
import { FaultyProxy } from '../registry/faulty-proxy';
import { missingForRegistry, RegistryServer } from '../registry/server';
import { layout, multiLayout } from './layout';

const TIMEOUT_MS = 120_000;
const MACHINE = process.arch === 'x64' ? 'amd64' : process.arch;
const OTHER = MACHINE === 'arm64' ? 'amd64' : 'arm64';

interface Told {
  readonly event: string;
  readonly name: string;
  readonly parents: readonly string[];
}

describeUnless(missingForCli() ?? missingForRegistry())('pull and push', () => {
  const { daemon, run, archives } = useDaemon();
  let server: RegistryServer;
  let proxy: FaultyProxy;
  let serial = 0;

  beforeAll(async () => {
    server = await RegistryServer.start(join(daemon.directory, 'registry'));
    proxy = await FaultyProxy.start(server.port);
  }, TIMEOUT_MS);
  afterEach(() => {
    proxy.plan = () => undefined;
    proxy.requests.length = 0;
  });
  afterAll(async () => {
    await proxy?.close();
    await server?.kill();
  }, TIMEOUT_MS);

  const fresh = () => {
    serial += 1;
    return `pull${serial}`;
  };
  const told = (stderr: string): Told[] =>
    stderr
      .trim()
      .split('\n')
      .map((text) => JSON.parse(text));
  const leases = async (namespace: string) => (await run('-n', namespace, 'leases', 'ls', '-q')).stdout;
  /** Puts an image with these layers into the registry. */
  const publish = async (name: string, layers: Parameters<typeof layout>[0]['layers']) => {
    const made = await layout({ name: `${server.host}/${name}`, layers });
    const file = join(archives.directory, `${name.replace(/\W/g, '-')}.tar`);
    writeFileSync(file, made.tar);
    const namespace = `publish-${fresh()}`;
    expect((await run('-n', namespace, 'images', 'import', '--no-unpack', file)).code).toBe(0);
    expect(await run('-n', namespace, 'push', `${server.host}/${name}`)).toMatchObject({ code: 0, stderr: '' });
    await run('-n', namespace, 'images', 'rm', '--sync', `${server.host}/${name}`);
    return made;
  };
  const bulk = (bytes: number) => randomBytes(bytes / 2).toString('hex');
  const isBlob = (url: string | undefined, digest: string | undefined) => url?.endsWith(`/blobs/${digest}`) === true;

  test(
    'an image that was pushed is pulled, unpacked and run elsewhere',
    async () => {
      const [name, namespace] = [`${server.host}/test/busybox:1`, fresh()];

      expect(await run('push', 'busybox', name)).toEqual({ code: 0, stdout: `${name}\n`, stderr: '' });
      const pulled = await run('-n', namespace, 'pull', '--label', 'k=v', name);

      expect(pulled).toMatchObject({ code: 0, stderr: '' });
      const [image] = JSON.parse((await run('-n', namespace, 'images', 'ls', '--format', 'json')).stdout);
      expect(pulled.stdout).toBe(`${name} ${image.target.digest}\n`);
      expect(image.labels).toEqual({ k: 'v' });
      expect((await run('-n', namespace, 'images', 'check')).stdout).toMatch(/complete +4\/4 +true/);
      expect((await run('-n', namespace, 'run', '--rm', name, 'c', 'cat', '/etc/group')).stdout).toContain('staff:');
      expect(await leases(namespace)).toBe('');
    },
    TIMEOUT_MS,
  );

  test(
    'progress names every blob with its parents; a second pull finds all of them',
    async () => {
      const { manifest, layers } = await publish('test/progress:1', [[['a', 'a']], [['b', 'b']]]);
      const [name, namespace] = [`${server.host}/test/progress:1`, fresh()];
      const pull = () => run('-n', namespace, 'pull', '--progress', 'json', name);

      const first = told((await pull()).stderr);
      const second = told((await pull()).stderr);

      expect(first.filter(({ name: part }) => part === '').map(({ event }) => event)).toEqual([
        `Resolving from OCI Registry (${name})`,
        `Pulling from OCI Registry (${name})`,
        `Completed pull from OCI Registry (${name})`,
      ]);
      for (const layer of layers) {
        const events = first.filter((entry) => entry.name === `layer-${layer}`);
        expect(events.map(({ event }) => event).filter((event) => event !== 'downloading')).toEqual([
          'waiting',
          'complete',
          'extracting',
          'extracted',
        ]);
        expect(events.at(-1)?.parents).toEqual([`manifest-${manifest}`]);
      }
      expect(first.find((entry) => entry.name === `manifest-${manifest}`)?.parents).toEqual([name]);
      expect(new Set(second.filter((entry) => entry.name.startsWith('layer-')).map(({ event }) => event))).toEqual(
        new Set(['waiting', 'already exists']),
      );
    },
    TIMEOUT_MS,
  );

  test(
    'of an index comes what the platform needs, or all of it',
    async () => {
      const name = `${server.host}/test/multi:1`;
      const made = await multiLayout(name, { [MACHINE]: [[['mine', '1']]], [OTHER]: [[['other', '2']]] });
      const file = join(archives.directory, 'multi.tar');
      writeFileSync(file, made.tar);
      const [all, mine, other] = [fresh(), fresh(), fresh()];
      const blobs = async (namespace: string) => (await run('-n', namespace, 'content', 'ls', '-q')).stdout;
      const layerOf = (architecture: string) => made.images[architecture]?.layers[0]?.digest ?? '';

      expect(await run('-n', all, 'images', 'import', file)).toMatchObject({
        code: 0,
        stdout: `${name} ${made.index}\n`,
      });
      expect(await run('-n', all, 'push', name)).toMatchObject({ code: 0, stderr: '' });
      expect(await run('-n', mine, 'pull', name)).toMatchObject({ code: 0, stdout: `${name} ${made.index}\n` });
      expect(await run('-n', other, 'pull', '--platform', `linux/${OTHER}`, name)).toMatchObject({ code: 0 });

      expect(await blobs(mine)).toContain(layerOf(MACHINE));
      expect(await blobs(mine)).not.toContain(layerOf(OTHER));
      expect(await blobs(mine)).toContain(made.images[OTHER]?.manifest.digest);
      expect(await blobs(other)).toContain(layerOf(OTHER));
      expect(await blobs(other)).not.toContain(layerOf(MACHINE));
      const target = join(archives.directory, 'multi-out.tar');
      const refused = await run('-n', mine, 'images', 'export', '--all-platforms', target, name);
      expect({ code: refused.code, stderr: refused.stderr }).toEqual({
        code: 4,
        stderr: expect.stringContaining(`content digest ${layerOf(OTHER)}: not found`),
      });
      expect((await run('-n', mine, 'images', 'export', target, name)).code).toBe(0);

      expect((await run('-n', mine, 'pull', '--all-platforms', name)).code).toBe(0);
      expect((await run('-n', mine, 'images', 'export', '--all-platforms', target, name)).code).toBe(0);
      const single = `${server.host}/test/single:1`;
      expect((await run('-n', mine, 'push', '--platform', `linux/${OTHER}`, name, single)).code).toBe(0);
      expect((await run('-n', other, 'pull', '--no-unpack', single)).stdout).toBe(
        `${single} ${made.images[OTHER]?.manifest.digest}\n`,
      );
    },
    TIMEOUT_MS,
  );

  test(
    'a layer is unpacked while the next one is still on its way',
    async () => {
      const { layers } = await publish('test/overlap:1', [[['first', 'small']], [['second', bulk(2_000_000)]]]);
      proxy.plan = ({ url }) => (isBlob(url, layers[1]) ? { kind: 'slow', bytesPerSecond: 150_000 } : undefined);

      const { stderr } = await run('-n', fresh(), 'pull', '--progress', 'json', `${proxy.host}/test/overlap:1`);

      const events = told(stderr).map(({ event, name }) => `${event} ${name}`);
      expect(events).toContain(`extracted layer-${layers[0]}`);
      expect(events.indexOf(`extracted layer-${layers[0]}`)).toBeLessThan(
        events.indexOf(`complete layer-${layers[1]}`),
      );
    },
    TIMEOUT_MS,
  );

  test(
    'two pulls at the same time fetch each blob once',
    async () => {
      const { layers } = await publish('test/twice:1', [[['big', bulk(1_000_000)]]]);
      const [name, namespace] = [`${proxy.host}/test/twice:1`, fresh()];
      proxy.plan = ({ url }) => (isBlob(url, layers[0]) ? { kind: 'slow', bytesPerSecond: 300_000 } : undefined);

      const results = await Promise.all([run('-n', namespace, 'pull', name), run('-n', namespace, 'pull', name)]);

      expect(results.map(({ code }) => code)).toEqual([0, 0]);
      expect(proxy.requests.filter(({ method, url }) => method === 'GET' && isBlob(url, layers[0]))).toHaveLength(1);
    },
    TIMEOUT_MS,
  );

  test(
    'after a daemon was killed in the middle, the next pull goes on where it stopped',
    async () => {
      const { layers } = await publish('test/resume:1', [[['big', bulk(3_000_000)]]]);
      const [name, namespace] = [`${proxy.host}/test/resume:1`, fresh()];
      proxy.plan = ({ url }) => (isBlob(url, layers[0]) ? { kind: 'stall', afterBytes: 800_000 } : undefined);
      const { done } = daemon.spawn(['-n', namespace, 'pull', name]);
      const active = async () =>
        JSON.parse((await run('-n', namespace, 'content', 'active', '--format', 'json')).stdout);
      await waitFor('a part', async () => (await active()).some(({ offset }: { offset: number }) => offset > 300_000));

      await daemon.crash();
      expect((await done).code).not.toBe(0);
      await daemon.start();
      proxy.plan = () => undefined;
      proxy.requests.length = 0;
      const again = await run('-n', namespace, 'pull', name);

      expect(again).toMatchObject({ code: 0, stderr: '' });
      const [request] = proxy.requests.filter(({ method, url }) => method === 'GET' && isBlob(url, layers[0]));
      expect(Number(/^bytes=(\d+)-/.exec(request?.headers.range ?? '')?.[1])).toBeGreaterThan(100_000);
      expect((await run('-n', namespace, 'images', 'check')).stdout).toMatch(/complete +3\/3 +true/);
    },
    TIMEOUT_MS,
  );

  test(
    'after the registry was gone in the middle, the next pull fetches only what is missing',
    async () => {
      const { layers } = await publish('test/gone:1', [[['small', 'layer']], [['big', bulk(3_000_000)]]]);
      const [name, namespace] = [`${proxy.host}/test/gone:1`, fresh()];
      let tries = 0;
      proxy.plan = ({ url }) => {
        if (!isBlob(url, layers[1])) return undefined;
        tries += 1;
        return tries === 1 ? { kind: 'drop', afterBytes: 600_000 } : { kind: 'answer', status: 503 };
      };
      const { code, stderr } = await run('-n', namespace, 'pull', name);
      // A collection in between takes what nothing keeps.
      await run('-n', namespace, 'images', 'import', '--no-unpack', archives.oci);
      await run('-n', namespace, 'images', 'rm', '--sync', 'busybox');
      proxy.plan = () => undefined;
      proxy.requests.length = 0;
      const again = await run('-n', namespace, 'pull', name);

      expect({ code, lines: stderr.trim().split('\n').length }).toEqual({ code: 1, lines: 1 });
      expect(again).toMatchObject({ code: 0, stderr: '' });
      const fetched = proxy.requests.filter(({ method, url }) => method === 'GET' && url.includes('/blobs/'));
      expect(fetched.map(({ url }) => url).filter((url) => !isBlob(url, layers[1]))).toEqual([]);
      expect(Number(/^bytes=(\d+)-/.exec(fetched[0]?.headers.range ?? '')?.[1])).toBeGreaterThan(100_000);
    },
    TIMEOUT_MS,
  );

  test(
    'a client that is interrupted takes its pull and its lease with it',
    async () => {
      const { layers } = await publish('test/interrupted:1', [[['big', bulk(3_000_000)]]]);
      const namespace = fresh();
      proxy.plan = ({ url }) => (isBlob(url, layers[0]) ? { kind: 'slow', bytesPerSecond: 100_000 } : undefined);
      const { child, done } = daemon.spawn(['-n', namespace, 'pull', `${proxy.host}/test/interrupted:1`]);
      await waitFor('the pull', () => proxy.requests.some(({ url }) => isBlob(url, layers[0])));

      child.kill('SIGINT');

      expect((await done).code).toBe(130);
      await waitFor('the end of the lease', async () => (await leases(namespace)) === '');
      expect((await run('-n', namespace, 'images', 'ls', '-q')).stdout).toBe('');
    },
    TIMEOUT_MS,
  );

  test(
    'wrong bytes are refused in one sentence, leave no image, and do not spoil the next pull',
    async () => {
      const { layers } = await publish('test/corrupt:1', [[['a', 'good']], [['b', bulk(100_000)]]]);
      const [name, namespace] = [`${proxy.host}/test/corrupt:1`, fresh()];
      proxy.plan = ({ url }) => (isBlob(url, layers[1]) ? { kind: 'corrupt', atByte: 5000 } : undefined);

      const { code, stderr } = await run('-n', namespace, 'pull', name);

      expect(code).toBe(5);
      expect(stderr).toContain(layers[1]);
      expect(stderr.trim().split('\n')).toHaveLength(1);
      expect((await run('-n', namespace, 'images', 'ls', '-q')).stdout).toBe('');
      expect(await leases(namespace)).toBe('');
      proxy.plan = () => undefined;
      expect((await run('-n', namespace, 'pull', name)).code).toBe(0);
    },
    TIMEOUT_MS,
  );

  test(
    'what cannot be reached or found says where and what to do',
    async () => {
      const gone = '127.0.0.1:1';

      expect(await run('pull', `${gone}/test/x:1`)).toMatchObject({ code: 1, stderr: expect.stringContaining(gone) });
      const missing = await run('pull', `${server.host}/test/nothing:1`);
      expect({ code: missing.code, stderr: missing.stderr }).toEqual({
        code: 4,
        stderr: expect.stringMatching(/^gantry: failed to resolve image: .*test\/nothing:1.*404/),
      });
      expect(await run('push', 'busybox', `${gone}/test/x:1`)).toMatchObject({ code: 1 });
      expect(await run('push', 'nothing', `${server.host}/test/x:1`)).toMatchObject({ code: 4 });
      expect(await run('pull', '--platform', 'linux/s390x', '--all-platforms', 'x')).toMatchObject({ code: 2 });
    },
    TIMEOUT_MS,
  );

  test(
    'what is not here is pushed only where the registry has it',
    async () => {
      const [name, namespace] = [`${server.host}/test/partly:1`, fresh()];
      const { layers } = await publish('test/partly:1', [[['a', 'partly']]]);
      expect((await run('-n', namespace, 'pull', name)).code).toBe(0);
      expect((await run('-n', namespace, 'content', 'rm', layers[0] ?? '')).code).toBe(0);

      expect(await run('-n', namespace, 'push', name)).toMatchObject({ code: 0, stderr: '' });
      const elsewhere = await run('-n', namespace, 'push', name, `${server.host}/test/nowhere:1`);

      expect({ code: elsewhere.code, stderr: elsewhere.stderr }).toEqual({
        code: 4,
        stderr: expect.stringContaining(`push test/nowhere@${layers[0]}: it is neither here nor there`),
      });
    },
    TIMEOUT_MS,
  );

  test(
    'a registry that wants a login gets the one that is given, and no other registry does',
    async () => {
      const guarded = await RegistryServer.start(join(daemon.directory, 'guarded'), { users: { me: 'se:cret' } });
      try {
        const name = `${guarded.host}/test/private:1`;

        expect(await run('push', 'busybox', name)).toMatchObject({ code: 1, stderr: expect.stringContaining('401') });
        expect(await run('push', '-u', 'me:wrong', 'busybox', name)).toMatchObject({ code: 1 });
        expect(await run('push', '--user', 'me:se:cret', 'busybox', name)).toMatchObject({ code: 0, stderr: '' });
        expect((await run('-n', fresh(), 'pull', name)).code).toBe(1);
        const pulled = await daemon.pipe('se:cret\n', '-n', fresh(), 'pull', '-u', 'me', '--password-stdin', name);
        expect(pulled).toMatchObject({ code: 0, stderr: '' });
        expect(await run('pull', '-u', 'me', name)).toMatchObject({ code: 2 });
      } finally {
        await guarded.kill();
      }
    },
    TIMEOUT_MS,
  );

  test(
    "Debian's ctr has the daemon push and pull",
    async () => {
      const { ctr } = await unpackedContainerd();
      const [name, namespace] = [`${server.host}/test/ctr:1`, fresh()];
      const call = (...args: string[]) => mustRun([ctr, '--address', daemon.address, ...args]);
      await run('images', 'tag', 'busybox', name);

      await call('images', 'push', '--local=false', name);
      await call('-n', namespace, 'images', 'pull', '--local=false', name);

      // ctr may end before it has drawn the last picture.
      const isDrawn = async () => {
        const printed = await call('-n', namespace, 'images', 'pull', '--local=false', name);
        return printed.includes('saved') && printed.includes('Completed pull from');
      };
      await waitFor('a picture of the completed pull', isDrawn);
      expect((await run('-n', namespace, 'images', 'check')).stdout).toContain('complete');
      expect(await call('-n', namespace, 'run', '--rm', name, 'ctr1', 'echo', 'pulled')).toBe('pulled\n');
      expect(await leases(namespace)).toBe('');
    },
    TIMEOUT_MS,
  );

  test(
    'progress is a picture on a terminal, or lines',
    async () => {
      await publish('test/picture:1', [[['a', 'picture']]]);
      const args = ['-n', fresh(), 'pull', `${server.host}/test/picture:1`];

      const { code, stdout } = await daemon.inTerminal('', ...args);

      expect(code).toBe(0);
      expect(stdout).toMatch(/layer [0-9a-f]{12}/);
      expect(stdout).toContain('Completed pull from OCI Registry');
      const plain = await run('-n', fresh(), 'pull', '--progress', 'plain', `${server.host}/test/picture:1`);
      expect(plain.stderr).toMatch(/^layer [0-9a-f]{12}: extracted$/m);
      expect(plain.stderr).toMatch(/^Completed pull from OCI Registry/m);
    },
    TIMEOUT_MS,
  );
});
