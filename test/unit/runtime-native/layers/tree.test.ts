// Trees on a real file system, as root.

import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { copyTree, removeTree, syncFileSystem, treeUsage } from '../../../../runtime-native/layers/tree';
import { readTree, readXattrs } from '../../../suites/tree';

let base: string;

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'tree-'));
});

afterEach(() => {
  rmSync(base, { recursive: true, force: true });
});

const make = (name: string, commands: string) => {
  const path = join(base, name);
  mkdirSync(path);
  execFileSync('sh', ['-ec', commands], { cwd: path });
  return path;
};
const dig = 'import os\nfor i in range(7000):\n os.mkdir("d")\n open("f", "w").close()\n os.chdir("d")';

describe('removeTree()', () => {
  test('removes everything below and follows no link', async () => {
    const outside = make('outside', 'echo x > file');
    const path = make('tree', 'mkdir -p a/b; echo x > a/b/c; mkfifo p; mknod n c 1 3');
    symlinkSync(outside, join(path, 'a/link'));

    await removeTree(path);

    expect(existsSync(path)).toBe(false);
    expect(readdirSync(outside)).toEqual(['file']);
  });

  test('accepts a missing tree, and removes a link itself', async () => {
    const outside = make('outside', 'echo x > file');
    symlinkSync(outside, join(base, 'link'));

    await removeTree(join(base, 'none'));
    await removeTree(join(base, 'link'));

    expect(readdirSync(base)).toEqual(['outside']);
    expect(readdirSync(outside)).toEqual(['file']);
  });

  test('removes trees of any depth and directories of any size', async () => {
    const path = make('tree', 'mkdir many; cd many; seq 5000 | xargs touch');
    execFileSync('python3', ['-c', dig], { cwd: path });

    await removeTree(path);

    expect(existsSync(path)).toBe(false);
  }); // Making them takes most of it.

  test('fails with the name when something refuses to go', async () => {
    const path = make('tree', 'mkdir -p a/b; mount -t tmpfs none a/b');
    try {
      await expect(removeTree(path)).rejects.toMatchObject({ code: 'EBUSY', path });
    } finally {
      execFileSync('umount', [join(path, 'a/b')]);
    }
  });
});

describe('copyTree()', () => {
  test('copies everything that a tree is made of', async () => {
    const from = make(
      'from',
      `mkdir -m 1777 -p a/b; printf x > a/f; chown 1:2 a/f; chmod 6711 a/f; ln a/f a/b/hard; ln -s ../a/f link; mkfifo p
      mknod dev b 7 9; setfattr -n user.x -v y a; setfattr -n trusted.z -v w p; ln p p2; setcap cap_chown+ep a/f
      truncate -s 10M sparse; printf end >> sparse; chown -h 3:4 link; touch -d @5.000000007 a/f a; touch -h -d @6 link; chmod 711 .; chown 9:8 .
      python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'`,
    );
    const to = make('to', 'true');

    await copyTree(from, to);

    expect(readTree(to)).toEqual(readTree(from));
    expect(readXattrs(to)).toEqual(readXattrs(from));
    expect(lstatSync(join(to, 'a/b/hard')).ino).toBe(lstatSync(join(to, 'a/f')).ino);
    expect(lstatSync(join(to, 'a/f')).ino).not.toBe(lstatSync(join(from, 'a/f')).ino);
    expect(statSync(join(to, 'sparse')).blocks).toBeLessThan(64);
    expect(statSync(to)).toMatchObject({ mode: 0o40711, uid: 9, gid: 8 });
  });

  test('copies between file systems', async () => {
    const from = make('from', 'truncate -s 1M f; head -c 300000 /dev/urandom >> f; mkdir d; ln f d/g');
    const to = make('to', 'mount -t tmpfs none .');
    try {
      await copyTree(from, to);

      expect(readTree(to)).toEqual(readTree(from));
    } finally {
      execFileSync('umount', [to]);
    }
  });

  test('fails where there is nothing to copy, and when the disk is full', async () => {
    const from = make('from', 'head -c 3000000 /dev/zero > f');
    const to = make('to', 'mount -t tmpfs -o size=1M none .');
    try {
      await expect(copyTree(join(base, 'none'), to)).rejects.toMatchObject({ code: 'ENOENT' });
      await expect(copyTree(from, to)).rejects.toMatchObject({ code: 'ENOSPC' });
    } finally {
      execFileSync('umount', [to]);
    }
  });
});

describe('treeUsage()', () => {
  test('counts blocks and inodes once, the top included', async () => {
    const path = make('tree', 'head -c 100000 /dev/urandom > f; ln f g; mkdir d; ln -s f l; truncate -s 1G sparse');
    const [expected] = execFileSync('du', ['-s', '-B1', path], { encoding: 'utf8' }).split('\t');

    expect(await treeUsage(path)).toEqual({ sizeBytes: BigInt(expected ?? 0), inodes: 5n });
    await expect(treeUsage(join(base, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('does not overflow the stack of a deep tree', async () => {
    const path = make('tree', 'true');
    execFileSync('python3', ['-c', dig.replace('7000', '1500')], { cwd: path });

    expect((await treeUsage(path)).inodes).toBe(3001n);
    await removeTree(path);
  });
});

test('syncFileSystem() takes any path and names one that is not there', async () => {
  writeFileSync(join(base, 'f'), 'x');

  await syncFileSystem(base);
  await Promise.all(Array.from({ length: 20 }, () => syncFileSystem(base)));
  await syncFileSystem(base);
  await expect(syncFileSystem(join(base, 'none'))).rejects.toMatchObject({ code: 'ENOENT', syscall: 'syncfs' });
});
