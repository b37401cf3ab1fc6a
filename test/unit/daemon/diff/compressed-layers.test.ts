// What comes out of compressed blobs: whole, in several parts, with something behind, and damaged.

import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { tar } from '../../../suites/tar-builder';
import { randomOf } from '../../../suites/tar-mutations';
import { applyArchive } from '../../../suites/unpack';

/** The blob is read in pieces of this size. */
const INPUT_BYTES = 128 * 1024;
const random = randomOf(1);
const CONTENT = Buffer.from(Array.from({ length: 300_000 }, () => random(256)));
const ARCHIVE = tar([{ name: 'file', content: CONTENT }]);
const DIGEST = `sha256:${createHash('sha256').update(ARCHIVE).digest('hex')}`;
const HALF = 100_000;
const [FIRST, SECOND] = [ARCHIVE.subarray(0, HALF), ARCHIVE.subarray(HALF)];
const GZIP = gzipSync(ARCHIVE);
const ZSTD = zstdCompressSync(ARCHIVE);

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'compressed-'));
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

/** Zeros up to where the next piece of the blob begins. */
const filled = (blob: Buffer) => Buffer.concat([blob, Buffer.alloc(INPUT_BYTES - (blob.length % INPUT_BYTES))]);

/** Of zstd (RFC 8878, 3.1.2): what a reader passes over. */
function skippable(bytes: number): Buffer {
  const frame = Buffer.alloc(8 + bytes, 'x');
  frame.writeUInt32LE(0x184d2a5e, 0);
  frame.writeUInt32LE(bytes, 4);
  return frame;
}

/** A gzip stream whose checksum is wrong. */
function damaged(archive: Buffer): Buffer {
  const blob = gzipSync(archive);
  blob.writeUInt32LE((blob.readUInt32LE(blob.length - 8) ^ 1) >>> 0, blob.length - 8);
  return blob;
}

test.each<[string, Buffer[]]>([
  ['not compressed', [ARCHIVE]],
  ['gzip', [GZIP]],
  ['gzip with several members', [gzipSync(FIRST), gzipSync(Buffer.alloc(0)), gzipSync(SECOND)]],
  ['gzip with zeros behind', [GZIP, Buffer.alloc(300_000)]],
  ['gzip with zeros between its members', [gzipSync(FIRST), Buffer.alloc(5), gzipSync(SECOND)]],
  ['gzip with a member at the start of a piece', [filled(gzipSync(FIRST)), gzipSync(SECOND)]],
  ['zstd', [ZSTD]],
  ['zstd with several frames', [zstdCompressSync(FIRST), zstdCompressSync(Buffer.alloc(0)), zstdCompressSync(SECOND)]],
  ['zstd with frames to skip', [zstdCompressSync(FIRST), skippable(200_000), zstdCompressSync(SECOND), skippable(0)]],
  ['zstd that begins with a frame to skip', [skippable(4), ZSTD]],
])('a blob is unpacked: %s', async (_, parts) => {
  for (const chunkBytes of [1000, 256 * 1024]) {
    const unpacked = await applyArchive(root, Buffer.concat(parts), { mayBeCompressed: true, chunkBytes });

    expect(unpacked).toEqual({ digest: DIGEST, sizeBytes: ARCHIVE.length });
    expect(readFileSync(join(root, 'file')).equals(CONTENT)).toBe(true);
  }
});

test.each([
  ['nothing', Buffer.alloc(0)],
  ['gzip of nothing', gzipSync('')],
  ['zstd of nothing', zstdCompressSync('')],
])('a blob is an empty layer: %s', async (_, blob) => {
  expect((await applyArchive(root, blob, { mayBeCompressed: true })).sizeBytes).toBe(0);
});

test.each<[string, Buffer[], RegExp]>([
  ['gzip that ends in its header', [GZIP.subarray(0, 5)], /unexpected end of file/],
  ['gzip that ends in its data', [GZIP.subarray(0, 200_000)], /unexpected end of file/],
  ['gzip that ends in its checksum', [GZIP.subarray(0, -6)], /unexpected end of file/],
  ['gzip that ends in a second header', [GZIP, GZIP.subarray(0, 1)], /unexpected end of file/],
  ['gzip with a wrong checksum', [damaged(ARCHIVE)], /incorrect data check/],
  ['gzip with damage behind the archive', [GZIP, damaged(Buffer.alloc(2_000_000))], /incorrect data check/],
  ['gzip with something behind', [GZIP, Buffer.from('something')], /incorrect header check/],
  ['gzip with something behind zeros', [GZIP, Buffer.alloc(9), Buffer.from('something')], /incorrect header check/],
  ['gzip with something at the start of a piece', [filled(GZIP), Buffer.from('something')], /incorrect header check/],
  ['zstd that ends in its header', [ZSTD.subarray(0, 4)], /unexpected end of file/],
  ['zstd that ends in its data', [ZSTD.subarray(0, 200_000)], /unexpected end of file/],
  ['zstd that ends in its last byte', [ZSTD.subarray(0, -1)], /unexpected end of file/],
  ['zstd that ends in a frame to skip', [ZSTD, skippable(100).subarray(0, 50)], /unexpected end of file/],
  ['zstd with something behind', [ZSTD, Buffer.from('something')], /Unknown frame descriptor/],
  ['zstd with a window of 256 MiB', [Buffer.from('28b52ffd009001000000', 'hex')], /too much memory/],
])('a blob is refused: %s', async (_, parts, message) => {
  const unpacking = applyArchive(root, Buffer.concat(parts), { mayBeCompressed: true });

  await expect(unpacking).rejects.toThrow(/^layer cannot be decompressed: .*: invalid argument$/);
  await expect(unpacking).rejects.toThrow(message);
});

test('a blob is not decompressed when it must be a plain archive', async () => {
  await expect(applyArchive(root, GZIP)).rejects.toThrow(/invalid tar header/);
});
