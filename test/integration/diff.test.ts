// Diff.Apply on real blobs and real mounts: media types, errors, cancellation, what a failure leaves, and the same result
// as Debian's containerd gets.

import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { UnpackPool } from '../../daemon/diff/unpack-pool';
import { diffService } from '../../daemon/services/diff';
import { errorKind, messageOf } from '../../proto/errors';
import { DiffService } from '../../proto/generated/containerd.services.diff.v1';
import type { Mount } from '../../runtime-native/index';
import { openSnapshotters } from '../../snapshotter/index';
import type { Snapshotter } from '../../snapshotter/snapshotter';
import { describeUnless, needsRoot } from '../setup/needs';
import { type Api, directApi } from '../suites/api';
import { withContainerd } from '../suites/containerd-layers';
import { type Bench, openBench } from '../suites/content-bench';
import { type TarSpec, tar } from '../suites/tar-builder';
import { readTree, readXattrs } from '../suites/tree';

const OCI = 'application/vnd.oci.image.layer.v1.tar';
const DOCKER = 'application/vnd.docker.image.rootfs.diff.tar';

let bench: Bench;
let api: Api;
let pool: UnpackPool;
let snapshotter: Snapshotter;
let mountDirectory: string;

beforeEach(async () => {
  bench = await openBench();
  pool = new UnpackPool();
  mountDirectory = join(bench.directory, 'mounts');
  mkdirSync(mountDirectory);
  const options = { root: bench.directory, db: bench.db, overlayfs: { mountOptions: [] } };
  snapshotter = (await openSnapshotters(options)).get('overlayfs') as Snapshotter;
  api = directApi(diffService({ content: bench.content, pool, mountDirectory }));
});

afterEach(async () => {
  await pool.close();
  await bench.close();
});

const sha256 = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** Puts a blob into the store and returns its descriptor. */
async function addBlob(bytes: Buffer, mediaType: string) {
  const digest = sha256(bytes);
  const writer = await bench.content.openWriter({ namespace: 'default', ref: digest });
  await writer.append(bytes);
  await writer.commit({ sizeBytes: BigInt(bytes.length), expected: digest, labels: {} });
  return { mediaType, digest, size: BigInt(bytes.length) };
}

const apply = async (diff: Awaited<ReturnType<typeof addBlob>>, mounts: readonly Mount[], syncFs = false) =>
  (
    await api.unary(DiffService.apply, {
      diff,
      mounts: mounts.map((mount) => ({ ...mount, options: [...mount.options] })),
      syncFs,
    })
  ).applied;

async function failure(promise: Promise<unknown>): Promise<[string | undefined, string]> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return [errorKind(error), messageOf(error)];
}

const rootOf = (mounts: readonly Mount[]) =>
  mounts[0]?.options.find((option) => option.startsWith('upperdir='))?.slice(9) ?? mounts[0]?.source ?? '';

