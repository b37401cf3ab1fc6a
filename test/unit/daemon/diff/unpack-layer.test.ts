// What layers do to a directory: on a real file system, as root. The corpus of hostile layers is in hostile-layers.test.ts.

import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TarSpec, tar } from '../../../suites/tar-builder';
import { readTree, readXattrs } from '../../../suites/tree';
import { applyArchive } from '../../../suites/unpack';

const directories: string[] = [];

function makeDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'layer-'));
  directories.push(path);
  return path;
}

afterAll(() => {
  for (const path of directories) rmSync(path, { recursive: true, force: true });
});

const isWhiteout = (path: string) => lstatSync(path).isCharacterDevice() && lstatSync(path).rdev === 0;
const xattr = (path: string, name: string) =>
  execFileSync('getfattr', ['-h', '--only-values', '-n', name, path], { encoding: 'latin1', stdio: 'pipe' });
const file = (name: string, content = ''): TarSpec => ({ name, content });

describe('unpackLayer()', () => {
  test('makes every type of entry with its attributes', async () => {
    const root = makeDirectory();
    await applyArchive(
      root,
      tar([
        { name: 'dir/', type: '5', mode: 0o1750, uid: 3, gid: 4, mtime: 1000 },
        { name: 'dir/file', content: 'data', mode: 0o6755, uid: 1, gid: 2, pax: { mtime: '1500.000000007' } },
        { name: 'dir/link', type: '1', linkName: './dir/file' },
        { name: 'dir/symlink', type: '2', linkName: '/no/where', uid: 5, gid: 6, mtime: 77 },
        { name: 'dir/fifo', type: '6', mode: 0o622 },
        { name: 'dir/null', type: '3', mode: 0o666, major: 1, minor: 3 },
        {
          name: 'dir/disk',
          type: '4',
          mode: 0o660,
          major: 259,
          minor: 70_000,
          patch: [[337, Buffer.from([0x80, 0, 0, 0, 0, 1, 0x11, 0x70])]],
        },
        { name: 'empty' },
      ]),
    );

    const tree = readTree(root);
    expect(tree['dir']).toMatchObject({ mode: '41750', owner: '3:4', mtimeNs: '1000000000000' });
    expect(tree['dir/file']).toMatchObject({ mode: '106755', owner: '1:2', mtimeNs: '1500000000007', links: 2 });
    expect(lstatSync(join(root, 'dir/link')).ino).toBe(lstatSync(join(root, 'dir/file')).ino);
    expect(tree['dir/symlink']).toMatchObject({ owner: '5:6', mtimeNs: '77000000000', content: '-> /no/where' });
    expect(tree['dir/fifo']).toMatchObject({ mode: '10622' });
    expect(tree['dir/null']).toMatchObject({ mode: '20666', device: String(256 + 3) });
    expect(tree['dir/disk']?.mode).toBe('60660');
    expect(tree['empty']).toMatchObject({ mode: '100644', mtimeNs: '1600000000000000000' });
  });

  test('sets extended attributes, capabilities after the owner, but none of overlayfs', async () => {
    const root = makeDirectory();
    const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
    const xattrs = {
      'SCHILY.xattr.user.note': 'hello',
      'SCHILY.xattr.security.capability': capability,
      'SCHILY.xattr.trusted.overlay.opaque': 'y',
      'SCHILY.xattr.trusted.overlay.redirect': '/etc',
      'SCHILY.xattr.user.overlay.opaque': 'y',
    };
    await applyArchive(
      root,
      tar([
        { name: 'f', content: 'x', uid: 9, pax: xattrs },
        { name: 'd/', type: '5', pax: xattrs },
      ]),
    );

    expect(xattr(join(root, 'f'), 'user.note')).toBe('hello');
    expect(Buffer.from(xattr(join(root, 'f'), 'security.capability'), 'latin1').equals(capability)).toBe(true);
    expect(readXattrs(root).join()).not.toContain('overlay');
  });

  test('replaces what is there, and merges directories', async () => {
    const root = makeDirectory();
    await applyArchive(
      root,
      tar([file('a/b/c', '1'), file('f', '1'), { name: 's', type: '2', linkName: 'a' }, file('keep/x')]),
    );

    await applyArchive(
      root,
      tar([
        file('a', 'now a file'),
        { name: 'f/', type: '5' },
        file('f/x', 'inside'),
        { name: 's/', type: '5' },
        { name: 'keep/', type: '5', mode: 0o700 },
      ]),
    );

    expect(readFileSync(join(root, 'a'), 'utf8')).toBe('now a file');
    expect(readFileSync(join(root, 'f/x'), 'utf8')).toBe('inside');
    expect(lstatSync(join(root, 's')).isDirectory()).toBe(true);
    expect(readdirSync(join(root, 'keep'))).toEqual(['x']);
    expect(statSync(join(root, 'keep')).mode & 0o777).toBe(0o700);
  });

  test('keeps a file that is linked to itself, and takes the last of two entries of one name', async () => {
    const root = makeDirectory();
    await applyArchive(
      root,
      tar([file('f', 'x'), { name: './f', type: '1', linkName: 'f' }, file('g', 'old'), file('g', 'new')]),
    );

    expect(readFileSync(join(root, 'f'), 'utf8')).toBe('x');
    expect(readFileSync(join(root, 'g'), 'utf8')).toBe('new');
  });

  test('makes missing parents, also behind dangling links inside the root', async () => {
    const root = makeDirectory();
    await applyArchive(
      root,
      tar([{ name: 'var/run', type: '2', linkName: '/run' }, file('var/run/lock/file', 'x'), file('x/y/z')]),
    );

    expect(readFileSync(join(root, 'run/lock/file'), 'utf8')).toBe('x');
    expect(readlinkSync(join(root, 'var/run'))).toBe('/run');
    expect(statSync(join(root, 'x/y')).mode & 0o7777).toBe(0o755);
  });

  test('gives parents without an entry the attributes of the lower layer', async () => {
    const [lower, far, root] = [makeDirectory(), makeDirectory(), makeDirectory()];
    await applyArchive(
      lower,
      tar([{ name: 'etc/', type: '5', mode: 0o2750, uid: 11, gid: 12, pax: { 'SCHILY.xattr.user.a': 'b' } }]),
    );
    await applyArchive(
      far,
      tar([
        { name: 'etc/', type: '5', mode: 0o777 },
        { name: 'etc/ssl/', type: '5', mode: 0o700 },
      ]),
    );

    await applyArchive(root, tar([file('etc/ssl/key')]), { whiteouts: 'overlay', lowers: [lower, far] });

    expect(readTree(root)['etc']).toMatchObject({ mode: '42750', owner: '11:12' });
    expect(xattr(join(root, 'etc'), 'user.a')).toBe('b');
    expect(readTree(root)['etc/ssl']?.mode).toBe('40700');
  });

  test('does not depend on the umask', async () => {
    const root = makeDirectory();
    const umask = process.umask(0o077);
    try {
      await applyArchive(
        root,
        tar([
          { name: 'p/f', mode: 0o666 },
          { name: 'd/', type: '5', mode: 0o777 },
        ]),
      );
    } finally {
      process.umask(umask);
    }

    expect(['p', 'p/f', 'd'].map((name) => (statSync(join(root, name)).mode & 0o777).toString(8))).toEqual([
      '755',
      '666',
      '777',
    ]);
  });

  test('leaves the root directory alone', async () => {
    const root = makeDirectory();
    chmodSync(root, 0o711);
    await applyArchive(
      root,
      tar([
        { name: './', type: '5', mode: 0o777, uid: 9 },
        { name: '/', type: '5', mode: 0o777 },
      ]),
    );

    expect(statSync(root)).toMatchObject({ uid: 0 });
    expect(statSync(root).mode & 0o777).toBe(0o711);
  });

  test('bounds times to those that containerd keeps', async () => {
    const root = makeDirectory();
    await applyArchive(
      root,
      tar([
        { name: 'a', pax: { mtime: '-5' } },
        { name: 'b', pax: { mtime: '99999999999' } },
      ]),
    );

    expect([statSync(join(root, 'a')).mtimeMs, statSync(join(root, 'b')).mtimeMs]).toEqual([0, 0]);
  });

  test('writes files larger than any buffer, and holes as holes', async () => {
    const root = makeDirectory();
    const content = Buffer.alloc(3_000_001, 'abcdefg');
    await applyArchive(root, tar([{ name: 'large', content }]), { chunkBytes: 65_536 });
    const source = makeDirectory();
    execFileSync('sh', ['-c', 'printf start > sparse; truncate -s 50M sparse; printf end >> sparse'], { cwd: source });
    const archive = execFileSync('tar', ['--sparse', '-cf', '-', 'sparse'], { cwd: source });
    await applyArchive(root, archive);

    expect(readFileSync(join(root, 'large')).equals(content)).toBe(true);
    expect(statSync(join(root, 'sparse')).size).toBe(50 * 1024 * 1024 + 3);
    expect(statSync(join(root, 'sparse')).blocks).toBeLessThan(100);
    expect(readTree(root)['sparse']?.content).toBe(readTree(source)['sparse']?.content);
  });
});

