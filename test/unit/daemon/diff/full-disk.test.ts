// Layers that do not fit: what is told, and that nothing stays open, which a file system that can be unmounted shows.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TarSpec, tar } from '../../../suites/tar-builder';
import { applyArchive } from '../../../suites/unpack';

const CONTENT = 'x'.repeat(300_000);
/** The map of a file with a hole before its data. */
const SPARSE = { 'GNU.sparse.map': '1000000,300000', 'GNU.sparse.size': '1300000' };

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'full-disk-'));
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

test.each<[string, string, TarSpec[]]>([
  ['space within a file', 'size=64k', [{ name: 'a' }, { name: 'last', content: CONTENT }, { name: 'b' }]],
  ['space for a sparse file', 'size=64k', [{ name: 'last', content: CONTENT, pax: SPARSE }]],
  ['inodes', 'nr_inodes=3', ['a/', 'b/', 'last/', 'c/'].map((name) => ({ name, type: '5' }))],
])('a layer for which there are no more %s is refused by the entry', async (_, options, entries) => {
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'full-disk', root]);
  try {
    const unpacking = applyArchive(root, tar(entries), { chunkBytes: 4096 });

    await expect(unpacking).rejects.toThrow(/^entry "last": no space left on device: resource exhausted$/);
  } finally {
    execFileSync('umount', [root]);
  }
});
