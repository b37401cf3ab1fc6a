// Real multi-layer images unpacked by gantryd, by its own client's one call or by ctr layer by layer, and by Debian's
// containerd: every directory of every layer, and the root filesystem that they make, must be the same.

import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, mkdtempSync, readdirSync, rmdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LAYERED, type LayeredName, layeredImage, layerTars } from '../images/layered';
import { PROJECT_ROOT } from '../setup/cache';
import { installedContainerd } from '../setup/clients';
import { mustRun, runCommand } from '../setup/command';
import { startContainerd, startGantryd, type TestDaemon } from '../setup/daemons';
import { readTree, readXattrs } from '../suites/tree';

const TIMEOUT_MS = 600_000;
const MEMORY = '/dev/shm';
const MEMORY_BYTES_MIN = 2 ** 31;
const GANTRY = join(PROJECT_ROOT, 'dist/bin/gantry');

/** One way of unpacking: who does it, for whom. */
interface Way {
  readonly daemon: TestDaemon;
  readonly namespace: string;
  readonly importer: readonly string[];
}

interface Snapshot {
  readonly name: string;
  readonly inodes: number;
  readonly sizeBytes: number;
}

let containerd: TestDaemon;
let gantryd: TestDaemon;
let traps: string;
let trapPath: string;
/** The same for both, whose sizes are compared. */
let storeParent: string;

beforeAll(async () => {
  await installedContainerd();
  storeParent = parentOfStores();
  traps = mkdtempSync(join(tmpdir(), 'traps-'));
  trapPath = `${traps}:${process.env['PATH']}`;
  for (const name of ['unpigz', 'pigz', 'igzip', 'gzip', 'gunzip', 'zstd', 'unzstd', 'tar'])
    writeFileSync(join(traps, name), `#!/bin/sh\ntouch ${traps}/was-run\nexit 1\n`, { mode: 0o755 });
}, TIMEOUT_MS);

afterAll(() => {
  rmSync(traps, { recursive: true, force: true });
});

beforeEach(async () => {
  containerd = await startContainerd(await installedContainerd(), { directory: storeDirectory() });
  gantryd = await startGantryd({ directory: storeDirectory(), env: { PATH: trapPath } });
}, TIMEOUT_MS);

afterEach(async () => {
  await containerd?.destroy();
  await gantryd?.destroy();
}, TIMEOUT_MS);

/** In memory where there is enough: a disk takes minutes for all these files. */
function parentOfStores(): string {
  const { bavail, bsize } = statfsSync(MEMORY);
  return bavail * bsize > MEMORY_BYTES_MIN ? MEMORY : tmpdir();
}

const storeDirectory = () => mkdtempSync(join(storeParent, 'unpack-'));

const ctr = ({ daemon, namespace }: Way, ...args: string[]) =>
  mustRun(['/usr/bin/ctr', '-a', daemon.address, '-n', namespace, ...args], { timeoutMs: TIMEOUT_MS });

test.each(Object.keys(LAYERED) as LayeredName[])(
  'the image "%s" is unpacked as containerd does it',
  async (name) => {
    const image = await layeredImage(name);
    const tars = await layerTars();
    const namespaceOf = (daemon: TestDaemon, client: string) => `${daemon.namespace}-${name}-${client}`;
    const way = (daemon: TestDaemon, client: string, importer: readonly string[]): Way => ({
      daemon,
      namespace: namespaceOf(daemon, client),
      importer,
    });
    const peer = way(containerd, 'ctr', ['/usr/bin/ctr', 'images', 'import']);
    const ours = [way(gantryd, 'gantry', [GANTRY, 'images', 'import'])];
    // Layers one by one through Snapshots and Diff; once is enough.
    if (name === 'mixed') ours.push(way(gantryd, 'ctr', ['/usr/bin/ctr', 'images', 'import']));
    await Promise.all([peer, ...ours].map((each) => importImage(each, image)));

    const expected = await unpacked(peer);
    expect(expected.layers).toHaveLength(LAYERED[name].length);
    for (const each of ours) {
      const actual = await unpacked(each);
      expect(actual.snapshots.map(withoutSize)).toEqual(expected.snapshots.map(withoutSize));
      for (const [index, [layer]] of LAYERED[name].entries()) {
        const listed = namesIn(tars[layer]);
        const [mine, theirs] = [actual.layers[index] ?? '', expected.layers[index] ?? ''];
        expectEqualTrees(describeTree(mine, listed), describeTree(theirs, listed));
        expect(readXattrs(mine)).toEqual(readXattrs(theirs));
        // Blocks of directories and of what the file system adds differ by a few.
        const [size, peerSize] = [actual, expected].map(({ snapshots }) => snapshots[index]?.sizeBytes ?? 0);
        expect(Math.abs((size ?? 0) - (peerSize ?? 0)) / (peerSize || 1)).toBeLessThan(0.01);
      }
      expectEqualTrees(mergedTree(actual.layers), mergedTree(expected.layers));
    }
    // Decompressors are never looked up in PATH.
    expect(existsSync(join(traps, 'was-run'))).toBe(false);
  },
  TIMEOUT_MS,
);