describe('unpackLayer() on whiteouts that remove', () => {
  test('removes files, trees and links, and nothing when there is nothing', async () => {
    const root = makeDirectory();
    await applyArchive(root, tar([file('a/b/c'), file('f'), { name: 'l', type: '2', linkName: 'a' }, file('stay')]));

    await applyArchive(root, tar([file('.wh.a'), file('.wh.f'), file('.wh.l'), file('.wh.none'), file('dir/.wh.x')]));

    expect(readdirSync(root).sort()).toEqual(['dir', 'stay']);
  });

  test('hides only what lower layers have, in any order of entries', async () => {
    const root = makeDirectory();
    await applyArchive(root, tar([file('d/old'), file('d/sub/old'), file('e/old'), file('f', 'old')]));

    await applyArchive(
      root,
      tar([
        file('d/new'),
        file('d/sub/new'),
        file('d/.wh..wh..opq'),
        file('e/.wh..wh..opq'),
        file('e/new'),
        file('f', 'new'),
        file('.wh.f'),
      ]),
    );

    expect(Object.keys(readTree(root))).toEqual(['d', 'd/new', 'd/sub', 'd/sub/new', 'e', 'e/new', 'f']);
    expect(readFileSync(join(root, 'f'), 'utf8')).toBe('new');
  });

  test('skips what aufs keeps for itself', async () => {
    const root = makeDirectory();
    await applyArchive(
      root,
      tar([
        file('.wh..wh.plnk/1.2'),
        file('.wh..wh.plnk/.wh.x'),
        file('.wh..wh.aufs'),
        { name: '.wh..wh.orph/', type: '5' },
      ]),
    );

    expect(readdirSync(root)).toEqual([]);
  });

  test('removes trees deeper than a path can be long', async () => {
    const root = makeDirectory();
    await applyArchive(root, tar([{ name: 'x', pax: { path: `deep/${'d/'.repeat(1000)}x` } }]));
    const dig = 'import os\nfor i in range(7000):\n os.path.isdir("d") or os.mkdir("d")\n os.chdir("d")';
    execFileSync('python3', ['-c', dig], { cwd: join(root, 'deep') });

    await applyArchive(root, tar([file('.wh.deep')]));

    expect(readdirSync(root)).toEqual([]);
  });
});

