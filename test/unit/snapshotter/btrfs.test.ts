// What only the btrfs driver does: subvolumes. The contract suite runs on it too.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unmountRecursive } from '../../../runtime-native/index';
import { BtrfsDriver, btrfsObstacle } from '../../../snapshotter/btrfs';
import { describeUnless } from '../../setup/needs';
import { mountBtrfs, SNAPSHOTTERS } from '../../suites/snapshotters';

const { missing } = SNAPSHOTTERS.find(({ snapshotter }) => snapshotter === 'btrfs') ?? { missing: 'no such case' };

describeUnless(missing)('BtrfsDriver', () => {
  let directory: string;
  let root: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'btrfs-'));
    root = join(directory, 'root');
    mkdirSync(root);
    mountBtrfs(root);
  });

  afterEach(() => {
    unmountRecursive(directory);
    rmSync(directory, { recursive: true });
  });

  test('works on btrfs only', () => {
    expect(btrfsObstacle(root)).toBeUndefined();
    expect(btrfsObstacle(directory)).toBe(`${directory} is not on a btrfs file system`);
  });

  test('a snapshot takes what differs from its parent', async () => {
    const driver = new BtrfsDriver({ root });
    await driver.create({ id: 1, kind: 'active', parents: [] });
    execFileSync('sh', ['-c', 'head -c 4000000 /dev/urandom > big'], { cwd: join(root, 'snapshots/1') });
    const base = await driver.seal(1);

    await driver.create({ id: 2, kind: 'active', parents: [1] });
    writeFileSync(join(root, 'snapshots/2/more'), Buffer.alloc(100_000, 'x'));
    const child = await driver.usage(2);

    expect(Number(base.sizeBytes)).toBeGreaterThanOrEqual(4_000_000);
    expect(Number(child.sizeBytes)).toBeGreaterThanOrEqual(100_000);
    expect(Number(child.sizeBytes)).toBeLessThan(1_000_000);
  });

  test('remove() takes the subvolumes that a container made', async () => {
    const driver = new BtrfsDriver({ root });
    await driver.create({ id: 1, kind: 'active', parents: [] });
    execFileSync('btrfs', ['subvolume', 'create', join(root, 'snapshots/1/inner')], { stdio: 'ignore' });
    writeFileSync(join(root, 'snapshots/1/inner/file'), '');

    await driver.remove(1);
    await driver.remove(1);

    expect(readdirSync(join(root, 'snapshots'))).toEqual([]);
  });
});