describe('Diff.Apply', () => {
  const layer = tar([
    { name: 'etc/hostname', content: 'box\n' },
    { name: 'bin', type: '2', linkName: 'usr/bin' },
  ]);

  test.each([
    [OCI, layer],
    [`${OCI}+gzip`, gzipSync(layer)],
    [`${OCI}+zstd`, zstdCompressSync(layer)],
    ['application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', gzipSync(layer)],
    [DOCKER, layer],
    [DOCKER, gzipSync(layer)],
    [`${DOCKER}.gzip`, gzipSync(layer)],
    [`${DOCKER}.zstd`, zstdCompressSync(layer)],
    ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', gzipSync(layer)],
    [`${OCI}+gzip`, Buffer.concat([gzipSync(layer.subarray(0, 700)), gzipSync(layer.subarray(700))])],
  ])('unpacks %s and names the uncompressed archive', async (mediaType, blob) => {
    const mounts = await snapshotter.prepare('default', 'key', '');

    const applied = await apply(await addBlob(blob, mediaType), mounts, true);

    expect(applied).toMatchObject({ mediaType: OCI, digest: sha256(layer), size: BigInt(layer.length) });
    expect(readFileSync(join(rootOf(mounts), 'etc/hostname'), 'utf8')).toBe('box\n');
  });

  test('counts what follows the end of the archive', async () => {
    const padded = Buffer.concat([layer, Buffer.alloc(100_000)]);

    const applied = await apply(
      await addBlob(gzipSync(padded), `${OCI}+gzip`),
      await snapshotter.prepare('default', 'key', ''),
    );

    expect(applied).toMatchObject({ digest: sha256(padded), size: BigInt(padded.length) });
  });

  test('writes whiteouts as the mounts need them', async () => {
    const second = tar([{ name: 'etc/.wh.hostname' }, { name: 'etc/new', content: 'n' }]);
    const [first, next] = [await addBlob(layer, OCI), await addBlob(second, OCI)];
    await apply(first, await snapshotter.prepare('default', 'k1', ''));
    await snapshotter.commit('default', 'base', 'k1');
    const stacked = await snapshotter.prepare('default', 'k2', 'base');
    await apply(next, stacked);
    const flat = await snapshotter.prepare('default', 'k3', '');
    await apply(first, flat);
    await apply(next, flat);

    const merged = mkdtempSync(join(bench.directory, 'merged-'));
    const [{ options = [] } = {}] = stacked;
    execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', options.join(','), merged]);
    try {
      expect(Object.keys(readTree(merged))).toEqual(Object.keys(readTree(rootOf(flat))));
      expect(Object.keys(readTree(merged))).toEqual(['bin', 'etc', 'etc/new']);
    } finally {
      execFileSync('umount', [merged]);
    }
  });

  test('unpacks through a temporary mount where nothing else is known, and leaves none', async () => {
    const target = join(bench.directory, 'image');
    execFileSync('sh', ['-ec', `truncate -s 16M ${target} && mkfs.ext4 -q -F ${target}`]);
    const device = execFileSync('losetup', ['-f', '--show', target], { encoding: 'utf8' }).trim();
    const mounts = [{ type: 'ext4', source: device, target: '', options: ['rw'] }];
    const look = mkdtempSync(join(bench.directory, 'look-'));
    try {
      await apply(await addBlob(layer, OCI), mounts);
      const evil = await failure(apply(await addBlob(tar([{ name: '../x' }]), OCI), mounts));
      const full = await failure(
        apply(await addBlob(tar([{ name: 'big', content: randomBytes(20 << 20) }]), OCI), mounts),
      );

      expect(evil).toEqual(['invalid argument', expect.stringMatching(/entry "..\/x": path leads out/)]);
      expect(full).toEqual(['resource exhausted', expect.stringMatching(/entry "big": no space left on device/)]);
      expect(readdirSync(mountDirectory)).toEqual([]);
      execFileSync('mount', [device, look]);
      expect(readFileSync(join(look, 'etc/hostname'), 'utf8')).toBe('box\n');
      execFileSync('umount', [look]);
    } finally {
      execFileSync('losetup', ['-d', device]);
    }
  });

  test('refuses read-only mounts', async () => {
    const mounts = await snapshotter.view('default', 'key', '');

    expect(await failure(apply(await addBlob(layer, OCI), mounts))).toEqual([
      'failed precondition',
      expect.stringMatching(/read-only file system/),
    ]);
    expect(readdirSync(rootOf(mounts))).toEqual([]);
  });

  test.each<[string, Buffer, string, RegExp]>([
    ['a truncated archive', layer.subarray(0, 800), OCI, /truncated .*unexpected EOF/],
    [
      'a truncated gzip stream',
      gzipSync(layer).subarray(0, 60),
      `${OCI}+gzip`,
      /cannot be decompressed: unexpected end of file/,
    ],
    ['a truncated zstd stream', zstdCompressSync(layer).subarray(0, 60), `${OCI}+zstd`, /decompressed|truncated/],
    ['a damaged gzip stream', damaged(gzipSync(layer)), `${OCI}+gzip`, /cannot be decompressed: /],
    ['something else than an archive', Buffer.alloc(4096, 'x'), OCI, /checksum is not a number|invalid tar header/],
    ['an archive with a bad entry', tar([{ name: 'a' }, { name: 'b', type: 'M' }]), OCI, /entry "b": unsupported/],
  ])('refuses %s with one sentence', async (_, blob, mediaType, message) => {
    const mounts = await snapshotter.prepare('default', 'key', '');
    const diff = await addBlob(blob, mediaType);

    const [kind, text] = await failure(apply(diff, mounts));

    expect(kind).toBe('invalid argument');
    expect(text).toMatch(new RegExp(`^failed to extract layer ${diff.digest}: `));
    expect(text).toMatch(message);
    // Nothing that looks complete: the snapshot is still active and can be removed.
    expect(snapshotter.stat('default', 'key').kind).toBe('active');
    snapshotter.remove('default', 'key');
  });

  test('contains what layers try against the machine, with the mounts of every snapshotter', async () => {
    const outside = mkdtempSync(join(bench.directory, 'outside-'));
    writeFileSync(join(outside, 'file'), 'do not touch', { mode: 0o600 });
    const evil: TarSpec[][] = [
      [{ name: 'x', content: 'evil', pax: { path: `${'../'.repeat(30)}${outside}/file` } }],
      [
        { name: 'l', type: '2', linkName: outside },
        { name: 'l/file', content: 'evil' },
      ],
      [{ name: 'l', type: '2', linkName: `${'../'.repeat(30)}${outside}` }, { name: 'l/.wh.file' }],
      [{ name: 'l', type: '2', linkName: outside }, { name: 'l/.wh..wh..opq' }],
      [{ name: 'h', type: '1', linkName: join(outside, 'file'), mode: 0o4777 }],
      [
        { name: 'd/', type: '5' },
        { name: 'd', type: '2', linkName: outside },
        { name: 'd/', type: '5', mode: 0o777 },
      ],
    ];
    const before = [readTree(outside), readXattrs(outside)];
    await apply(await addBlob(layer, OCI), await snapshotter.prepare('default', 'k', ''));
    await snapshotter.commit('default', 'base', 'k');

    for (const [index, entries] of evil.entries()) {
      const blob = await addBlob(tar(entries), OCI);
      for (const parent of ['', 'base']) {
        const refused = await failure(apply(blob, await snapshotter.prepare('default', `k${index}${parent}`, parent)));
        expect(['invalid argument', undefined]).toContain(refused[0]);
      }
    }

    expect([readTree(outside), readXattrs(outside)]).toEqual(before);
  });

  test('refuses what it cannot find or read', async () => {
    const mounts = await snapshotter.prepare('default', 'key', '');
    const blob = await addBlob(layer, OCI);
    const unknown = { ...blob, digest: `sha256:${'0'.repeat(64)}` };

    expect(await failure(apply(unknown, mounts))).toEqual([
      'not found',
      expect.stringMatching(/^content digest sha256:0+: not found$/),
    ]);
    expect((await failure(apply({ ...blob, digest: 'nonsense' }, mounts)))[0]).toBe('invalid argument');
    expect(await failure(apply({ ...blob, mediaType: 'text/plain' }, mounts))).toEqual([
      'unknown',
      'failed to get stream processor for text/plain: no processor for media-type',
    ]);
    expect((await failure(apply({ ...blob, mediaType: `${OCI}+gzip+encrypted` }, mounts)))[0]).toBe('unknown');
    expect((await failure(apply(blob, [])))[0]).toBe('invalid argument');
    expect(
      (
        await failure(
          api.unary(DiffService.apply, { mounts: mounts.map((mount) => ({ ...mount, options: [...mount.options] })) }),
        )
      )[0],
    ).toBe('invalid argument');
    const missing = [{ type: 'bind', source: join(bench.directory, 'none'), target: '', options: ['rw', 'rbind'] }];
    expect((await failure(apply(blob, missing)))[1]).toMatch(/ENOENT|not found/);
  });

  test('stops when it is cancelled, also while it waits for a thread', async () => {
    const large = tar([{ name: 'large', content: randomBytes(30 << 20) }]);
    const blob = bench.content.blobPath((await addBlob(large, OCI)).digest);
    const controller = new AbortController();
    const root = mkdtempSync(join(bench.directory, 'root-'));
    const request = { blob, mayBeCompressed: false, target: { root, whiteouts: 'delete', lowers: [] } } as const;

    const jobs = Array.from({ length: 10 }, () => failure(pool.unpack(request, controller.signal)));
    await sleep(20);
    controller.abort();

    for (const [kind] of await Promise.all(jobs)) expect(kind === 'canceled' || kind === undefined).toBe(true);
    expect(await failure(pool.unpack(request, AbortSignal.timeout(60_000)))).toEqual([undefined, 'undefined']);
  });

  test('unpacks many layers at the same time', async () => {
    const blobs = await Promise.all(
      Array.from({ length: 12 }, (_, index) =>
        addBlob(
          gzipSync(tar(Array.from({ length: 50 }, (_, at) => ({ name: `d${at}/f`, content: `${index}-${at}` })))),
          `${OCI}+gzip`,
        ),
      ),
    );

    await Promise.all(
      blobs.map(async (blob, index) => apply(blob, await snapshotter.prepare('default', `k${index}`, ''))),
    );

    for (let index = 0; index < blobs.length; index++) {
      const root = rootOf(await snapshotter.mounts('default', `k${index}`));
      expect(readFileSync(join(root, 'd49/f'), 'utf8')).toBe(`${index}-49`);
    }
  });
});

