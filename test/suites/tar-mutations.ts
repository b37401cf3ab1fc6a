// Archives that are nearly right: valid ones in which a few bytes, blocks or lengths are wrong, with checksums that fit, so
// that a reader gets as far as possible with them.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { entryBlocks, pad, paxBlocks, tar } from './tar-builder';

const BLOCK = 512;
const CHECKSUM_AT = 148;
const CHECKSUM_END = 156;
const CHANGES_MAX = 6;
/** Bytes that mean something to some part of the format. */
const TELLING = [...Buffer.from('\0\n =,./09-17SxgLK56'), 0x7f, 0x80, 0xff];

/** The same numbers for the same seed, from 0 up to below `limit`. */
export type Random = (limit: number) => number;

export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** Valid archives that use all of the format. */
export function seedArchives(): Buffer[] {
  const sparse = { 'GNU.sparse.map': '0,5,600,7', 'GNU.sparse.size': '2000' };
  const everything = tar([
    { name: 'd/', type: '5', mode: 0o750 },
    { name: 'd/f', content: 'x'.repeat(700), uid: 3, pax: { mtime: '12.5', 'SCHILY.xattr.user.a': 'b\0c' } },
    { name: 'd/h', type: '1', linkName: './d/f' },
    { name: 'd/s', type: '2', linkName: '../d' },
    { name: 'd/s/through', content: 'y' },
    { name: 'n', type: '3', major: 1, minor: 3 },
    { name: 'd/.wh.gone' },
    { name: 'e/.wh..wh..opq' },
    { name: 'x', content: 'z', pax: { path: `${'long/'.repeat(40)}name`, size: '1', uid: '70000' } },
  ]);
  const long = Buffer.concat([
    ...entryBlocks({ name: '././@LongLink', type: 'L', content: `${'n/'.repeat(90)}name\0`, gnu: true }),
    ...entryBlocks({ name: '././@LongLink', type: 'K', content: `${'t/'.repeat(90)}target\0`, gnu: true }),
    ...entryBlocks({ name: 'short', type: '2', linkName: 'short' }),
    ...paxBlocks('g', { path: 'global' }),
    tar([{ name: 'last' }]),
  ]);
  const listed = Buffer.concat([
    ...entryBlocks({ name: 'sparse', pax: sparse, size: 12 }),
    pad(Buffer.from('hello, world')),
    tar([{ name: 'after' }]),
  ]);
  return [everything, long, listed, ...sparseArchives()];
}

/** Sparse files as tar(1) writes them in each of its formats. */
function sparseArchives(): Buffer[] {
  const directory = mkdtempSync(join(tmpdir(), 'tar-mutations-'));
  try {
    const path = join(directory, 'sparse');
    writeFileSync(path, '');
    truncateSync(path, 1_000_000);
    const block = Buffer.alloc(BLOCK, 'x');
    for (let run = 0; run < 12; run++) {
      execFileSync('dd', [`of=${path}`, 'bs=512', `seek=${run * 160}`, 'conv=notrunc', 'status=none'], {
        input: block,
      });
    }
    return ['gnu', 'posix --sparse-version=0.0', 'posix --sparse-version=0.1', 'posix --sparse-version=1.0'].map(
      (format) => {
        const options = `--format=${format}`.split(' ');
        execFileSync('tar', [...options, '--sparse', '-C', directory, '-cf', join(directory, 'tar'), 'sparse']);
        return readFileSync(join(directory, 'tar'));
      },
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A copy of the archive with a few things wrong. */
export function mutate(archive: Buffer, random: Random): Buffer {
  const headers = headerOffsets(archive);
  let changed = Buffer.from(archive);
  for (let left = 1 + random(CHANGES_MAX); left > 0; left--) {
    const header = headers[random(headers.length)] ?? 0;
    const byte = random(2) === 0 ? random(256) : (TELLING[random(TELLING.length)] as number);
    // Bodies of extended headers and maps follow their header.
    const at = random(3) === 0 ? random(changed.length) : header + random(2 * BLOCK);
    if (at < changed.length) changed[at] = byte;
  }
  for (const at of headers) if (at + BLOCK <= changed.length) writeChecksum(changed.subarray(at, at + BLOCK));
  if (random(8) === 0) changed = changed.subarray(0, random(changed.length));
  if (random(8) === 0) {
    const at = random(changed.length / BLOCK) * BLOCK;
    const from = random(changed.length / BLOCK) * BLOCK;
    changed = Buffer.concat([changed.subarray(0, at), changed.subarray(from)]);
  }
  return changed;
}

/** Blocks with a valid checksum. */
function headerOffsets(archive: Buffer): number[] {
  const offsets: number[] = [];
  for (let at = 0; at + BLOCK <= archive.length; at += BLOCK) {
    const block = Buffer.from(archive.subarray(at, at + BLOCK));
    const stored = Number.parseInt(block.toString('latin1', CHECKSUM_AT, CHECKSUM_END), 8);
    if (stored === sumOf(block)) offsets.push(at);
  }
  return offsets;
}

function sumOf(block: Buffer): number {
  return block.reduce((sum, byte, at) => sum + (at >= CHECKSUM_AT && at < CHECKSUM_END ? 0x20 : byte), 0);
}

function writeChecksum(block: Buffer): void {
  block.write(`${sumOf(block).toString(8).padStart(6, '0')}\0 `, CHECKSUM_AT, 'latin1');
}