describe('unpackLayer() on whiteouts for overlayfs', () => {
  const overlay = { whiteouts: 'overlay' } as const;

  test('writes devices 0:0 and opaque directories', async () => {
    const root = makeDirectory();
    await applyArchive(root, tar([file('etc/.wh.passwd'), file('usr/.wh..wh..opq'), file('usr/new')]), overlay);

    expect(isWhiteout(join(root, 'etc/passwd'))).toBe(true);
    expect(xattr(join(root, 'usr'), 'trusted.overlay.opaque')).toBe('y');
    expect(existsSync(join(root, 'usr/new'))).toBe(true);
  });

  test('does not hide what the same layer has, in any order of entries', async () => {
    const root = makeDirectory();
    await applyArchive(
      root,
      tar([
        file('.wh.a'),
        file('a', 'x'),
        file('b', 'x'),
        file('.wh.b'),
        file('.wh.d'),
        file('d/x'),
        file('e/x'),
        file('.wh.e'),
      ]),
      overlay,
    );

    expect(readFileSync(join(root, 'a'), 'utf8')).toBe('x');
    expect(readFileSync(join(root, 'b'), 'utf8')).toBe('x');
    // A directory made where a whiteout stood hides what is below it.
    expect(xattr(join(root, 'd'), 'trusted.overlay.opaque')).toBe('y');
    expect(xattr(join(root, 'e'), 'trusted.overlay.opaque')).toBe('y');
    expect(Object.keys(readTree(root))).toEqual(['a', 'b', 'd', 'd/x', 'e', 'e/x']);
  });

  test('gives the kernel what it reads: a mounted stack looks like the layers one after the other', async () => {
    const base = makeDirectory();
    const layers = ['lower', 'upper', 'work', 'merged'].map((name) => join(base, name));
    for (const path of layers) mkdirSync(path);
    const [lower = '', upper = '', work = '', merged = ''] = layers;
    const first = tar([file('d/old'), file('d/sub/old'), file('f', 'old'), file('gone/x'), file('plain', '1')]);
    const second = tar([
      file('d/.wh..wh..opq'),
      file('d/new'),
      file('f', 'new'),
      file('.wh.gone'),
      file('gone/y'),
      file('.wh.plain'),
    ]);
    await applyArchive(lower, first);
    await applyArchive(upper, second, { ...overlay, lowers: [lower] });
    const flat = makeDirectory();
    await applyArchive(flat, first);
    await applyArchive(flat, second);

    execFileSync('mount', [
      '-t',
      'overlay',
      'overlay',
      '-o',
      `lowerdir=${lower},upperdir=${upper},workdir=${work}`,
      merged,
    ]);
    try {
      const withoutTimes = (root: string) =>
        Object.entries(readTree(root)).map(([path, { mode, content }]) => [path, mode, content]);
      expect(withoutTimes(merged)).toEqual(withoutTimes(flat));
    } finally {
      execFileSync('umount', [merged]);
    }
  });
});