describeUnless(needsRoot())('Diff.Apply beside containerd', () => {
  test('gives the same directories', async () => {
    const base: TarSpec[] = [
      { name: './', type: '5', mode: 0o755 },
      { name: './usr/', type: '5', mode: 0o755, mtime: 1000 },
      { name: './usr/bin/', type: '5', mode: 0o711, uid: 1, gid: 2, mtime: 2000 },
      {
        name: './usr/bin/tool',
        content: 'x'.repeat(5000),
        mode: 0o4755,
        uid: 3,
        pax: { mtime: '1500000000.123456789', 'SCHILY.xattr.user.a': 'b' },
      },
      { name: './bin', type: '2', linkName: 'usr/bin' },
      // With the attributes of the file: containerd sets those of a link again, tar(1) and we do not.
      {
        name: './usr/bin/alias',
        type: '1',
        linkName: './usr/bin/tool',
        mode: 0o4755,
        uid: 3,
        pax: { mtime: '1500000000.123456789', 'SCHILY.xattr.user.a': 'b' },
      },
      { name: 'bin/through-link', content: 'y' },
      { name: 'dev/null', type: '3', mode: 0o666, major: 1, minor: 3 },
      { name: 'fifo', type: '6', mode: 0o600 },
      { name: 'gone/deep/file', content: 'z' },
      { name: 'opaque/old', content: 'old' },
      { name: '/absolute', content: 'a' },
      { name: 'early', pax: { mtime: '-7' } },
    ];
    const second: TarSpec[] = [
      { name: '.wh.gone' },
      { name: 'opaque/.wh..wh..opq' },
      { name: 'opaque/new', content: 'new' },
      { name: 'usr/bin/.wh.alias' },
      { name: 'usr/lib/', type: '5', mtime: 3000 },
      { name: 'usr/bin/added', content: '1' },
    ];
    const layers = [tar(base), tar(second)];
    const peer = await withContainerd(bench.directory, layers);
    let parent = '';
    for (const [index, archive] of layers.entries()) {
      const mounts = await snapshotter.prepare('default', `k${index}`, parent);
      await apply(await addBlob(archive, OCI), mounts);
      const ours = rootOf(mounts);
      await snapshotter.commit('default', `c${index}`, `k${index}`);
      parent = `c${index}`;

      expect(comparable(ours)).toEqual(comparable(peer[index] ?? ''));
      expect(readXattrs(ours)).toEqual(readXattrs(peer[index] ?? ''));
    }
  });
});

/** Without the times of what has no entry: whiteouts and directories made on the way. */
function comparable(root: string) {
  return Object.fromEntries(
    Object.entries(readTree(root)).map(([path, entry]) => {
      const isMade = entry.mode === '20000' || ['dev', 'gone', 'gone/deep', 'opaque', 'usr', 'usr/bin'].includes(path);
      return [path, isMade ? { ...entry, mtimeNs: '' } : entry];
    }),
  );
}

function damaged(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy.fill(0xff, 30, 60);
  return copy;
}
