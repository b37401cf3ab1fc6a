// The contract of snapshotters on every driver, in process, and what only shows with a driver or disk in trouble.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Database } from '../../../daemon/metadata/database';
import { errorKind, messageOf } from '../../../proto/errors';
import { openSnapshotters } from '../../../snapshotter/index';
import type { Snapshotter } from '../../../snapshotter/snapshotter';
import { describeUnless } from '../../setup/needs';
import { directApi } from '../../suites/api';
import { openSnapshotBench } from '../../suites/snapshot-bench';
import { snapshotClient } from '../../suites/snapshot-client';
import { snapshotterSuite } from '../../suites/snapshotter.suite';
import { SNAPSHOTTERS } from '../../suites/snapshotters';

for (const { snapshotter, missing, mountRoot } of SNAPSHOTTERS) {
  describeUnless(missing)('LocalSnapshotter', () => {
    snapshotterSuite('in process', snapshotter, async () => {
      const bench = await openSnapshotBench({ mountRoot });
      return { api: directApi(bench.service), bench, close: () => bench.close() };
    });

    test(`${snapshotter}: one key is committed once, whoever asks at the same time`, async () => {
      const bench = await openSnapshotBench({ mountRoot });
      const client = snapshotClient(directApi(bench.service), snapshotter, bench.directory);
      try {
        client.within(await client.prepare('key'), (root) => writeFileSync(join(root, 'file'), 'text'));

        const results = await Promise.allSettled(['a', 'b', 'c'].map((name) => client.commit(name, 'key')));

        expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected']);
        client.within(await client.view('look', 'a'), (root) =>
          expect(readFileSync(join(root, 'file'), 'utf8')).toBe('text'),
        );
      } finally {
        await bench.close();
      }
    });
  });
}

