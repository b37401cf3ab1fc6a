// The layers of one image, unpacked at the same time where the snapshotter allows it: no layer waits for those below, the
// result is that of one after the other, and what goes wrong with one of them leaves nothing half done.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { UnpackPool } from '../../daemon/diff/unpack-pool';
import type { ImageDescriptor, ImageManifest } from '../../daemon/images/documents';
import { chainIds, Unpacker } from '../../daemon/images/unpack';
import { canceled, messageOf } from '../../proto/errors';
import { sha256 } from '../../proto/ids';
import { openSnapshotters } from '../../snapshotter/index';
import type { Snapshotter } from '../../snapshotter/snapshotter';
import { describeUnless, needsRoot } from '../setup/needs';
import { type Bench, openBench } from '../suites/content-bench';
import { Records } from '../suites/records';
import { type TarSpec, tar } from '../suites/tar-builder';
import { readTree, readXattrs } from '../suites/tree';

const OCI = 'application/vnd.oci.image.layer.v1.tar+gzip';
const NAMESPACE = 'default';

let bench: Bench;
let pool: UnpackPool;
let unpacker: Unpacker;
let snapshotters: Map<string, Snapshotter>;

beforeEach(async () => {
  bench = await openBench();
  pool = new UnpackPool();
  const mountDirectory = join(bench.directory, 'mounts');
  mkdirSync(mountDirectory);
  snapshotters = await openSnapshotters({ root: bench.directory, db: bench.db, overlayfs: { mountOptions: [] } });
  const { db, events, content } = bench;
  unpacker = new Unpacker({ db, events, snapshotters, diff: { content, pool, mountDirectory } });
  new Records(db, NAMESPACE).lease('mine', []);
});

afterEach(async () => {
  await pool.close();
  await bench.close();
});

const folder = (name: string, rest: Partial<TarSpec> = {}): TarSpec => ({
  name: `${name}/`,
  type: '5',
  mode: 0o755,
  ...rest,
});

/** Each changes what those below made: directories that only the lowest describes, whiteouts, an opaque directory. */
const LAYERS: TarSpec[][] = [
  [
    folder('etc', { mode: 0o711, uid: 7, gid: 8, mtime: 1000, pax: { 'SCHILY.xattr.user.a': 'b' } }),
    folder('etc/deep', { mode: 0o700, uid: 9 }),
    { name: 'etc/deep/keep', content: 'k' },
    { name: 'etc/gone', content: 'g' },
    folder('opaque'),
    { name: 'opaque/old', content: 'o' },
  ],
  [{ name: 'etc/.wh.gone' }, { name: 'etc/deep/added', content: 'a' }],
  [folder('opaque', { uid: 5 }), { name: 'opaque/.wh..wh..opq' }, { name: 'opaque/new', content: 'n' }],
  [folder('usr'), { name: 'usr/hard', content: 'h' }, { name: 'usr/link', type: '1', linkName: 'usr/hard' }],
  [folder('usr'), { name: 'usr/.wh.hard' }, { name: '.wh.opaque' }],
];

async function addBlob(bytes: Buffer, mediaType: string): Promise<ImageDescriptor> {
  const digest = sha256(bytes);
  const writer = await bench.content.openWriter({ namespace: NAMESPACE, ref: digest, lease: 'mine' });
  await writer.append(bytes);
  await writer.commit({ sizeBytes: BigInt(bytes.length), expected: digest, labels: {} });
  return { mediaType, digest, size: bytes.length };
}

async function image(archives: readonly Buffer[], diffIds = archives.map((archive) => sha256(archive))) {
  const config = Buffer.from(JSON.stringify({ os: 'linux', rootfs: { type: 'layers', diff_ids: diffIds } }));
  const manifest: ImageManifest = {
    config: await addBlob(config, 'application/vnd.oci.image.config.v1+json'),
    layers: await Promise.all(archives.map((archive) => addBlob(gzipSync(archive), OCI))),
  };
  return { manifest, diffIds, chain: chainIds(diffIds) };
}

interface Hooks {
  readonly snapshotter?: string;
  readonly arrival?: (layer: ImageDescriptor) => Promise<void>;
  readonly onLayer?: (layer: ImageDescriptor, state: string) => void;
  readonly signal?: AbortSignal;
}

