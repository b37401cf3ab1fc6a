// The tar format, entry by entry, in chunks of every awkward size.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TarEntry, TarReader } from '../../../../daemon/diff/tar-reader';
import { entryBlocks, header, pad, paxBlocks, type TarSpec, tar } from '../../../suites/tar-builder';

interface ReadEntry extends TarEntry {
  content: Buffer;
}

/** Reads an archive in chunks of `chunkBytes`. */
function read(archive: Buffer, chunkBytes = archive.length): ReadEntry[] {
  const entries: ReadEntry[] = [];
  let chunk: Buffer = Buffer.alloc(0);
  const reader = new TarReader({
    entry: (entry) => entries.push({ ...entry, content: Buffer.alloc(entry.type === 'file' ? entry.size : 0) }),
    data: ({ offset, bytes, position }) => {
      chunk.copy(entries.at(-1)?.content as Buffer, position, offset, offset + bytes);
    },
    entryEnd: () => {},
  });
  for (let at = 0; at < archive.length; at += chunkBytes) {
    chunk = archive.subarray(at, at + chunkBytes);
    reader.push(chunk);
  }
  reader.finish();
  return entries;
}

const one = (spec: TarSpec) => read(tar([spec]))[0] as ReadEntry;

describe('TarReader', () => {
  test('push() gives names, attributes and data of a ustar archive', () => {
    const entry = one({ name: 'etc/passwd', content: 'root', mode: 0o4640, uid: 7, gid: 8, mtime: 12345 });

    expect(entry).toMatchObject({ type: 'file', name: 'etc/passwd', mode: 0o4640, uid: 7, gid: 8, size: 4 });
    expect(entry.mtime).toEqual({ seconds: 12345, nanoseconds: 0 });
    expect(entry.content.toString()).toBe('root');
  });

  test.each([1, 7, 511, 512, 513, 4096])('push() does not depend on where chunks end (%d bytes)', (chunkBytes) => {
    const archive = tar([
      { name: 'a', content: 'x'.repeat(1500) },
      { name: 'dir/', type: '5' },
      { name: 'b', content: Buffer.alloc(1024, 'y'), pax: { path: 'a long name' } },
    ]);

    const entries = read(archive, chunkBytes);

    expect(entries.map(({ name }) => name)).toEqual(['a', 'dir/', 'a long name']);
    expect(entries[0]?.content.toString()).toBe('x'.repeat(1500));
    expect(entries[2]?.content.toString()).toBe('y'.repeat(1024));
  });

  test('push() knows all types of entries', () => {
    const types = ['0', '\0', '1', '2', '3', '4', '5', '6', '7'].map((type) => one({ name: 'n', type, linkName: 'l' }));

    expect(types.map(({ type }) => type)).toEqual([
      'file',
      'file',
      'hardlink',
      'symlink',
      'character',
      'block',
      'directory',
      'fifo',
      'file',
    ]);
  });

  test('push() takes an old entry with a trailing slash for a directory', () => {
    expect(one({ name: 'dir/', type: '\0' }).type).toBe('directory');
  });

  test('push() joins the ustar prefix, but not in GNU archives', () => {
    expect(one({ name: 'name', patch: [[345, 'pre/fix']] }).name).toBe('pre/fix/name');
    expect(one({ name: 'name', gnu: true, patch: [[345, '12345670000']] }).name).toBe('name');
  });

  test('push() lets PAX records override the header', () => {
    const pax = {
      path: 'päx',
      uid: '3000000000',
      gid: '4',
      mtime: '1600000001.123456789',
      atime: '-1.5',
      'SCHILY.xattr.user.a': Buffer.from([0, 1, 255]),
    };

    const entry = one({ name: 'x', pax });

    expect(Buffer.from(entry.name, 'latin1').toString()).toBe('päx');
    expect(entry).toMatchObject({ uid: 3_000_000_000, gid: 4 });
    expect(entry.mtime).toEqual({ seconds: 1_600_000_001, nanoseconds: 123_456_789 });
    expect(entry.atime).toEqual({ seconds: -2, nanoseconds: 500_000_000 });
    expect(entry.xattrs).toEqual([['user.a', '\0\u0001\u00ff']]);
  });

  test('push() applies a PAX header to one entry only, and a global one to none', () => {
    const archive = Buffer.concat([
      ...paxBlocks('g', { path: 'global' }),
      ...entryBlocks({ name: 'a', pax: { path: 'b' } }),
      tar([{ name: 'c' }]),
    ]);

    expect(read(archive).map(({ name }) => name)).toEqual(['b', 'c']);
  });

  test('push() reads GNU long names and links', () => {
    const long = 'd/'.repeat(200);
    const archive = Buffer.concat([
      ...entryBlocks({ name: '././@LongLink', type: 'L', content: `${long}name\0` }),
      ...entryBlocks({ name: '././@LongLink', type: 'K', content: `${long}target\0` }),
      tar([{ name: 'short', type: '2', linkName: 'short' }]),
    ]);

    expect(read(archive)[0]).toMatchObject({ name: `${long}name`, linkName: `${long}target` });
  });

  test('push() reads base-256 numbers and signed checksums', () => {
    const uid = Buffer.from([0x80, 0, 0, 0, 0x80, 0, 0, 1]);

    expect(one({ name: 'a', patch: [[108, uid]] }).uid).toBe(0x80000001);
    const block = header({ name: 'ä' }, 0);
    const signed = [...block].reduce((sum, byte, at) => sum + (at >= 148 && at < 156 ? 32 : (byte << 24) >> 24), 0);
    block.write(`${signed.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    expect(read(Buffer.concat([block, Buffer.alloc(1024)]))).toHaveLength(1);
  });

  test.each(['--format=gnu', '--format=pax --sparse-version=0.0', '--format=pax --sparse-version=0.1', '--format=pax'])(
    'push() reads sparse files as tar %s writes them',
    (options) => {
      const directory = mkdtempSync(join(tmpdir(), 'tar-'));
      try {
        const path = join(directory, 'sparse');
        writeFileSync(path, 'start');
        truncateSync(path, 300_000);
        for (let run = 1; run <= 12; run++) writeAt(path, run * 20_480, `run ${run}`);
        execFileSync('tar', [...options.split(' '), '--sparse', '-C', directory, '-cf', `${path}.tar`, 'sparse']);
        const archive = execFileSync('cat', [`${path}.tar`]);

        const [entry] = read(archive, 1000);

        expect(archive.length).toBeLessThan(200_000);
        expect(entry).toMatchObject({ name: 'sparse', size: 300_000, isSparse: true });
        expect(entry?.content.equals(execFileSync('cat', [path]))).toBe(true);
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
  );

  test('push() ignores what follows the end', () => {
    expect(read(Buffer.concat([tar([{ name: 'a' }]), Buffer.alloc(5000, 1)]))).toHaveLength(1);
  });

  test('finish() accepts an archive without zero blocks, and an empty one', () => {
    expect(read(tar([{ name: 'a', content: 'x' }], false))).toHaveLength(1);
    expect(read(Buffer.alloc(0), 1)).toEqual([]);
  });

  test.each([
    ['in a header', tar([{ name: 'a', content: 'x' }]).subarray(0, 100)],
    ['in the data', tar([{ name: 'a', content: 'x'.repeat(2000) }]).subarray(0, 1500)],
    ['in the padding', tar([{ name: 'a', content: 'x' }]).subarray(0, 600)],
    ['after a PAX header', Buffer.concat(paxBlocks('x', { path: 'a' }))],
  ])('finish() refuses an archive that ends %s', (_, archive) => {
    expect(() => read(archive)).toThrow(/truncated .*unexpected EOF: invalid argument$/);
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
  ])('push() refuses %s', (_, archive, message) => {
    expect(() => read(archive)).toThrow(message);
  });

  test('push() answers damaged archives with its own errors only', () => {
    let seed = 42;
    const random = () => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed % 256;
    };
    for (let round = 0; round < 200; round++) {
      const archive = tar([{ name: 'a', content: 'x'.repeat(700), pax: { path: 'b' } }]);
      for (let change = 0; change < 5; change++) archive[(random() * 256 + random()) % archive.length] = random();

      try {
        read(archive, 600);
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
