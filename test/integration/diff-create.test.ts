// Diff.Diff on real snapshots: what it writes, unpacked again, gives the same tree; tar(1) reads it; nothing outside leaks in.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { treeChanges, upperChanges } from '../../daemon/diff/changes';
import { writeLayer } from '../../daemon/diff/layer-writer';
import { UnpackPool } from '../../daemon/diff/unpack-pool';
import { diffService } from '../../daemon/services/diff';
import { errorKind, messageOf } from '../../proto/errors';
import { DiffService } from '../../proto/generated/containerd.services.diff.v1';
import { sha256 } from '../../proto/ids';
import type { Mount } from '../../runtime-native/index';
import { openSnapshotters } from '../../snapshotter/index';
import type { Snapshotter } from '../../snapshotter/snapshotter';
import { waitFor } from '../setup/command';
import { type Api, directApi, type Headers } from '../suites/api';
import { type Bench, openBench } from '../suites/content-bench';
import { Records } from '../suites/records';
import { readTree, readXattrs } from '../suites/tree';

const OCI = 'application/vnd.oci.image.layer.v1.tar';

let bench: Bench;
let api: Api;
let pool: UnpackPool;
let snapshotters: Map<string, Snapshotter>;

beforeEach(async () => {
  bench = await openBench();
  pool = new UnpackPool();
  const mountDirectory = join(bench.directory, 'mounts');
  mkdirSync(mountDirectory);
  snapshotters = await openSnapshotters({ root: bench.directory, db: bench.db, overlayfs: { mountOptions: [] } });
  api = directApi(diffService({ content: bench.content, pool, mountDirectory }));
});

afterEach(async () => {
  await pool.close();
  await bench.close();
});

const toWire = (mounts: readonly Mount[]) => mounts.map((mount) => ({ ...mount, options: [...mount.options] }));

async function create(left: readonly Mount[], right: readonly Mount[], rest: object = {}, headers: Headers = {}) {
  const { diff } = await api.unary(DiffService.diff, { left: toWire(left), right: toWire(right), ...rest }, headers);
  if (diff === undefined) throw new Error('no descriptor');
  return diff;
}

/** Runs shell commands in the mounted snapshot, or reads its tree. */
function inside<T>(mounts: readonly Mount[], body: (root: string) => T): T {
  const root = mkdtempSync(join(bench.directory, 'look-'));
  for (const { type, source, options } of mounts)
    execFileSync('mount', ['-t', type, source, '-o', options.join(','), root]);
  try {
    return body(root);
  } finally {
    execFileSync('umount', [root]);
  }
}

const shell = (mounts: readonly Mount[], commands: string) =>
  inside(mounts, (root) => execFileSync('sh', ['-ec', commands], { cwd: root }));

const blobOf = (digest: string) => readFileSync(bench.content.blobPath(digest));

const BASE = `mkdir -p etc usr/bin gone/deep opaque/old 'sp ace'; echo one > etc/file; echo keep > etc/keep; echo x > usr/bin/tool
  chmod 4755 usr/bin/tool; ln -s tool usr/bin/link; echo z > gone/deep/f; echo o > opaque/old/f; touch -d @1000 etc/file etc usr/bin/tool usr`;
const CHANGE = `echo two > etc/file; rm -r gone; rm -r opaque; mkdir opaque; echo n > opaque/new; mkdir -p new/dir; mkfifo new/pipe
  mknod new/null c 1 3; ln -s /nowhere new/symlink; echo h > new/hard; ln new/hard new/dir/hard; chown 70000:3000000 new/hard
  setcap cap_net_raw+ep new/hard; setfattr -n user.a -v b new/hard; chmod 700 usr/bin/tool; rm usr/bin/link; mkdir usr/bin/link
  echo é > 'ünï'; mkdir -p ${'long/'.repeat(60)}; truncate -s 3M new/large; echo e >> new/large
  ln -s ${'t'.repeat(200)} new/long-link; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("new/socket")'`;

