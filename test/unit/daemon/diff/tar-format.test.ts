// The tar format as it comes out on disk, in chunks of every awkward size.

import { execFileSync } from 'node:child_process';
import {
  lstatSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { entryBlocks, header, pad, paxBlocks, type TarSpec, tar } from '../../../suites/tar-builder';
import { seedArchives } from '../../../suites/tar-mutations';
import { readTree, readXattrs } from '../../../suites/tree';
import { applyArchive } from '../../../suites/unpack';

const LONG_MS = 120_000;

let directory: string;
let root: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tar-'));
  root = mkdtempSync(join(directory, 'root-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** Unpacks an archive that is read in chunks of `chunkBytes`; returns the names of what it holds. */
async function read(archive: Buffer, chunkBytes?: number): Promise<string[]> {
  root = mkdtempSync(join(directory, 'root-'));
  await applyArchive(root, archive, chunkBytes === undefined ? {} : { chunkBytes });
  return Object.keys(readTree(root)).map((name) => Buffer.from(name, 'latin1').toString());
}

/** Unpacks an archive of one entry, and describes it. */
async function one(spec: TarSpec) {
  const [name] = await read(tar([spec]));
  return { name, ...Object.values(readTree(root))[0] };
}

/** Directories without an entry have the time at which they were made. */
const withoutTimes = (path: string) =>
  Object.entries(readTree(path)).map(([name, entry]) => [name, { ...entry, mtimeNs: '' }]);
const contentOf = (name: string) => readFileSync(join(root, name), 'utf8');

describe('an archive', () => {
  test('gives names, attributes and data of a ustar archive', async () => {
    const spec = { name: 'passwd', content: 'root', mode: 0o4640, uid: 7, gid: 8, mtime: 12345 };

    expect(await one(spec)).toMatchObject({
      name: 'passwd',
      mode: '104640',
      owner: '7:8',
      mtimeNs: '12345000000000',
    });
    expect(contentOf('passwd')).toBe('root');
  });

  test.each([1, 7, 511, 512, 513, 4096])('does not depend on where chunks end (%d bytes)', async (chunkBytes) => {
    const archive = tar([
      { name: 'a', content: 'x'.repeat(1500) },
      { name: 'dir/', type: '5' },
      { name: 'b', content: Buffer.alloc(1024, 'y'), pax: { path: 'a long name' } },
    ]);

    expect(await read(archive, chunkBytes)).toEqual(['a', 'a long name', 'dir']);

    expect(contentOf('a')).toBe('x'.repeat(1500));
    expect(contentOf('a long name')).toBe('y'.repeat(1024));
  });

  test.each([7, 511, 513, 1000])(
    'does not depend on where chunks end in what describes an entry (%d bytes)',
    async (chunkBytes) => {
      for (const archive of seedArchives()) {
        await read(archive);
        const expected = [withoutTimes(root), readXattrs(root)];

        await read(archive, chunkBytes);

        expect([withoutTimes(root), readXattrs(root)]).toEqual(expected);
      }
    },
    LONG_MS,
  );

  test.each([
    ['0', '100'],
    ['\0', '100'],
    ['2', '120'],
    ['3', '20'],
    ['4', '60'],
    ['5', '40'],
    ['6', '10'],
    ['7', '100'],
  ])('may hold entries of type %j', async (type, mode) => {
    expect((await one({ name: 'n', type, linkName: 'l', mode: 0o777 })).mode).toBe(`${mode}777`);
  });

  test('may hold hard links', async () => {
    await read(
      tar([
        { name: 'first', content: 'x' },
        { name: 'second', type: '1', linkName: 'first' },
      ]),
    );

    expect(lstatSync(join(root, 'second')).ino).toBe(lstatSync(join(root, 'first')).ino);
  });

  test('may name an old directory by a trailing slash only', async () => {
    expect((await one({ name: 'dir/', type: '\0', mode: 0o755 })).mode).toBe('40755');
  });

  test('joins the ustar prefix, but not in GNU archives', async () => {
    expect(await read(tar([{ name: 'name', patch: [[345, 'pre/fix']] }]))).toContain('pre/fix/name');
    expect(await read(tar([{ name: 'name', gnu: true, patch: [[345, '12345670000']] }]))).toEqual(['name']);
  });

  test('overrides the header by PAX records', async () => {
    const pax = {
      path: 'päx',
      uid: '3000000000',
      gid: '4',
      mtime: '1600000001.123456789',
      atime: '1600000002.5',
      'SCHILY.xattr.user.a': Buffer.from([0, 1, 255]),
    };

    await applyArchive(root, tar([{ name: 'x', pax }]));

    expect(lstatSync(join(root, 'päx'), { bigint: true })).toMatchObject({
      uid: 3_000_000_000n,
      gid: 4n,
      mtimeNs: 1_600_000_001_123_456_789n,
      atimeNs: 1_600_000_002_500_000_000n,
    });
    expect(readXattrs(root).join()).toContain('user.a=0x0001ff');
  });

  test('means the header where a PAX record is empty', async () => {
    const pax = { path: '', linkpath: '', uid: '', gid: '', mtime: '', atime: '', size: '' };
    const spec = { name: 'n', content: 'x', uid: 7, gid: 8, mtime: 12345, pax };

    expect(await one(spec)).toMatchObject({ name: 'n', owner: '7:8', mtimeNs: '12345000000000' });
    expect(contentOf('n')).toBe('x');
    expect(await one({ ...spec, type: '2', linkName: 'target', content: '' })).toMatchObject({ content: '-> target' });
  });

  test('applies a PAX header to one entry only, and a global one to none', async () => {
    const archive = Buffer.concat([
      ...paxBlocks('g', { path: 'global' }),
      ...entryBlocks({ name: 'a', pax: { path: 'b' } }),
      tar([{ name: 'c' }]),
    ]);

    expect(await read(archive)).toEqual(['b', 'c']);
  });

  test('may have GNU long names and links', async () => {
    const long = 'd/'.repeat(200);
    const archive = Buffer.concat([
      ...entryBlocks({ name: '././@LongLink', type: 'L', content: `${long}name\0` }),
      ...entryBlocks({ name: '././@LongLink', type: 'K', content: `${long}target\0` }),
      tar([{ name: 'short', type: '2', linkName: 'short' }]),
    ]);

    expect(await read(archive)).toContain(`${long}name`);
    expect(readlinkSync(join(root, `${long}name`))).toBe(`${long}target`);
  });

  test('may have base-256 numbers and signed checksums', async () => {
    const uid = Buffer.from([0x80, 0, 0, 0, 0x80, 0, 0, 1]);

    expect((await one({ name: 'a', patch: [[108, uid]] })).owner).toBe(`${0x80000001}:0`);
    const block = header({ name: 'ä' }, 0);
    const signed = [...block].reduce((sum, byte, at) => sum + (at >= 148 && at < 156 ? 32 : (byte << 24) >> 24), 0);
    block.write(`${signed.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    expect(await read(Buffer.concat([block, Buffer.alloc(1024)]))).toEqual(['ä']);
  });

  test.each(['--format=gnu', '--format=pax --sparse-version=0.0', '--format=pax --sparse-version=0.1', '--format=pax'])(
    'holds sparse files as tar %s writes them',
    async (options) => {
      const path = join(directory, 'sparse');
      writeFileSync(path, 'start');
      truncateSync(path, 300_000);
      for (let run = 1; run <= 12; run++) writeAt(path, run * 20_480, `run ${run}`);
      execFileSync('tar', [...options.split(' '), '--sparse', '-C', directory, '-cf', `${path}.tar`, 'sparse']);
      const archive = readFileSync(`${path}.tar`);

      expect(await read(archive, 1000)).toEqual(['sparse']);

      expect(archive.length).toBeLessThan(200_000);
      // The blocks of what is not on disk yet are only estimated.
      execFileSync('sync', [path, join(root, 'sparse')]);
      expect(statSync(join(root, 'sparse')).blocks).toBe(statSync(path).blocks);
      expect(readFileSync(join(root, 'sparse')).equals(readFileSync(path))).toBe(true);
    },
  );

  test('ignores what follows the end', async () => {
    expect(await read(Buffer.concat([tar([{ name: 'a' }]), Buffer.alloc(5000, 1)]))).toEqual(['a']);
  });

  test('accepts an archive without zero blocks, and an empty one', async () => {
    expect(await read(tar([{ name: 'a', content: 'x' }], false))).toEqual(['a']);
    expect(await read(Buffer.alloc(0), 1)).toEqual([]);
  });

  test.each([
    ['in a header', tar([{ name: 'a', content: 'x' }]).subarray(0, 100)],
    ['in the data', tar([{ name: 'a', content: 'x'.repeat(2000) }]).subarray(0, 1500)],
    ['in the padding', tar([{ name: 'a', content: 'x' }]).subarray(0, 600)],
    ['after a PAX header', Buffer.concat(paxBlocks('x', { path: 'a' }))],
  ])('is refused when it ends %s', async (_, archive) => {
    await expect(read(archive)).rejects.toThrow(/truncated .*unexpected EOF: invalid argument$/);
  });

  test.each<[string, Buffer, RegExp]>([
    ['a wrong checksum', Buffer.alloc(1024, 'x'), /checksum|invalid tar header/],
    ['a number that is none', tar([{ name: 'a', patch: [[124, 'zzz']] }]), /size is not a number/],
    ['a negative size', tar([{ name: 'a', patch: [[124, Buffer.alloc(12, 0xff)]] }]), /negative size/],
    ['a size beyond all bounds', tar([{ name: 'a', patch: [[124, hugeNumber(12)]] }]), /out of range/],
    [
      'an id that chown takes for "none"',
      tar([{ name: 'a', pax: { uid: '4294967295' } }]),
      /uid 4294967295 is out of range/,
    ],
    ['an id beyond 32 bits', tar([{ name: 'a', pax: { gid: '4294967296' } }]), /gid 4294967296 is out of range/],
    ['a negative id', tar([{ name: 'a', patch: [[108, Buffer.alloc(8, 0xff)]] }]), /uid -1 is out of range/],
    ['an unknown type', tar([{ name: 'a', type: 'M' }]), /entry "a": unsupported tar entry type "M"/],
    ['a PAX header of 2 MiB', tar([{ name: 'a', type: 'x', size: 2 << 20 }]), /too large/],
    [
      'a PAX record with a wrong length',
      tar([{ name: 'a', type: 'x', content: '99 path=a\n' }]),
      /malformed PAX header/,
    ],
    ['a PAX record of length 0', tar([{ name: 'a', type: 'x', content: '0 path=a\n' }]), /malformed PAX header/],
    ['a NUL in a PAX path', tar([{ name: 'a', pax: { path: 'a\0b' } }]), /NUL in PAX header/],
    ['a PAX size that is no number', tar([{ name: 'a', pax: { size: '1e3' } }]), /is not a number/],
    [
      'a PAX header before the end',
      Buffer.concat([...paxBlocks('x', { path: 'a' }), Buffer.alloc(1024)]),
      /without an entry/,
    ],
    ['a sparse map out of order', sparse('10,5,3,5', { real: '100', stored: 10 }), /invalid sparse map/],
    ['a sparse map beyond the file', sparse('0,5,99,5', { real: '100', stored: 10 }), /invalid sparse map/],
    [
      'a sparse map that overflows',
      sparse('9007199254740991,10', { real: '9007199254740991', stored: 10 }),
      /invalid sparse map/,
    ],
    ['a sparse map that does not match the data', sparse('0,5', { real: '100', stored: 10 }), /does not match/],
  ])('is refused for %s', async (_, archive, message) => {
    await expect(read(archive)).rejects.toThrow(message);
  });

  test('answers damaged archives with its own errors only', async () => {
    let seed = 42;
    const random = () => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed % 256;
    };
    for (let round = 0; round < 200; round++) {
      const archive = tar([{ name: 'a', content: 'x'.repeat(700), pax: { path: 'b' } }]);
      for (let change = 0; change < 5; change++) archive[(random() * 256 + random()) % archive.length] = random();

      try {
        await read(archive, 600);
      } catch (error) {
        expect(`seed 42, round ${round}: ${(error as Error).message}`).toMatch(/: invalid argument$/);
      }
    }
  });
});

function writeAt(path: string, position: number, text: string): void {
  execFileSync('dd', [`of=${path}`, 'bs=1', `seek=${position}`, 'conv=notrunc', 'status=none'], { input: text });
}

function hugeNumber(length: number): Buffer {
  const bytes = Buffer.alloc(length, 0xff);
  bytes[0] = 0x80;
  return bytes;
}

function sparse(map: string, { real, stored }: { real: string; stored: number }): Buffer {
  const pax = { 'GNU.sparse.map': map, 'GNU.sparse.size': real };
  const blocks = entryBlocks({ name: 'a', pax, size: stored });
  return Buffer.concat([...blocks, pad(Buffer.alloc(stored)), Buffer.alloc(1024)]);
}