test('the programs that gantryd must not start would have been noticed', async () => {
  await runCommand(['sh', '-c', 'unpigz'], { env: { PATH: trapPath } });
  expect(existsSync(join(traps, 'was-run'))).toBe(true);
});

async function importImage({ daemon, namespace, importer: [program = '', ...args] }: Way, image: string) {
  const target = program === GANTRY ? ['--address'] : ['-a'];
  await mustRun([program, ...target, daemon.address, '-n', namespace, ...args, image], { timeoutMs: TIMEOUT_MS });
}

/** The snapshots of the only image in a namespace and the directories of their layers, base first. */
async function unpacked(way: Way): Promise<{ snapshots: Snapshot[]; layers: string[] }> {
  const rows = (await ctr(way, 'snapshots', 'ls')).trim().split('\n').slice(1);
  const parents = new Map(
    rows.map((row) => row.trim().split(/\s+/)).map(([key = '', parent = '']) => [key, parent] as const),
  );
  const chain: string[] = [];
  const isTop = (key: string) => ![...parents.values()].includes(key);
  for (let key = [...parents.keys()].find(isTop) ?? ''; parents.has(key); key = parents.get(key) ?? '')
    chain.unshift(key);
  expect(chain).toHaveLength(rows.length);
  const snapshots: Snapshot[] = [];
  for (const key of chain) snapshots.push(await usageOf(way, key));
  const mounts = await ctr(way, 'snapshots', 'view', '--mounts', 'look', chain.at(-1) ?? '');
  const lowers = /lowerdir=([^",]+)/.exec(mounts)?.[1]?.split(':') ?? [];
  return { snapshots, layers: lowers.reverse() };
}

async function usageOf(way: Way, name: string): Promise<Snapshot> {
  const [, size = '', inodes = ''] =
    (await ctr(way, 'snapshots', 'usage', '-b', name)).trim().split('\n').at(-1)?.split(/\s+/) ?? [];
  return { name, sizeBytes: Number(size), inodes: Number(inodes) };
}

function withoutSize({ name, inodes }: Snapshot) {
  return { name, inodes };
}

/** Names in a layer, without slashes at either end. */
function namesIn(tar: string): ReadonlySet<string> {
  const names = execFileSync('tar', ['-tf', tar], { encoding: 'utf8', maxBuffer: 64 << 20 }).split('\n');
  return new Set(names.map((name) => name.replace(/^(\.?\/)+|\/$/g, '')));
}

/** A tree with the names that share a file. Only what has an entry in the layer has a time of its own. */
function describeTree(root: string, listed: ReadonlySet<string> | undefined) {
  const first = new Map<bigint, string>();
  return Object.entries(readTree(root)).map(([path, entry]) => {
    const { ino } = lstatSync(join(root, path), { bigint: true });
    if (!first.has(ino)) first.set(ino, path);
    const mtimeNs = listed === undefined || listed.has(path) ? entry.mtimeNs : '';
    return { path, ...entry, mtimeNs, sameFileAs: first.get(ino) };
  });
}

/** What a container would see. Directories without an entry in the nearest layer have no time of their own. */
function mergedTree(layers: readonly string[]) {
  const root = mkdtempSync(join(tmpdir(), 'merged-'));
  execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', `ro,lowerdir=${[...layers].reverse().join(':')}`, root]);
  try {
    const tree = describeTree(root, undefined);
    expect(tree.length).toBeGreaterThan(20_000);
    expect(readdirSync(root)).toContain('usr');
    return tree.map((entry) => (entry.mode.startsWith('4') ? { ...entry, mtimeNs: '' } : entry));
  } finally {
    execFileSync('umount', [root]);
    rmdirSync(root);
  }
}

/** Says what differs, not tens of thousands of lines that do not. */
function expectEqualTrees(actual: readonly { path: string }[], expected: readonly { path: string }[]): void {
  const known = new Map(expected.map((entry) => [entry.path, entry]));
  const differing = actual.filter((entry) => JSON.stringify(entry) !== JSON.stringify(known.get(entry.path)));
  expect(differing.slice(0, 20)).toEqual(differing.slice(0, 20).map(({ path }) => known.get(path)));
  expect(actual.map(({ path }) => path)).toEqual(expected.map(({ path }) => path));
}
