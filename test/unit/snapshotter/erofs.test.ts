// What only the erofs driver does: images of layers. The contract suite runs on it too.

import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorKind, messageOf } from '../../../proto/errors';
import { mountAll, unmountRecursive } from '../../../runtime-native/index';
import { ErofsDriver, erofsObstacle, mountThroughLoop } from '../../../snapshotter/erofs';
import { describeUnless } from '../../setup/needs';
import { SNAPSHOTTERS } from '../../suites/snapshotters';
import { readTree, readXattrs } from '../../suites/tree';

const { missing } = SNAPSHOTTERS.find(({ snapshotter }) => snapshotter === 'erofs') ?? { missing: 'no such case' };

describeUnless(missing)('ErofsDriver', () => {
  let root: string;
  let driver: ErofsDriver;

  const path = (id: number, ...rest: string[]) => join(root, 'snapshots', String(id), ...rest);

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'erofs-'));
    driver = new ErofsDriver({ root, mkfsOptions: ['-zlz4'] });
  });

  afterEach(() => {
    unmountRecursive(root);
    rmSync(root, { recursive: true });
  });

  /** A committed layer of files made by shell commands in its upper directory. */
  async function layer(id: number, parents: number[], commands: string): Promise<void> {
    await driver.create({ id, kind: 'active', parents });
    execFileSync('sh', ['-ec', commands], { cwd: path(id, 'fs') });
    await driver.seal(id);
    await driver.settle(id);
  }

  function within<T>(mounts: Parameters<typeof mountAll>[0], body: (directory: string) => T): T {
    const target = join(root, 'target');
    mkdirSync(target, { recursive: true });
    mountAll(mounts, target);
    try {
      return body(target);
    } finally {
      unmountRecursive(target);
    }
  }

  test('works where the kernel and mkfs.erofs are', () => {
    expect(erofsObstacle()).toBeUndefined();
  });

  test('usage() of a layer is its image, mounted or not', async () => {
    await layer(1, [], 'head -c 100000 /dev/urandom > file');
    const onDisk = BigInt(statSync(path(1, 'layer.erofs')).blocks) * 512n;

    const before = await driver.usage(1);
    within(driver.mounts({ id: 2, kind: 'view', parents: [1] }), () => {});
    const mounted = await driver.usage(1);

    expect([before.sizeBytes, mounted.sizeBytes]).toEqual([onDisk, onDisk]);
    expect(onDisk).toBeGreaterThan(100_000n);
  });

  test('seal() makes an image with the same files, settle() leaves only that', async () => {
    await driver.create({ id: 1, kind: 'active', parents: [] });
    execFileSync(
      'sh',
      [
        '-ec',
        `seq 100000 > text; chown 70000:80000 text; chmod 6755 text; ln text link; setfattr -n user.a -v b text
        mkfifo pipe; mknod null c 1 3; ln -s /nowhere symlink; mkdir -m 1777 tmp; touch -d @1000000000.123456789 text tmp
        touch -h -d @1.5 symlink; : > empty; setcap cap_net_raw+ep empty; chown 3:4 .; touch -d @5 .`,
      ],
      { cwd: path(1, 'fs') },
    );
    const tree = readTree(path(1, 'fs'));
    const xattrs = readXattrs(path(1, 'fs'));

    const { sizeBytes, inodes } = await driver.seal(1);
    expect(readTree(path(1, 'fs'))).toEqual(tree);
    await driver.settle(1);

    expect(readdirSync(path(1)).sort()).toEqual(['layer', 'layer.erofs']);
    expect(Number(sizeBytes)).toBe(statSync(path(1, 'layer.erofs')).blocks * 512);
    expect(inodes).toBe(7n);
    within(driver.mounts({ id: 2, kind: 'view', parents: [1] }), (directory) => {
      expect(readTree(directory)).toEqual(tree);
      expect(readXattrs(directory)).toEqual(xattrs);
      expect(readFileSync(join(directory, 'text'), 'utf8')).toHaveLength(588_895);
      expect(statSync(directory)).toMatchObject({ uid: 3, gid: 4, mtimeMs: 5000 });
    });
  });

  test('whiteouts and opaque directories of a layer hide what is below', async () => {
    await layer(1, [], 'mkdir a b; echo 1 > a/one; echo 1 > b/one; echo 1 > gone');
    await layer(2, [1], 'mknod gone c 0 0; mkdir a; setfattr -n trusted.overlay.opaque -v y a; echo 2 > a/two');

    within(driver.mounts({ id: 3, kind: 'view', parents: [2, 1] }), (directory) =>
      expect(Object.keys(readTree(directory)).sort()).toEqual(['a', 'a/two', 'b', 'b/one']),
    );
  });

  test('mounts() mounts what a reboot has unmounted, each image once', async () => {
    await layer(1, [], 'echo 1 > one');
    await layer(2, [1], 'echo 2 > two');
    const count = () => readFileSync('/proc/self/mountinfo', 'utf8').split(path(1, 'layer')).length - 1;
    driver.mounts({ id: 3, kind: 'view', parents: [2, 1] });
    expect(count()).toBeGreaterThan(0);
    unmountRecursive(root);
    expect(count()).toBe(0);

    const again = new ErofsDriver({ root });
    again.mounts({ id: 3, kind: 'view', parents: [2, 1] });
    const mounts = again.mounts({ id: 3, kind: 'view', parents: [2, 1] });

    within(mounts, (directory) => expect(Object.keys(readTree(directory))).toEqual(['one', 'two']));
    expect(execFileSync('findmnt', ['-n', '-o', 'FSTYPE', '-M', path(1, 'layer')], { encoding: 'utf8' })).toBe(
      'erofs\n',
    );
  });

  test('remove() unmounts, also while a snapshot above is in use', async () => {
    await layer(1, [], 'echo 1 > one');

    within(driver.mounts({ id: 2, kind: 'view', parents: [1] }), (directory) => {
      void driver.remove(1);
      expect(readFileSync(join(directory, 'one'), 'utf8')).toBe('1\n');
    });
    await driver.remove(1);

    expect(existsSync(path(1))).toBe(false);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(root);
  });

  test('seal() takes what changed after a commit that failed', async () => {
    await layer(1, [], 'echo 1 > one');
    await driver.create({ id: 2, kind: 'active', parents: [1] });
    await driver.seal(2);
    writeFileSync(path(2, 'fs', 'late'), '');

    await driver.seal(2);

    within(driver.mounts({ id: 3, kind: 'view', parents: [2, 1] }), (directory) =>
      expect(Object.keys(readTree(directory))).toEqual(['late', 'one']),
    );
  });

  test('seal() says what mkfs.erofs said, and that a disk is full', async () => {
    const wrong = new ErofsDriver({ root, mkfsOptions: ['-znosuch'] });
    await wrong.create({ id: 1, kind: 'active', parents: [] });
    await expect(wrong.seal(1)).rejects.toThrow(/^cannot build the EROFS image of layer 1: mkfs\.erofs: .*compress/is);

    const small = join(root, 'small');
    mkdirSync(small);
    mountAll([{ type: 'tmpfs', source: 'none', target: '', options: ['size=1M'] }], small);
    const full = new ErofsDriver({ root: small });
    await full.create({ id: 1, kind: 'active', parents: [] });
    execFileSync('sh', ['-c', 'head -c 800000 /dev/urandom > big'], { cwd: join(small, 'snapshots/1/fs') });
    const error = await full.seal(1).catch((thrown: unknown) => thrown);
    expect([errorKind(error), messageOf(error)]).toEqual([
      'resource exhausted',
      expect.stringMatching(/No space left on device/),
    ]);
  });

  test('mountThroughLoop() serves kernels that mount no files', async () => {
    await layer(1, [], 'echo 1 > one');
    const target = join(root, 'loop');
    mkdirSync(target);

    mountThroughLoop(path(1, 'layer.erofs'), target);

    expect(readFileSync(join(target, 'one'), 'utf8')).toBe('1\n');
    expect(execFileSync('findmnt', ['-n', '-o', 'SOURCE', target], { encoding: 'utf8' })).toMatch(/^\/dev\/loop/);
    expect(() => mountThroughLoop(join(root, 'none'), target)).toThrow(/failed to mount erofs/);
  });
});
