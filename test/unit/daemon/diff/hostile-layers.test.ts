// Layers that want out (CVE-2021-32760, CVE-2025-47290 and their kind): each is refused with a sentence that names the
// entry, or contained. Nothing beside the root may change, whatever happens inside.

import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { messageOf } from '../../../../proto/errors';
import { type TarSpec, tar } from '../../../suites/tar-builder';
import { readTree, readXattrs } from '../../../suites/tree';
import { applyArchive } from '../../../suites/unpack';

const OUTSIDE_CONTENT = 'do not touch';
let base: string;
let root: string;
let outside: string;

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'hostile-'));
  root = join(base, 'root');
  outside = join(base, 'outside');
  for (const path of [root, outside, join(outside, 'dir')]) mkdirSync(path);
  writeFileSync(join(outside, 'file'), OUTSIDE_CONTENT, { mode: 0o600 });
  writeFileSync(join(outside, 'dir/file'), OUTSIDE_CONTENT);
});

afterEach(() => {
  rmSync(base, { recursive: true, force: true });
});

/** The error, or undefined. Fails when anything outside the root is different afterwards. */
async function attack(
  entries: readonly TarSpec[],
  options: Parameters<typeof applyArchive>[2] = {},
): Promise<string | undefined> {
  const before = [
    readTree(outside),
    readXattrs(outside),
    lstatSync(base).mode,
    Object.keys(readTree(base)).filter((path) => !path.startsWith('root/')),
  ];
  let message: string | undefined;
  try {
    await applyArchive(root, tar(entries), options);
  } catch (error) {
    message = messageOf(error);
  }
  expect([
    readTree(outside),
    readXattrs(outside),
    lstatSync(base).mode,
    Object.keys(readTree(base)).filter((path) => !path.startsWith('root/')),
  ]).toEqual(before);
  return message;
}

const file = (name: string): TarSpec => ({ name, content: 'evil' });
const link = (name: string, linkName: string): TarSpec => ({ name, type: '2', linkName });
const pax = (path: string, rest: Partial<TarSpec> = {}): TarSpec => ({
  name: 'x',
  content: 'evil',
  pax: { path },
  ...rest,
});

describe('a layer whose names lead out', () => {
  test.each([
    ['../outside/file', pax('../outside/file')],
    ['a/../../outside/file', pax('a/../../outside/file')],
    ['./../outside/file', pax('./../outside/file')],
    ['..', { name: '..', type: '5' }],
    ['/../outside/file', pax('/../outside/file')],
    ['../outside/.wh.file', pax('../outside/.wh.file')],
    ['../outside/.wh..wh..opq', pax('../outside/.wh..wh..opq')],
    ['a long way up', pax(`${'../'.repeat(50)}etc/passwd`)],
  ])('is refused: %s', async (_, entry) => {
    expect(await attack([entry as TarSpec])).toMatch(
      /^entry ".*": path leads out of the root file system: invalid argument$/,
    );
  });

  test('is taken as relative to the root when it is absolute', async () => {
    expect(await attack([file('//etc//passwd'), pax(join(outside, 'file'))])).toBeUndefined();
    expect(readFileSync(join(root, 'etc/passwd'), 'utf8')).toBe('evil');
    expect(readFileSync(join(root, outside, 'file'), 'utf8')).toBe('evil');
  });
});

describe('a layer that goes through links', () => {
  test.each([
    ['an absolute link, then a file below it', (out: string) => [link('l', out), file('l/file')]],
    ['a relative link, then a file below it', () => [link('l', '../outside'), file('l/file'), file('l/new')]],
    ['a chain of links', () => [link('a', 'b'), link('b', '../../../outside'), file('a/dir/file')]],
    ['a link as the entry, then a file of the same name', (out: string) => [link('f', join(out, 'file')), file('f')]],
    [
      'a link, then a directory of the same name',
      (out: string) => [link('d', join(out, 'dir')), { name: 'd/', type: '5', mode: 0o777, uid: 5 }],
    ],
    [
      'a link, then a device of the same name',
      (out: string) => [link('d', join(out, 'file')), { name: 'd', type: '3', major: 1, minor: 3 }],
    ],
    ['a whiteout behind a link', () => [link('l', '../outside'), file('l/.wh.file'), file('l/.wh.dir')]],
    ['an opaque directory behind a link', () => [link('l', '../outside'), file('l/.wh..wh..opq')]],
    ['a link to /proc/self/root', () => [link('l', '/proc/self/root'), file('l/tmp/gantry-evil')]],
    [
      'a link in a parent that is replaced meanwhile',
      () => [file('d/x'), link('d', '../outside'), file('d/file'), file('d/.wh.file')],
    ],
    [
      'a directory that becomes a link before its times are set',
      () => [{ name: 'd/', type: '5', mtime: 1 }, link('d', '../outside/dir')],
    ],
  ] as [string, (out: string) => TarSpec[]][])('stays inside: %s', async (_, entries) => {
    for (const whiteouts of ['delete', 'overlay'] as const) {
      await attack(entries(outside), { whiteouts });
    }
    expect(readFileSync(join(outside, 'file'), 'utf8')).toBe(OUTSIDE_CONTENT);
  });

  test('stays inside when the root already has the link', async () => {
    symlinkSync('../outside', join(root, 'l'));
    symlinkSync(join(outside, 'file'), join(root, 'f'));

    expect(await attack([file('l/file'), file('f'), { name: 'f', type: '0', mode: 0o4777 }])).toBeUndefined();
    expect(lstatSync(join(root, 'f')).isFile()).toBe(true);
  });

  test('does not loop', async () => {
    expect(await attack([link('a', 'b'), link('b', 'a'), file('a/x')])).toMatch(/^entry "a\/x": too many symlinks/);
    expect(await attack([link('c', 'c/c'), file('c/c/c')])).toMatch(/^entry "c\/c\/c": too many symlinks/);
  });
});

