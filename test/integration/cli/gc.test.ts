// gantry gc: what is kept, why, what it takes, and what a collection removes, on a real daemon; and what a daemon without
// gantryd's own service leads to.

import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { installedContainerd } from '../../setup/clients';
import { mustRun } from '../../setup/command';
import { startContainerd } from '../../setup/daemons';
import { describeUnless } from '../../setup/needs';
import { missingForCli, PEER, useDaemon } from './fixture';

const TIMEOUT_MS = 120_000;

jest.setTimeout(TIMEOUT_MS);

describeUnless(missingForCli() ?? (PEER === undefined ? undefined : "needs gantryd's own service"))('gantry gc', () => {
  const { daemon, run, archives } = useDaemon();
  const path = (...names: string[]) => join(daemon.directory, 'root', ...names);
  const blobs = path('io.containerd.content.v1.content/blobs/sha256');
  const snapshots = (name: string) => path(`io.containerd.snapshotter.v1.${name}/snapshots`);
  const json = async (...args: string[]) => JSON.parse((await run(...args, '--format', 'json')).stdout);

  test('why shows the chain to a layer, a snapshot and an image by its short name', async () => {
    const [image] = JSON.parse((await run('images', 'inspect', 'busybox')).stdout);
    const layer = image.manifest.layers[1].digest;
    const top = (await run('snapshots', 'ls', '-q')).stdout.split('\n').find((name) => name !== '') ?? '';

    expect(await json('gc', 'why', 'content', layer)).toEqual([
      { type: 'images', key: image.name, cause: 'image' },
      { type: 'content', key: image.target.digest, cause: 'target' },
      { type: 'content', key: layer, cause: 'containerd.io/gc.ref.content.l.1' },
    ]);
    expect((await json('gc', 'why', 'snapshot', top))[0]).toEqual({ type: 'images', key: image.name, cause: 'image' });
    expect((await run('gc', 'why', 'image', 'busybox')).stdout).toMatch(
      new RegExp(`^TYPE +KEY +BECAUSE\\nimages +${image.name} +image\\n$`),
    );
  });

  test('why says what is not there, what nothing keeps, and what is no kind', async () => {
    // After a collection none comes by itself until something is deleted.
    await run('gc', 'run');
    await run('snapshots', 'prepare', 'loose');
    await run('snapshots', 'label', 'loose', 'containerd.io/gc.root=');

    expect(await run('gc', 'why', 'content', 'sha256:0')).toMatchObject({
      code: 4,
      stderr: 'gantry: content "sha256:0" in namespace "default": not found\n',
    });
    expect(await run('gc', 'why', 'snapshot', '--snapshotter', 'native', 'loose')).toMatchObject({ code: 4 });
    expect(await run('gc', 'why', 'snapshot', 'loose')).toEqual({
      code: 0,
      stdout: '',
      stderr: 'nothing keeps snapshots/overlayfs "loose": the next collection removes it\n',
    });
    expect(await json('gc', 'why', 'snapshot', 'loose')).toEqual([]);
    expect(await run('gc', 'why', 'lease', 'mine')).toMatchObject({ code: 2 });
  });

  test('df tells what is kept, unused and garbage, by namespace', async () => {
    await run('-n', 'second', 'images', 'import', '--no-unpack', archives.oci);
    await run('containers', 'create', 'busybox', 'web');
    // Imports leave the index of their archive.
    await run('gc', 'run');

    const usages: { namespace: string; type: string; count: number; size: number; unusedCount: number }[] = await json(
      'gc',
      'df',
    );
    const table = await run('gc', 'df');

    const of = (namespace: string, type: string) =>
      usages.find((usage) => usage.namespace === namespace && usage.type === type);
    expect(of('default', 'content')).toMatchObject({ count: 4, unusedCount: 0 });
    expect(of('second', 'content')).toMatchObject({ count: 4, unusedCount: 4, size: of('default', 'content')?.size });
    // The file is there once.
    expect(of('', 'content')).toMatchObject({ count: 4, unusedCount: 0, size: of('default', 'content')?.size });
    expect(of('default', 'images')).toMatchObject({ count: 1, unusedCount: 0 });
    expect(of('default', 'snapshots/overlayfs')?.size).toBeGreaterThan(500_000);
    expect(table.stdout).toMatch(/^NAMESPACE +TYPE +COUNT +SIZE +GARBAGE +UNUSED\n/);
    expect(table.stdout).toMatch(/\nsecond +content +4 +\S+ \S+ +- +4, /);
    expect(table).toMatchObject({ code: 0, stderr: '' });
    await run('containers', 'rm', 'web');
    await run('-n', 'second', 'images', 'rm', '--sync', 'busybox');
  });

  test('run collects, and tells how much it has removed', async () => {
    const root = 'containerd.io/gc.root';
    const stored = await daemon.pipe(Buffer.alloc(3 << 20, 'x'), 'content', 'ingest', 'ref1', '-l', `${root}=x`);
    const digest = stored.stdout.trim();
    await run('gc', 'run');
    await run('content', 'label', digest, `${root}=`);

    const { removed, swept, lost, durationNs } = await json('gc', 'run');
    const nothing = await run('gc', 'run');

    expect(removed).toEqual([{ namespace: 'default', type: 'content', count: 1 }]);
    expect(swept.filter(({ count }: { count: number }) => count > 0)).toEqual([
      { type: 'content', count: 1, size: 3 << 20 },
    ]);
    expect({ lost, isTimed: durationNs > 0 }).toEqual({ lost: [], isTimed: true });
    expect(await run('content', 'info', digest)).toMatchObject({ code: 4 });
    expect(nothing.stdout).toMatch(/^nothing to remove\nfreed 0 B in [\d.]+ ms, with a pause of [\d.]+ ms\n$/);
  });

  test('run removes files and directories that no record stands for', async () => {
    const orphan = join(blobs, '1'.repeat(64));
    writeFileSync(orphan, Buffer.alloc(1 << 20));
    for (const name of ['overlayfs', 'native']) {
      mkdirSync(join(snapshots(name), '4711', 'fs'), { recursive: true });
      writeFileSync(join(snapshots(name), '4711', 'fs', 'file'), Buffer.alloc(1 << 20));
    }

    const { code, stdout, stderr } = await run('gc', 'run');

    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^REMOVED +NAMESPACE +TYPE +COUNT +SIZE\n/);
    expect(stdout).toMatch(/\ndata +- +content +1 +1\.0 MiB\n/);
    expect(stdout).toMatch(/\ndata +- +snapshots\/overlayfs +1 +1\.0 MiB\n/);
    expect(stdout).toMatch(/\ndata +- +snapshots\/native +1 +1\.0 MiB\n/);
    expect(stdout).toMatch(/\nfreed 3\.0 MiB in /);
    expect(existsSync(orphan)).toBe(false);
    expect(readdirSync(snapshots('native'))).toEqual([]);
  });

  test('a start removes them too, and both say what has lost its data', async () => {
    const stored = await daemon.pipe('lost', 'content', 'ingest', 'ref2', '-l', 'containerd.io/gc.root=x');
    const digest = stored.stdout.trim();
    for (const snapshotter of ['overlayfs', 'native']) {
      const flags = ['--snapshotter', snapshotter];
      await run('snapshots', 'prepare', ...flags, '-l', 'containerd.io/gc.root=x', 'key');
      const committed = await run('snapshots', 'commit', ...flags, '-l', 'containerd.io/gc.root=x', 'lost', 'key');
      expect(committed).toMatchObject({ code: 0 });
    }
    await daemon.crash();
    const before = readdirSync(snapshots('overlayfs')).map(Number);
    rmSync(join(blobs, digest.slice('sha256:'.length)));
    rmSync(join(snapshots('overlayfs'), String(Math.max(...before))), { recursive: true });
    rmSync(join(snapshots('native'), readdirSync(snapshots('native'))[0] ?? ''), { recursive: true });
    writeFileSync(join(blobs, '2'.repeat(64)), 'orphan');
    mkdirSync(join(snapshots('overlayfs'), '4712'));

    await daemon.start();
    await until(() => !existsSync(join(blobs, '2'.repeat(64))) && !existsSync(join(snapshots('overlayfs'), '4712')));
    await until(() => daemon.log.includes('data is missing'));
    const { lost } = await json('gc', 'run');
    const { code, stderr } = await run('gc', 'run');

    expect(lost).toEqual(
      expect.arrayContaining([
        { namespace: 'default', type: 'content', key: digest },
        { namespace: 'default', type: 'snapshots/overlayfs', key: 'lost' },
        { namespace: 'default', type: 'snapshots/native', key: 'lost' },
      ]),
    );
    expect(lost).toHaveLength(3);
    expect(code).toBe(0);
    expect(stderr).toContain(`content "${digest}" in namespace "default" has lost its data; gantry images verify`);
    expect((await run('content', 'info', digest)).code).toBe(0);
  });

  test('a daemon without the service is told apart from one that fails', async () => {
    const release = await installedContainerd();
    const peer = await startContainerd(release);
    try {
      const ask = (...args: string[]) => run('--address', peer.address, ...args);
      const expected = {
        code: 1,
        stderr: `gantry: the daemon at ${peer.address} does not offer this (gantry.admin.v1.Admin): it takes a gantryd of this version\n`,
      };

      expect(await ask('gc', 'run')).toMatchObject(expected);
      expect(await ask('gc', 'df')).toMatchObject(expected);
      expect(await ask('gc', 'why', 'content', 'sha256:0')).toMatchObject(expected);
      expect(await ask('registry', 'test', '127.0.0.1:1')).toMatchObject(expected);
      await mustRun([release.ctr, '-a', peer.address, 'images', 'import', archives.oci]);
      expect(await ask('images', 'verify', 'busybox')).toMatchObject(expected);
    } finally {
      await peer.destroy();
    }
  });
});

async function until(isTrue: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!isTrue()) {
    if (Date.now() > deadline) throw new Error('waited too long');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