describe.each(['overlayfs', 'native'])('Diff.Diff on %s', (name) => {
  const layer = async (key: string, parent: string, commands: string) => {
    const snapshotter = snapshotters.get(name) as Snapshotter;
    shell(await snapshotter.prepare('default', `${key}-key`, parent), commands);
    await snapshotter.commit('default', key, `${key}-key`);
  };

  test('gives a layer that makes the same tree again', async () => {
    const snapshotter = snapshotters.get(name) as Snapshotter;
    await layer('bottom', '', 'mkdir first; echo f > first/f');
    await layer('base', 'bottom', BASE);
    const upper = await snapshotter.prepare('default', 'upper', 'base');
    shell(upper, CHANGE);
    const lower = await snapshotter.view('default', 'lower', 'base');

    const diff = await create(lower, upper);

    expect(diff.mediaType).toBe(`${OCI}+gzip`);
    expect(sha256(blobOf(diff.digest))).toBe(diff.digest);
    const archive = gunzipSync(blobOf(diff.digest));
    expect({ ...bench.content.blobs.get('default', diff.digest).labels }).toEqual({
      'containerd.io/uncompressed': sha256(archive),
    });
    const again = await snapshotter.prepare('default', 'again', 'base');
    const { applied } = await api.unary(DiffService.apply, { diff, mounts: toWire(again) });
    expect(applied?.digest).toBe(sha256(archive));
    const [expected, actual] = [upper, again].map((mounts) =>
      inside(mounts, (root) => [withoutSockets(readTree(root)), readXattrs(root)]),
    );
    expect(actual).toEqual(expected);
    // What did not change is not in the layer.
    const names = execFileSync('tar', ['-t'], { input: archive, encoding: 'utf8' });
    expect(names).not.toMatch(/etc\/keep|first|sp ace/);
    expect(names).toMatch(/^\.wh\.gone$/m);
  });

  test.each(['', '+gzip', '+zstd'])(
    'gives the same bytes each time and the same tree again as "tar%s"',
    async (suffix) => {
      const snapshotter = snapshotters.get(name) as Snapshotter;
      await layer('base', '', `${BASE}; find . -exec touch -h -d @1000 {} +`);
      const upper = await snapshotter.prepare('default', 'upper', 'base');
      // Only files whose times are known, so that nothing depends on when it is unpacked.
      shell(upper, `${CHANGE}; find . -newermt @2000 -exec touch -h -d @2000 {} +`);
      const lower = await snapshotter.view('default', 'lower', 'base');
      const wanted = { mediaType: `${OCI}${suffix}`, sourceDateEpoch: { seconds: 3000n, nanos: 0 } };

      const diff = await create(lower, upper, wanted);
      const second = await create(lower, upper, wanted);

      expect(second).toEqual(diff);
      const again = await snapshotter.prepare('default', 'again', 'base');
      await api.unary(DiffService.apply, { diff, mounts: toWire(again) });
      const [expected, actual] = [upper, again].map((mounts) =>
        inside(mounts, (root) => [withoutSockets(readTree(root)), readXattrs(root)]),
      );
      expect(actual).toEqual(expected);
      // What was made of the copy is the same layer again.
      expect(await create(lower, again, wanted)).toEqual(diff);
    },
  );

  test('takes the changes of a container that runs and goes on writing', async () => {
    const snapshotter = snapshotters.get(name) as Snapshotter;
    await layer('base', '', BASE);
    const upper = await snapshotter.prepare('default', 'upper', 'base');
    const lower = await snapshotter.view('default', 'lower', 'base');
    const [{ type, source, options } = { type: '', source: '', options: [] }] = upper;
    const root = mkdtempSync(join(bench.directory, 'running-'));
    execFileSync('mount', ['-t', type, source, '-o', options.join(','), root]);
    const script = `${CHANGE}
      mkdir busy; echo ready > made; mv made ready; while [ ! -e stop ]; do
        echo x >> busy/log; echo y > busy/new; mv busy/new busy/current; rm -f busy/current; mkdir busy/d; rmdir busy/d; done`;
    const container = spawn('sh', ['-ec', script], { cwd: root, stdio: 'ignore' });
    const ended = new Promise((resolve) => container.once('exit', resolve));
    const stop = (): Promise<unknown> => {
      writeFileSync(join(root, 'stop'), '');
      return ended;
    };
    try {
      await waitFor('changes of the container', () => existsSync(join(root, 'ready')));

      const diff = await create(lower, upper, { mediaType: OCI });

      await stop();
      const again = await snapshotter.prepare('default', 'again', 'base');
      await api.unary(DiffService.apply, { diff, mounts: toWire(again) });
      const still = ([path]: [string, unknown]) => !path.startsWith('busy') && path !== 'stop';
      const [expected, actual] = [
        Object.entries(withoutSockets(readTree(root))),
        inside(again, (copy) => Object.entries(withoutSockets(readTree(copy)))),
      ].map((entries) => entries.filter(still));
      expect(actual).toEqual(expected);
    } finally {
      await stop();
      execFileSync('umount', [root]);
    }
  });

  test('gives the layers of committed snapshots, from the base on', async () => {
    const snapshotter = snapshotters.get(name) as Snapshotter;
    await layer('base', '', BASE);
    await layer('second', 'base', CHANGE);
    const views = [];
    for (const parent of ['', 'base', 'second'])
      views.push(await snapshotter.view('default', `view-${parent}`, parent));

    let parent = '';
    for (const index of [0, 1]) {
      const diff = await create(views[index] ?? [], views[index + 1] ?? []);
      const mounts = await snapshotter.prepare('default', `key-${index}`, parent);
      await api.unary(DiffService.apply, { diff, mounts: toWire(mounts) });
      parent = `copy-${index}`;
      await snapshotter.commit('default', parent, `key-${index}`);
    }

    const copy = await snapshotter.view('default', 'copy', 'copy-1');
    const [expected, actual] = [views[2] ?? [], copy].map((mounts) =>
      inside(mounts, (root) => withoutSockets(readTree(root))),
    );
    expect(actual).toEqual(expected);
  });

  test('gives an empty layer when nothing changed', async () => {
    const snapshotter = snapshotters.get(name) as Snapshotter;
    await layer('base', '', BASE);
    const [lower, upper] = [
      await snapshotter.view('default', 'l', 'base'),
      await snapshotter.prepare('default', 'u', 'base'),
    ];

    const diff = await create(lower, upper, { mediaType: OCI });

    expect(blobOf(diff.digest).equals(Buffer.alloc(1024))).toBe(true);
  });
});