function unpack(manifest: ImageManifest, { snapshotter = 'overlayfs', arrival, onLayer, signal }: Hooks = {}) {
  return unpacker.unpack(manifest, {
    owner: { namespace: NAMESPACE, lease: 'mine', signal: signal ?? new AbortController().signal },
    snapshotter,
    arrival: arrival ?? (() => Promise.resolve()),
    onLayer,
  });
}

/** Keys of snapshots by kind. */
const snapshotsOf = (name: string) =>
  (snapshotters.get(name) as Snapshotter).walk(NAMESPACE).map(({ kind, name: key, parent }) => ({ kind, key, parent }));

/** What a container would see. Times of directories that layers only pass through are those of the unpacking. */
async function seen(name: string, top: string) {
  const root = mkdtempSync(join(bench.directory, 'look-'));
  const mounts = await (snapshotters.get(name) as Snapshotter).view(NAMESPACE, `look ${name} ${top}`, top);
  const [{ type, source, options } = { type: '', source: '', options: [] }] = mounts;
  execFileSync('mount', ['-t', type, source, '-o', options.join(','), root]);
  try {
    const tree = Object.entries(readTree(root));
    return {
      tree: tree.map(([path, entry]) => [path, entry.mode.startsWith('4') ? { ...entry, mtimeNs: '' } : entry]),
      xattrs: readXattrs(root),
    };
  } finally {
    execFileSync('umount', [root]);
  }
}