describe('a layer with hard links', () => {
  test.each([
    ['../outside/file', /hard link to "\.\.\/outside\/file": path leads out/],
    ['/', /hard link to the root directory/],
    ['', /hard link to the root directory/],
  ])('is refused when they lead to "%s"', async (linkName, message) => {
    expect(await attack([{ name: 'h', type: '1', linkName }])).toMatch(message);
  });

  test('finds no file outside, by absolute name or through a link', async () => {
    const linked = (linkName: string): TarSpec => ({ name: 'h', type: '1', linkName });

    expect(await attack([linked(join(outside, 'file'))])).toMatch(
      /^entry "h": link target or directory does not exist/,
    );
    expect(await attack([link('l', '../outside'), linked('l/file')])).toMatch(/^entry "h": link target/);
    expect(
      await attack([link('l', join(outside, 'file')), linked('l'), { name: 'h', content: 'evil' }]),
    ).toBeUndefined();
  });

  test('links to a link, not to where it points', async () => {
    expect(
      await attack([link('l', join(outside, 'file')), { name: 'h', type: '1', linkName: 'l', mode: 0o777 }]),
    ).toBeUndefined();
    expect(lstatSync(join(root, 'h')).isSymbolicLink()).toBe(true);
  });
});

describe('a layer whose extended headers say something else than its entries', () => {
  /** Long names as GNU tar writes them. */
  const long = (type: 'L' | 'K', name: string): TarSpec => ({
    name: '././@LongLink',
    type,
    content: `${name}\0`,
    gnu: true,
  });

  test.each<[string, TarSpec[], RegExp]>([
    ['a GNU long name', [long('L', `${'../'.repeat(40)}outside/file`), file('harmless')], /path leads out/],
    [
      'a GNU long link',
      [long('K', `${'../'.repeat(40)}outside/file`), { name: 'h', type: '1', linkName: 'harmless' }],
      /hard link to .*path leads out/,
    ],
    [
      'a PAX linkpath',
      [{ name: 'h', type: '1', linkName: 'x', pax: { linkpath: '../outside/file' } }],
      /path leads out/,
    ],
    [
      'the name of a sparse file',
      [{ name: 'x', content: 'evil', pax: { 'GNU.sparse.name': '../outside/file', 'GNU.sparse.major': '0' } }],
      /path leads out/,
    ],
    ['a name with a NUL', [pax('harmless\0/../../outside/file')], /NUL|null|invalid|out of/i],
    [
      'an owner beyond 32 bits',
      [pax('f', { pax: { path: 'f', uid: '4294967296' } })],
      /uid 4294967296 is out of range/,
    ],
    [
      'the owner -1, which would keep that of root',
      [pax('f', { pax: { path: 'f', gid: '4294967295' } })],
      /gid .* out of range/,
    ],
    ['a negative size', [pax('f', { pax: { path: 'f', size: '-1' } })], /invalid|negative/],
    [
      'a size that swallows what follows',
      [pax('f', { pax: { path: 'f', size: '9007199254740991' } })],
      /truncated|unexpected EOF/,
    ],
    [
      'a record longer than its header',
      [{ name: 'PaxHeader', type: 'x', content: '99 path=f\n' }, file('f')],
      /invalid/,
    ],
    ['a header without end', [{ name: 'PaxHeader', type: 'x', content: 'x', size: 2 ** 32 }], /too large/],
  ])('is refused: %s', async (_, entries, message) => {
    expect(await attack(entries)).toMatch(message);
  });

  test('means its names, not those of the entry or of a global header', async () => {
    const global: TarSpec = { name: 'global', type: 'g', content: '26 path=../outside/file\n\n' };

    expect(await attack([global, file('inside')])).toBeUndefined();
    expect(await attack([pax('inside', { name: '../outside/file' })])).toBeUndefined();
    expect(readFileSync(join(root, 'inside'), 'utf8')).toBe('evil');
  });

  test('cannot make a set-id program or a capability out of a link to the outside', async () => {
    const capability = { 'SCHILY.xattr.security.capability': '\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0' };

    await attack([
      link('l', join(outside, 'file')),
      { name: 'l', type: '1', linkName: 'l', mode: 0o4777, pax: capability },
    ]);
    await attack([{ ...link('m', join(outside, 'file')), mode: 0o4777, uid: 7, pax: capability }]);

    expect(readXattrs(outside)).toEqual([]);
  });
});