describe('Diff.Diff', () => {
  test('writes the media type that is asked for, under the ref, with labels and lease', async () => {
    const right = [
      { type: 'bind', source: mkdtempSync(join(bench.directory, 'r-')), target: '', options: ['ro', 'rbind'] },
    ];
    writeFileSync(join(right[0]?.source ?? '', 'f'), 'content');
    new Records(bench.db, 'default').lease('mine', []);

    const plain = await create([], right, { mediaType: OCI, ref: 'my-ref', labels: { a: 'b' } }, { lease: 'mine' });
    const zstd = await create([], right, { mediaType: `${OCI}+zstd` });
    const again = await create([], right, { mediaType: OCI });

    expect(zstdDecompressSync(blobOf(zstd.digest)).equals(blobOf(plain.digest))).toBe(true);
    expect(again).toEqual(plain);
    expect({ ...bench.content.blobs.get('default', plain.digest).labels }).toEqual({
      a: 'b',
      'containerd.io/uncompressed': plain.digest,
    });
    const leased = bench.db
      .prepare(`SELECT resource FROM lease_resources WHERE lease = 'mine' AND type = 'content'`)
      .pluck()
      .all();
    expect(leased).toEqual([plain.digest]);
    const refused = await create([], right, { mediaType: 'text/plain' }).catch((error: unknown) => error);
    expect([errorKind(refused), messageOf(refused)]).toEqual([
      'not implemented',
      'unsupported diff media type: text/plain: not implemented',
    ]);
  });

  test('clamps times to the epoch that is asked for', async () => {
    const [left, right] = ['l-', 'r-'].map((prefix) => mkdtempSync(join(bench.directory, prefix)));
    execFileSync('sh', ['-ec', `touch ${left}/gone; touch -d @50 ${right}/old; touch -d @5000 ${right}/new`]);
    const bind = (source = '') => [{ type: 'bind', source, target: '', options: ['ro', 'rbind'] }];

    const epoch = { sourceDateEpoch: { seconds: 100n, nanos: 0 }, mediaType: OCI };
    const diff = await create(bind(left), bind(right), epoch);

    const listing = execFileSync('tar', ['--utc', '--full-time', '-tv'], {
      input: blobOf(diff.digest),
      encoding: 'utf8',
    });
    expect(listing.match(/1970-01-01 \d\d:\d\d:\d\d .*/g)).toEqual([
      '1970-01-01 00:01:40 .wh.gone',
      '1970-01-01 00:01:40 new',
      '1970-01-01 00:00:50 old',
    ]);
  });

  test('fails with a sentence where there is nothing to read, and leaves no mount', async () => {
    const bind = (source: string) => [{ type: 'bind', source, target: '', options: ['ro', 'rbind'] }];

    const missing = await create([], bind(join(bench.directory, 'none'))).catch(messageOf);

    expect(missing).toMatch(/ENOENT.*none/);
    expect(execFileSync('mount', { encoding: 'utf8' })).not.toContain(bench.directory);
  });
});