describeUnless(needsRoot())('the layers of an image', () => {
  test.each(['overlayfs', 'native'])('make the same tree on %s whichever is here first', async (snapshotter) => {
    const { manifest, chain } = await image(LAYERS.map((entries) => tar(entries)));

    const top = await unpack(manifest, { snapshotter });

    expect(top).toBe(chain.at(-1));
    expect(snapshotsOf(snapshotter)).toEqual(
      chain
        .map((key, index) => ({ kind: 'committed', key, parent: chain[index - 1] ?? '' }))
        .sort((left, right) => (left.key < right.key ? -1 : 1)),
    );
    const { tree, xattrs } = await seen(snapshotter, top);
    expect(tree.map(([path]) => path)).toEqual([
      'etc',
      'etc/deep',
      'etc/deep/added',
      'etc/deep/keep',
      'usr',
      'usr/link',
    ]);
    expect(Object.fromEntries(tree)).toMatchObject({
      etc: { mode: '40711', owner: '7:8' },
      'etc/deep': { mode: '40700', owner: '9:0' },
      'usr/link': { owner: '0:0' },
    });
    expect(xattrs).toEqual([expect.stringMatching(/^# file: etc\nuser\.a=0x62$/)]);
  });

  test('do not wait for those below on overlayfs', async () => {
    // Whole layers, which need nothing of those below.
    const whole = [0, 1, 2, 3].map((index) => tar([folder(`d${index}`), { name: `d${index}/f`, content: `${index}` }]));
    const { manifest, chain } = await image(whole);
    const upper = new Set(manifest.layers.slice(1).map(({ digest }) => digest));
    const allStarted = Promise.withResolvers<void>();
    const events: string[] = [];

    const top = await unpack(manifest, {
      // The base comes when all others are being unpacked.
      arrival: ({ digest }) => (upper.has(digest) ? Promise.resolve() : allStarted.promise),
      onLayer: ({ digest }, state) => {
        events.push(`${manifest.layers.findIndex((layer) => layer.digest === digest)} ${state}`);
        if (events.length === upper.size) allStarted.resolve();
      },
    });

    expect(top).toBe(chain[3]);
    expect(events.slice(0, 4)).toEqual(['1 extracting', '2 extracting', '3 extracting', '0 extracting']);
    expect(events.slice(4)).toEqual(['0 extracted', '1 extracted', '2 extracted', '3 extracted']);
    const { tree } = await seen('overlayfs', top);
    expect(tree.map(([path]) => path)).toEqual(['d0', 'd0/f', 'd1', 'd1/f', 'd2', 'd2/f', 'd3', 'd3/f']);
  });

  test.each<[string, number]>([
    ['overlayfs', 1],
    ['overlayfs', 4],
    ['native', 2],
  ])(
    'on %s: one that is not what the image says (number %i) leaves nothing of it and those above',
    async (name, bad) => {
      const archives = LAYERS.map((entries) => tar(entries));
      const wrong = `sha256:${'1'.repeat(64)}`;
      const { manifest, chain } = await image(
        archives,
        archives.map((bytes, index) => (index === bad ? wrong : sha256(bytes))),
      );

      const message = await unpack(manifest, { snapshotter: name }).catch(messageOf);

      expect(message).toMatch(
        new RegExp(`layer ${manifest.layers[bad]?.digest} unpacks to sha256:[0-9a-f]{64}, but the image says ${wrong}`),
      );
      const left = snapshotsOf(name);
      expect(left.every(({ kind, key }) => kind === 'committed' && chain.indexOf(key) < bad)).toBe(true);
    },
  );

  test('that cannot be read are told of, and the next try goes on where this one stopped', async () => {
    const good = await image(LAYERS.map((entries) => tar(entries)));
    const broken = { ...good.manifest, layers: [...good.manifest.layers] };
    broken.layers[3] = await addBlob(gzipSync(tar([{ name: '../evil', content: 'x' }])), OCI);

    const message = await unpack(broken).catch(messageOf);
    expect(message).toMatch(/failed to extract layer .*entry "..\/evil": path leads out of the root file system/);
    expect(snapshotsOf('overlayfs').filter(({ kind }) => kind === 'active')).toEqual([]);

    expect(await unpack(good.manifest)).toBe(good.chain.at(-1));
    expect(snapshotsOf('overlayfs')).toHaveLength(LAYERS.length);
  });

  test('are given up when nobody wants them any more', async () => {
    const { manifest } = await image(LAYERS.map((entries) => tar(entries)));
    const controller = new AbortController();
    const base = manifest.layers[0]?.digest;

    const message = await unpack(manifest, {
      signal: controller.signal,
      arrival: ({ digest }) => (digest === base ? new Promise(() => {}) : Promise.resolve()),
      onLayer: () => controller.abort(canceled('nobody waits')),
    }).catch(messageOf);

    expect(message).toMatch(/nobody waits|context canceled/);
    expect(snapshotsOf('overlayfs')).toEqual([]);
  });

  test.each(['prepare', 'commit'] as const)('are given up while the snapshotter is at its %s', async (method) => {
    const { manifest } = await image([tar(LAYERS[0] as TarSpec[])]);
    const controller = new AbortController();
    const real = snapshotters.get('native') as Snapshotter;
    const busy = async (...args: readonly unknown[]): Promise<never> => {
      const { signal } = args.at(-1) as { signal: AbortSignal };
      controller.abort(canceled('nobody waits'));
      signal.throwIfAborted();
      throw new Error('the signal says nothing');
    };
    const get = (target: Snapshotter, key: keyof Snapshotter) => {
      const value = key === method ? busy : target[key];
      return typeof value === 'function' ? value.bind(target) : value;
    };
    snapshotters.set('busy', new Proxy(real, { get } as ProxyHandler<Snapshotter>));

    const message = await unpack(manifest, { snapshotter: 'busy', signal: controller.signal }).catch(messageOf);

    expect(message).toMatch(/nobody waits/);
    expect(real.walk(NAMESPACE)).toEqual([]);
  });

  test('are unpacked once when two ask for them', async () => {
    const { manifest, chain } = await image(LAYERS.map((entries) => tar(entries)));
    const extracted: string[] = [];
    const onLayer = ({ digest }: ImageDescriptor, state: string) => {
      if (state === 'extracted') extracted.push(digest);
    };

    const tops = await Promise.all([
      unpack(manifest, { onLayer }),
      unpack(manifest, { onLayer }),
      unpack(manifest, { onLayer }),
    ]);

    expect(tops).toEqual([chain.at(-1), chain.at(-1), chain.at(-1)]);
    expect(extracted.sort()).toEqual(manifest.layers.map(({ digest }) => digest).sort());
    expect(snapshotsOf('overlayfs')).toHaveLength(chain.length);
  });
});