describe('a layer with odd entries', () => {
  test.each([
    ['.wh.', /entry ".wh.": invalid whiteout name/],
    ['d/.wh..', /entry "d\/.wh..": invalid whiteout name/],
    ['.wh...', /entry ".wh...": invalid whiteout name/],
  ])('is refused: whiteout "%s"', async (name, message) => {
    expect(await attack([file(name)])).toMatch(message);
  });

  test('is refused when a name is longer than the file system takes', async () => {
    expect(await attack([pax('n'.repeat(300))])).toMatch(/^entry "nnn.*": name is too long: invalid argument$/);
    expect(await attack([pax('d/'.repeat(2500))])).toMatch(/: name is too long: invalid argument$/);
  });

  test('is refused when it claims more data than it has, before disk space is taken', async () => {
    const message = await attack([{ name: 'huge', content: 'x', size: 2 ** 33 - 1 }]);

    expect(message).toMatch(/truncated .* in or after "huge": unexpected EOF/);
    expect(lstatSync(join(root, 'huge')).blocks).toBeLessThan(16);
  });

  test('is refused when a sparse file is larger than any file', async () => {
    const huge = { 'GNU.sparse.map': '', 'GNU.sparse.size': '9007199254740991' };

    expect(await attack([{ name: 'huge', pax: huge }])).toMatch(/^entry "huge": file is too large/);
  });

  test('is refused when a parent is no directory', async () => {
    expect(await attack([file('f'), file('f/x')])).toMatch(/^entry "f\/x": a part of the path is not a directory/);
  });

  test('may hold device nodes, which do not open anything while unpacked', async () => {
    const entries: TarSpec[] = [
      { name: 'fifo', type: '6' },
      { name: 'tty', type: '3', major: 5, minor: 0 },
      file('fifo/x'),
    ];

    expect(await attack(entries)).toMatch(/^entry "fifo\/x": a part of the path is not a directory/);
    expect(await attack([file('fifo')])).toBeUndefined();
  });

  test('cannot make overlayfs show files of other places', async () => {
    const xattrs = { 'SCHILY.xattr.trusted.overlay.redirect': '/outside', 'SCHILY.xattr.trusted.overlay.metacopy': '' };

    expect(
      await attack(
        [
          { name: 'd/', type: '5', pax: xattrs },
          { name: 'f', pax: xattrs },
        ],
        { whiteouts: 'overlay' },
      ),
    ).toBeUndefined();
    expect(readXattrs(root)).toEqual([]);
  });
});

test('a directory swapped for a link to the outside while a layer is unpacked is of no use', async () => {
  const swap = `
    const fs = require('node:fs');
    const { root, outside, stop } = require('node:worker_threads').workerData;
    const flag = new Int32Array(stop);
    fs.mkdirSync(root + '/real', { recursive: true });
    while (Atomics.load(flag, 0) === 0) {
      try { fs.renameSync(root + '/d', root + '/real/was'); } catch {}
      try { fs.symlinkSync(outside, root + '/d'); } catch {}
      try { fs.unlinkSync(root + '/d'); } catch {}
      try { fs.renameSync(root + '/real/was', root + '/d'); } catch {}
    }`;
  const stop = new SharedArrayBuffer(4);
  const worker = new Worker(swap, { eval: true, workerData: { root, outside, stop } });
  const before = [readTree(outside), readXattrs(outside)];
  const deadline = Date.now() + 5000;
  const entries = ['d/file', 'd/dir/file', 'd/.wh.file', 'd/new', 'd/dir/.wh..wh..opq'].flatMap((name) => [
    file(name),
    { name: 'd/', type: '5', mode: 0o777, uid: 7 },
    file('d/dir/x'),
  ]);
  try {
    for (let round = 0; Date.now() < deadline; round++) {
      try {
        await applyArchive(root, tar(entries), { whiteouts: round % 2 === 0 ? 'delete' : 'overlay' });
      } catch (error) {
        // Only what the swapping itself brings about.
        expect(messageOf(error)).toMatch(/^E[A-Z]+:|^entry /);
      }
    }
  } finally {
    Atomics.store(new Int32Array(stop), 0, 1);
    await new Promise((resolve) => worker.once('exit', resolve));
  }

  expect([readTree(outside), readXattrs(outside)]).toEqual(before);
});

test('what stands at the place of an entry is removed without following links', async () => {
  mkdirSync(join(root, 'd'));
  symlinkSync('../../outside', join(root, 'd/l'));
  chmodSync(join(root, 'd'), 0o700);
  execFileSync('ln', ['-s', '/', join(root, 'd/slash')]);

  expect(await attack([file('d')])).toBeUndefined();
  expect(readFileSync(join(root, 'd'), 'utf8')).toBe('evil');
});
