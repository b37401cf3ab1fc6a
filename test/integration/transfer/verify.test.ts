// gantry images verify between a daemon and Debian's docker-registry: what is damaged is found, fetched and unpacked again,
// while others use the image.

import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startGantryd, temporaryDirectory } from '../../setup/daemons';
import { describeUnless } from '../../setup/needs';
import { missingForCli, PEER, useDaemon } from '../cli/fixture';
import { FaultyProxy } from '../registry/faulty-proxy';
import { missingForRegistry, RegistryServer } from '../registry/server';
import { layout, multiLayout } from './layout';

const TIMEOUT_MS = 120_000;
const MACHINE = process.arch === 'x64' ? 'amd64' : process.arch;
const OTHER = MACHINE === 'arm64' ? 'amd64' : 'arm64';
const peer = PEER === undefined ? undefined : "needs gantryd's own service";

interface Part {
  readonly image: string;
  readonly kind: string;
  readonly key: string;
  readonly state: string;
  readonly detail: string;
}

jest.setTimeout(TIMEOUT_MS);

describeUnless(missingForCli() ?? missingForRegistry() ?? peer)('gantry images verify', () => {
  const { daemon, run, archives } = useDaemon();
  let server: RegistryServer;
  let serial = 0;

  beforeAll(async () => {
    server = await RegistryServer.start(join(daemon.directory, 'registry'));
  }, TIMEOUT_MS);
  afterAll(() => server?.kill(), TIMEOUT_MS);

  const root = (...names: string[]) => join(daemon.directory, 'root', ...names);
  const fileOf = (digest: string) => root('io.containerd.content.v1.content/blobs', digest.replace(':', '/'));
  const snapshots = root('io.containerd.snapshotter.v1.overlayfs/snapshots');
  const fresh = () => {
    serial += 1;
    return `verify${serial}`;
  };

  /** Pulls an image of its own into a namespace of its own. */
  async function pulled(...flags: string[]) {
    const namespace = fresh();
    const name = `${server.host}/test/${namespace}:1`;
    const files = [[[`a-${namespace}`, 'lower']], [[`b-${namespace}`, 'upper']]] as const;
    const made = await layout({ name, layers: files });
    const archive = join(archives.directory, `${namespace}.tar`);
    writeFileSync(archive, made.tar);
    await run('-n', 'publish', 'images', 'import', '--no-unpack', archive);
    expect(await run('-n', 'publish', 'push', name)).toMatchObject({ code: 0, stderr: '' });
    await run('-n', 'publish', 'images', 'rm', '--sync', name);
    expect(await run('-n', namespace, 'pull', ...flags, name)).toMatchObject({ code: 0, stderr: '' });
    const gantry = (...args: string[]) => run('-n', namespace, ...args);
    const [image] = JSON.parse((await gantry('images', 'inspect', name)).stdout);
    const { digest: config } = image.manifest.config as { digest: string };
    return { ...made, config, name, namespace, gantry };
  }
  const verify = async (namespace: string, ...args: string[]) => {
    const { code, stdout, stderr } = await run('-n', namespace, 'images', 'verify', '--format', 'json', ...args);
    const parts: Part[] = stdout === '' ? [] : JSON.parse(stdout);
    return { code, stderr, parts, bad: parts.filter(({ state }) => state !== 'good') };
  };

  test('a whole image is good: manifest, configuration, layers and snapshots', async () => {
    const { name, namespace, manifest, config, layers, gantry } = await pulled();

    const { code, stderr, parts } = await verify(namespace, name);
    const table = await gantry('images', 'verify', '--all');

    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(parts.map(({ kind, state }) => `${kind} ${state}`)).toEqual([
      'manifest good',
      'config good',
      'layer good',
      'layer good',
      'snapshots/overlayfs good',
      'snapshots/overlayfs good',
    ]);
    expect(parts.slice(0, 4).map(({ key }) => key)).toEqual([manifest, config, ...layers]);
    expect(table.stdout).toMatch(/^IMAGE +KIND +KEY +SIZE +STATE +DETAIL\n/);
    expect(table).toMatchObject({ code: 0, stderr: '' });
  });

  test.each([
    ['other bytes', 'corrupt', /^its bytes are those of sha256:/, flip],
    ['fewer bytes', 'corrupt', /^its file has 7 bytes in place of \d+$/, (file: string) => truncateSync(file, 7)],
    ['no file', 'missing', /^its file is gone$/, (file: string) => rmSync(file)],
  ])('a layer with %s is found, and fetched again', async (_, state, detail, damage) => {
    const { name, namespace, layers, gantry } = await pulled();
    const [layer = ''] = layers;
    const whole = readFileSync(fileOf(layer));
    damage(fileOf(layer));

    const found = await verify(namespace, name);
    const repaired = await verify(namespace, '--repair', name);
    const after = await verify(namespace, name);

    expect(found.code).toBe(1);
    expect(found.bad).toEqual([
      { image: name, kind: 'layer', key: layer, size: whole.length, state, detail: expect.stringMatching(detail) },
    ]);
    expect(found.stderr).toBe(
      `gantry: 1 of 6 parts are damaged, of ${name}: --repair fetches it again from the registry\n`,
    );
    expect(repaired).toMatchObject({ code: 0, stderr: '1 repaired\n' });
    expect(repaired.bad).toMatchObject([{ key: layer, state: 'repaired', detail: expect.stringMatching(detail) }]);
    expect(after).toMatchObject({ code: 0, bad: [] });
    expect(readFileSync(fileOf(layer))).toEqual(whole);
    expect((await gantry('leases', 'ls', '-q')).stdout).toBe('');
  });

  test.each(['manifest', 'config'] as const)('a damaged %s comes again, with all that it leads to', async (kind) => {
    const made = await pulled();
    const { name, namespace, gantry } = made;
    flip(fileOf(made[kind]));

    const found = await verify(namespace, name);
    const repaired = await verify(namespace, '--repair', name);
    await run('gc', 'run');

    expect(found.bad.map((part) => `${part.kind} ${part.state}`)).toEqual([`${kind} corrupt`]);
    expect(repaired).toMatchObject({ code: 0, bad: [{ kind, state: 'repaired' }] });
    // Collection still knows what the image refers to.
    expect(await verify(namespace, name)).toMatchObject({ code: 0, bad: [] });
    expect((await gantry('images', 'check')).stdout).toMatch(/complete +4\/4 +true/);
  });

  test('progress tells of every blob that is read, and of what is fetched and unpacked again', async () => {
    const { name, namespace, manifest, config, layers, gantry } = await pulled();
    const told = (stderr: string) =>
      stderr
        .split('\n')
        .filter((text) => text.startsWith('{'))
        .map((text): { event: string; name: string; parents: string[] } => JSON.parse(text));

    const good = told((await verify(namespace, '--progress', 'json', name)).stderr);
    writeFileSync(fileOf(layers[1] ?? ''), 'not what it was');
    const plain = await gantry('images', 'verify', '--progress', 'plain', name);
    const repaired = told((await verify(namespace, '--repair', '--progress', 'json', name)).stderr);

    const names = [`manifest-${manifest}`, `config-${config}`, ...layers.map((layer) => `layer-${layer}`)];
    const read = names.flatMap((part) => [`reading ${part}`, `good ${part}`]);
    expect(good.map(({ event, name: part }) => `${event} ${part}`.trim())).toEqual([
      `Verifying ${name}`,
      ...read,
      `Verified ${name}`,
    ]);
    expect(good.at(-2)?.parents).toEqual([`manifest-${manifest}`]);
    expect({ code: plain.code, stderr: plain.stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(
        /^layer [0-9a-f]{12}: good\nlayer [0-9a-f]{12}: reading.*\nlayer [0-9a-f]{12}: corrupt\n/m,
      ),
    });
    const last = repaired.filter(({ name: part }) => part === `layer-${layers[1]}`).map(({ event }) => event);
    expect([last[0], last.at(-1)]).toEqual(['reading', 'repaired']);
    expect(last).toContain('downloading');
    expect(last).not.toContain('already exists');
  });

  test('a blob whose record is gone is fetched like any other', async () => {
    const { name, namespace, layers, gantry } = await pulled();
    await gantry('content', 'rm', layers[1] ?? '');

    const found = await verify(namespace, name);
    const repaired = await verify(namespace, '--repair', name);

    expect(found.bad).toMatchObject([{ key: layers[1], state: 'missing', detail: 'the namespace has no such blob' }]);
    expect(repaired).toMatchObject({ code: 0, bad: [{ key: layers[1], state: 'repaired' }] });
  });

  test('snapshots whose directory or record is gone are unpacked again', async () => {
    const { name, namespace, gantry } = await pulled();
    const ids = readdirSync(snapshots)
      .map(Number)
      .sort((a, b) => a - b);
    const names = (await gantry('snapshots', 'ls', '-q')).stdout.trim().split('\n');
    rmSync(join(snapshots, String(ids.at(-2))), { recursive: true });

    const found = await verify(namespace, name);
    const repaired = await verify(namespace, '--repair', name);
    const [top = ''] = (await verify(namespace, name)).parts.slice(-1).map(({ key }) => key);
    const removed = await gantry('snapshots', 'rm', top);
    const withoutTop = await verify(namespace, name);
    const again = await verify(namespace, '--repair', name);
    const ran = await gantry('run', '--rm', name, 'c', '/nothing');

    expect(found.bad).toMatchObject([
      { kind: 'snapshots/overlayfs', state: 'missing', detail: 'its directory is gone' },
    ]);
    expect(repaired.code).toBe(0);
    expect(repaired.bad.map(({ state }) => state)).toContain('repaired');
    expect(removed.code).toBe(0);
    // The one below may have been collected meanwhile.
    expect(withoutTop.bad.at(-1)).toMatchObject({ key: top, detail: 'the namespace has no such snapshot' });
    expect(again.code).toBe(0);
    expect(again.bad.at(-1)).toMatchObject({ key: top, state: 'repaired' });
    expect((await gantry('snapshots', 'ls', '-q')).stdout.trim().split('\n')).toEqual(names);
    expect(ran.code).toBe(127);
  });

  test('a lost snapshot that others are on top of is left, and says why', async () => {
    const { name, namespace, gantry } = await pulled();
    const ids = readdirSync(snapshots)
      .map(Number)
      .sort((a, b) => a - b);
    const lowest = ids.at(-2);
    await gantry('snapshots', 'view', 'look', (await verify(namespace, name)).parts.at(-1)?.key ?? '');
    rmSync(join(snapshots, String(lowest)), { recursive: true });

    const { code, bad } = await verify(namespace, '--repair', name);
    const left = (await gantry('snapshots', 'ls', '-q')).stdout.trim().split('\n');
    await gantry('snapshots', 'rm', 'look');

    expect(code).toBe(1);
    expect(bad).toMatchObject([
      { state: 'missing', detail: expect.stringMatching(/its directory is gone; .*cannot remove snapshot with child/) },
    ]);
    expect(left).toHaveLength(3);
    expect(await verify(namespace, '--repair', name)).toMatchObject({ code: 0 });
  });

  test('of an index counts what is here, or what is asked for', async () => {
    const [namespace, name] = [fresh(), `${server.host}/test/index:1`];
    const made = await multiLayout(name, { [MACHINE]: [[['mine', '1']]], [OTHER]: [[['other', '2']]] });
    const archive = join(archives.directory, 'index.tar');
    writeFileSync(archive, made.tar);
    await run('-n', 'publish', 'images', 'import', '--no-unpack', archive);
    expect(await run('-n', 'publish', 'push', name)).toMatchObject({ code: 0 });
    await run('-n', 'publish', 'images', 'rm', '--sync', name);
    await run('-n', namespace, 'pull', name);
    const other = made.images[OTHER]?.layers[0]?.digest ?? '';

    const here = await verify(namespace, name);
    const all = await verify(namespace, '--all-platforms', name);
    const one = await verify(namespace, '--platform', `linux/${OTHER}`, name);
    const repaired = await verify(namespace, '--platform', `linux/${OTHER}`, '--repair', name);
    const now = await verify(namespace, '--all-platforms', name);

    expect(here).toMatchObject({ code: 0, bad: [] });
    expect(here.parts.filter(({ kind }) => kind === 'manifest')).toHaveLength(2);
    expect(all.bad).toMatchObject([{ key: other, state: 'missing' }]);
    expect(one.bad).toMatchObject([{ key: other, state: 'missing' }]);
    expect(repaired).toMatchObject({ code: 0, bad: [{ key: other, state: 'repaired' }] });
    expect(now).toMatchObject({ code: 0, bad: [] });
  });

  test('what cannot be repaired says why, and another name to repair from can be given', async () => {
    const { name, namespace, layers, gantry } = await pulled();
    const [layer = ''] = layers;
    await gantry('images', 'tag', name, 'local.test/copy:1');
    await gantry('images', 'rm', name);
    const gone = '127.0.0.1:1/test/copy:1';
    flip(fileOf(layer));

    const alone = await verify(namespace, '--repair', '--from', gone, 'local.test/copy:1');
    const from = await verify(namespace, '--repair', '--from', name, 'local.test/copy:1');

    expect(alone).toMatchObject({
      code: 1,
      stderr: 'gantry: 1 of 6 parts are damaged, of local.test/copy:1: see DETAIL\n',
    });
    expect(alone.bad).toMatchObject([
      {
        key: layer,
        state: 'corrupt',
        detail: expect.stringMatching(/; it cannot be fetched again: .*nothing listens/),
      },
    ]);
    expect(from).toMatchObject({ code: 0, bad: [{ key: layer, state: 'repaired' }] });
  });

  test('one image that cannot be repaired does not keep others from it', async () => {
    const { name, namespace, layers, gantry } = await pulled();
    const odd = 'made.invalid/UPPER:1';
    const { tar } = await layout({ name: odd, layers: [[['file', 'of nobody']]] });
    const archive = join(archives.directory, 'odd.tar');
    writeFileSync(archive, tar);
    await gantry('images', 'import', archive);
    const whole = await verify(namespace, '--all', '--repair');
    const own = whole.parts.find((part) => part.image === odd && part.kind === 'layer')?.key ?? '';
    for (const layer of [own, layers[0] ?? '']) rmSync(fileOf(layer));

    const { code, stderr, bad } = await verify(namespace, '--all', '--repair');

    expect(whole).toMatchObject({ code: 0, stderr: '', bad: [] });
    expect(code).toBe(1);
    expect(stderr).toBe(`1 repaired\ngantry: 1 of 10 parts are damaged, of ${odd}: see DETAIL\n`);
    expect(bad.map(({ image, key, state }) => `${image} ${key} ${state}`).sort()).toEqual(
      [`${odd} ${own} missing`, `${name} ${layers[0]} repaired`].sort(),
    );
    expect(bad.find(({ image }) => image === odd)?.detail).toMatch(/cannot be fetched again: .*UPPER/);
  });

  test('a pull brings again what a verification found to be corrupt', async () => {
    const { name, namespace, layers, gantry } = await pulled();
    const [layer = ''] = layers;
    flip(fileOf(layer));
    expect((await verify(namespace, name)).code).toBe(1);

    expect(await gantry('pull', name)).toMatchObject({ code: 0, stderr: '' });

    expect(await verify(namespace, name)).toMatchObject({ code: 0, bad: [] });
  });

  test('wrong bytes from the registry repair nothing and spoil nothing', async () => {
    const { name, namespace, layers } = await pulled();
    const [layer = ''] = layers;
    const proxy = await FaultyProxy.start(server.port);
    proxy.plan = ({ url }) => (url?.endsWith(layer) === true ? { kind: 'corrupt', atByte: 5 } : undefined);
    rmSync(fileOf(layer));

    const from = name.replace(server.host, proxy.host);
    const bad = await verify(namespace, '--repair', '--from', from, name);
    await proxy.close();

    expect(bad).toMatchObject({ code: 1, bad: [{ key: layer, state: 'missing' }] });
    expect(existsSync(fileOf(layer))).toBe(false);
    expect(await verify(namespace, '--repair', name)).toMatchObject({ code: 0 });
  });

  test('a registry that wants a login gets it', async () => {
    const guarded = await RegistryServer.start(join(daemon.directory, 'guarded'), { users: { me: 'secret' } });
    try {
      const { name, namespace, layers, gantry } = await pulled();
      const target = `${guarded.host}/test/private:1`;
      await gantry('push', '--user', 'me:secret', name, target);
      rmSync(fileOf(layers[0] ?? ''));

      const refused = await verify(namespace, '--repair', '--from', target, name);
      const given = await verify(namespace, '--repair', '--from', target, '--user', 'me:secret', name);

      expect(refused.bad[0]?.detail).toMatch(/401/);
      expect(given).toMatchObject({ code: 0, bad: [{ key: layers[0], state: 'repaired' }] });
      expect(await run('images', 'verify', '--all', '--user', 'me:secret')).toMatchObject({ code: 2 });
    } finally {
      await guarded.kill();
    }
  });

  test('what the trust policy refuses is verified, but not repaired', async () => {
    const { name, layers } = await pulled();
    const directory = temporaryDirectory('trust');
    const config = join(directory, 'config.toml');
    writeFileSync(config, '');
    const strict = await startGantryd({ directory, args: ['--config', config] });
    try {
      const ask = (...args: string[]) => run('--address', strict.address, '-n', strict.namespace, ...args);
      const file = join(strict.root, 'io.containerd.content.v1.content/blobs', (layers[0] ?? '').replace(':', '/'));
      expect(await ask('pull', '--no-unpack', name)).toMatchObject({ code: 0 });
      await strict.stop();
      writeFileSync(config, `[[trust.rules]]\nmatch = "${server.host}/**"\nrequire = "reject"\n`);
      await strict.start();
      rmSync(file);

      const found = await ask('images', 'verify', name);
      const refused = await ask('images', 'verify', '--repair', name);

      expect(found).toMatchObject({ code: 1, stderr: expect.stringContaining('1 of 4 parts are damaged') });
      expect(refused).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringContaining('trust policy refuses it'),
      });
      expect(existsSync(file)).toBe(false);
    } finally {
      await strict.destroy();
    }
  });

  test('names that are wrong, and flags that do not go together', async () => {
    expect(await run('images', 'verify', 'nothing')).toMatchObject({ code: 4 });
    expect(await run('images', 'verify')).toMatchObject({ code: 2 });
    expect(await run('images', 'verify', '--all', 'busybox')).toMatchObject({ code: 2 });
    expect(await run('images', 'verify', '--from', 'x', 'busybox')).toMatchObject({ code: 2 });
  });
});

/** Another byte in the middle; the size stays. */
function flip(file: string): void {
  const bytes = readFileSync(file);
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  chmodSync(file, 0o644);
  writeFileSync(file, bytes);
}