describe('LocalSnapshotter', () => {
  let directory: string;
  let root: string;
  let db: Database;
  let snapshotters: Map<string, Snapshotter>;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'local-'));
    root = join(directory, 'small');
    mkdirSync(root);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2M,nr_inodes=40', 'none', root]);
    db = Database.open(join(directory, 'test.db'));
    snapshotters = await openSnapshotters({ root, db, overlayfs: { mountOptions: [] } });
  });

  afterEach(async () => {
    await db.close();
    execFileSync('umount', [root]);
    rmSync(directory, { recursive: true });
  });

  test('commit() waits for the parent that is to be ready, and fails with it', async () => {
    const overlayfs = snapshotters.get('overlayfs') as Snapshotter;
    for (const key of ['base', 'good', 'bad']) await overlayfs.prepare('ns', key, '');
    const ready = Promise.withResolvers<void>();
    const [failed, never] = [Promise.reject(new Error('the parent failed')), Promise.resolve()];

    const committed = overlayfs.commit('ns', 'top', 'good', { parent: 'bottom', ready: ready.promise });
    const failures = await Promise.all(
      [failed, never].map((settled) =>
        overlayfs.commit('ns', 'none', 'bad', { parent: 'bottom', ready: settled }).catch(messageOf),
      ),
    );
    const before = overlayfs.walk('ns').map(({ kind }) => kind);
    await overlayfs.commit('ns', 'bottom', 'base');
    ready.resolve();
    await committed;

    expect(failures).toEqual(['the parent failed', 'parent snapshot bottom does not exist: not found']);
    expect(before).toEqual(['active', 'active', 'active']);
    expect(overlayfs.stat('ns', 'top')).toMatchObject({ kind: 'committed', parent: 'bottom' });
    expect(overlayfs.stat('ns', 'bad').kind).toBe('active');
  });

  test('says that the disk is full, keeps what was there and leaves nothing', async () => {
    const native = snapshotters.get('native') as Snapshotter;
    const [{ source = '' } = {}] = await native.prepare('ns', 'key', '');
    execFileSync('sh', ['-c', 'head -c 1500000 /dev/zero > big'], { cwd: source });
    await native.commit('ns', 'base', 'key');

    const error = await native.prepare('ns', 'child', 'base').catch((thrown: unknown) => thrown);

    expect([errorKind(error), messageOf(error)]).toEqual([
      'resource exhausted',
      'snapshot "child": no space left on device: resource exhausted',
    ]);
    expect(native.walk('ns').map(({ name }) => name)).toEqual(['base']);
    expect(readdirSync(join(root, 'io.containerd.snapshotter.v1.native/snapshots'))).toHaveLength(1);
  });

  test('prepares until there are no inodes left, and again when a snapshot is removed', async () => {
    const overlayfs = snapshotters.get('overlayfs') as Snapshotter;
    let count = 0;
    let error: unknown;
    while (error === undefined) {
      await overlayfs.prepare('ns', `k${count}`, '').catch((thrown: unknown) => {
        error = thrown;
      });
      count++;
    }

    expect(errorKind(error)).toBe('resource exhausted');
    overlayfs.remove('ns', 'k0');
    await overlayfs.prepare('ns', 'again', '');
  });

  test.each(['overlayfs', 'native'])('%s: tells what lost its directory, and what it removed', async (name) => {
    const snapshotter = snapshotters.get(name) as Snapshotter;
    const path = (id: string) => join(root, `io.containerd.snapshotter.v1.${name}/snapshots`, id);
    for (const [key, parent] of [
      ['lower', ''],
      ['upper', 'lower'],
    ] as const) {
      await snapshotter.prepare('ns', `${key}-key`, parent);
      await snapshotter.commit('ns', key, `${key}-key`);
    }
    await snapshotter.view('ns', 'look', 'upper');
    const before = await snapshotter.lost();
    const [lower = ''] = readdirSync(path('.'));
    rmSync(path(lower), { recursive: true });
    mkdirSync(path('4711/fs/deep'), { recursive: true });
    writeFileSync(path('4711/fs/deep/file'), Buffer.alloc(20_000));
    mkdirSync(path('4712'));

    const removed = await snapshotter.cleanup({ isMeasured: true });
    const lost = await snapshotter.lost();
    const nothing = await snapshotter.cleanup({ isMeasured: true });

    expect(before).toEqual([]);
    expect(removed.count).toBe(2);
    expect(removed.sizeBytes).toBeGreaterThanOrEqual(20_000n);
    expect(lost).toEqual([{ namespace: 'ns', key: 'lower' }]);
    expect(nothing).toEqual({ count: 0, sizeBytes: 0n });
    expect(readdirSync(path('.'))).toHaveLength(1);
  });

  test('undoes a creation whose record is refused', async () => {
    const overlayfs = snapshotters.get('overlayfs') as Snapshotter;
    const within = () => {
      throw new Error('refused');
    };

    await expect(overlayfs.prepare('ns', 'key', '', { within })).rejects.toThrow('refused');

    expect(overlayfs.walk('ns')).toEqual([]);
    expect(readdirSync(join(root, 'io.containerd.snapshotter.v1.overlayfs/snapshots'))).toEqual([]);
  });

  test('never gives a number twice, not even that of a removed snapshot or of another snapshotter', async () => {
    const sources = [];
    for (const name of ['overlayfs', 'native', 'overlayfs']) {
      const snapshotter = snapshotters.get(name) as Snapshotter;
      const [mount] = await snapshotter.prepare('ns', 'key', '');
      sources.push(/snapshots\/(\d+)/.exec(mount?.source ?? '')?.[1]);
      snapshotter.remove('ns', 'key');
    }
    snapshotters = await openSnapshotters({ root, db, overlayfs: { mountOptions: [] } });
    const [mount] = await (snapshotters.get('native') as Snapshotter).prepare('ns', 'key', '');

    expect(sources).toEqual(['1', '2', '3']);
    expect(mount?.source).toMatch(/\/4$/);
  });
});