test('a container that swaps directories for links gets nothing from outside into its layer', async () => {
  const [root, outside] = ['root-', 'outside-'].map((prefix) => mkdtempSync(join(bench.directory, prefix))) as [
    string,
    string,
  ];
  mkdirSync(join(outside, 'd'));
  writeFileSync(join(outside, 'd/secret'), 'SECRET');
  writeFileSync(join(outside, 'secret'), 'SECRET');
  execFileSync('sh', ['-ec', `mkdir -p ${root}/a/d; echo x > ${root}/a/d/secret; echo y > ${root}/a/secret`]);
  const swap = `
    const fs = require('node:fs');
    const { root, outside, stop } = require('node:worker_threads').workerData;
    const flag = new Int32Array(stop);
    while (Atomics.load(flag, 0) === 0) {
      fs.renameSync(root + '/a', root + '/b');
      fs.symlinkSync(outside, root + '/a');
      fs.unlinkSync(root + '/a');
      fs.renameSync(root + '/b', root + '/a');
      fs.renameSync(root + '/a/secret', root + '/a/was');
      fs.symlinkSync(outside + '/secret', root + '/a/secret');
      fs.unlinkSync(root + '/a/secret');
      fs.renameSync(root + '/a/was', root + '/a/secret');
    }`;
  const stop = new SharedArrayBuffer(4);
  const worker = new Worker(swap, { eval: true, workerData: { root, outside, stop } });
  const empty = mkdtempSync(join(bench.directory, 'empty-'));
  const deadline = Date.now() + 3000;
  try {
    for (let round = 0; Date.now() < deadline; round++) {
      const changes = round % 2 === 0 ? upperChanges(root) : treeChanges(empty, root);
      const archive = Buffer.concat([...writeLayer(changes, { nowSeconds: 0 })]);
      expect(archive.includes('SECRET')).toBe(false);
    }
  } finally {
    Atomics.store(new Int32Array(stop), 0, 1);
    await new Promise((resolve) => worker.once('exit', resolve));
  }
});

/** Layers hold neither sockets nor parts of seconds. */
function withoutSockets(tree: ReturnType<typeof readTree>) {
  return Object.fromEntries(
    Object.entries(tree)
      .filter(([, { mode }]) => !mode.startsWith('14'))
      .map(([path, entry]) => [path, { ...entry, mtimeNs: entry.mtimeNs.slice(0, -9) }]),
  );
}