test('unpackLayer() unpacks as tar(1) does', async () => {
  const [source, expected, actual] = [makeDirectory(), makeDirectory(), makeDirectory()];
  execFileSync(
    'sh',
    [
      '-ec',
      `mkdir -p usr/bin usr/lib 'with space' && ln -s usr/bin bin && printf x > usr/bin/tool && chmod 4755 usr/bin/tool
      ln usr/bin/tool usr/bin/alias && mkfifo pipe && mknod dev c 5 1 && chown -h 12:34 bin && touch -d @1234567890.123456789 usr/lib
      setfattr -n user.a -v b usr/bin/tool && mkdir -p ${'long/'.repeat(40)} && printf y > "$(printf 'n%.0s' $(seq 200))"
      printf z > 'ünïcode' && chmod 1777 'with space' && chown 100000:200000 pipe`,
    ],
    { cwd: source },
  );
  symlinkSync('x'.repeat(300), join(source, 'long-link'));
  writeFileSync(Buffer.concat([Buffer.from(join(source, 'bad-')), Buffer.from([0xff, 0xfe])]), 'bytes');
  for (const format of ['posix', 'gnu']) {
    const archive = execFileSync('tar', [`--format=${format}`, '--xattrs', '-C', source, '-cf', '-', '.'], {
      maxBuffer: 1 << 26,
    });
    execFileSync('tar', ['--xattrs', '--numeric-owner', '-C', expected, '-xpf', '-'], { input: archive });
    await applyArchive(actual, archive);

    expect(readTree(actual)).toEqual(readTree(expected));
    expect(readXattrs(actual)).toEqual(readXattrs(expected));
  }
});
