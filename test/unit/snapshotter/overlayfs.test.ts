// Mounts of the overlayfs driver, option by option. What they do when mounted is in the contract suite.

import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isInUserNamespace, OverlayfsDriver } from '../../../snapshotter/overlayfs';

const HAS_INDEX = existsSync('/sys/module/overlay/parameters/index');
let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'overlayfs-'));
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

describe('OverlayfsDriver', () => {
  test('mounts() follows the table of containerd', () => {
    const driver = new OverlayfsDriver({ root });
    const path = (id: number, name: string) => join(root, 'snapshots', String(id), name);
    const index = HAS_INDEX ? ['index=off'] : [];
    const overlay = (...options: string[]) => [
      { type: 'overlay', source: 'overlay', target: '', options: [...index, ...options] },
    ];
    const bind = (id: number, access: string) => [
      { type: 'bind', source: path(id, 'fs'), target: '', options: [access, 'rbind'] },
    ];

    expect(driver.mounts({ id: 7, kind: 'active', parents: [] })).toEqual(bind(7, 'rw'));
    expect(driver.mounts({ id: 7, kind: 'view', parents: [] })).toEqual(bind(7, 'ro'));
    expect(driver.mounts({ id: 7, kind: 'view', parents: [3] })).toEqual(bind(3, 'ro'));
    expect(driver.mounts({ id: 7, kind: 'active', parents: [3] })).toEqual(
      overlay(`workdir=${path(7, 'work')}`, `upperdir=${path(7, 'fs')}`, `lowerdir=${path(3, 'fs')}`),
    );
    expect(driver.mounts({ id: 7, kind: 'view', parents: [3, 2, 1] })).toEqual(
      overlay(`lowerdir=${path(3, 'fs')}:${path(2, 'fs')}:${path(1, 'fs')}`),
    );
  });

  test('mounts() has configured options first, and lets them decide about the index', () => {
    const driver = new OverlayfsDriver({ root, mountOptions: ['volatile', 'index=on'] });

    const [mount] = driver.mounts({ id: 2, kind: 'view', parents: [1, 3] });

    expect(mount?.options.slice(0, 2)).toEqual(['volatile', 'index=on']);
    expect(mount?.options).not.toContain('index=off');
  });

  test('create() makes directories that only the right ones can enter', async () => {
    const driver = new OverlayfsDriver({ root });

    await driver.create({ id: 1, kind: 'active', parents: [] });
    await driver.create({ id: 2, kind: 'view', parents: [1] });

    const mode = (...parts: string[]) => (statSync(join(root, 'snapshots', ...parts)).mode & 0o7777).toString(8);
    expect([mode(), mode('1'), mode('1', 'fs'), mode('1', 'work')]).toEqual(['700', '700', '755', '711']);
    expect(await driver.list()).toEqual([1]);
  });
});

test('isInUserNamespace() knows the initial namespace by its map', () => {
  expect(isInUserNamespace('         0          0 4294967295\n')).toBe(false);
  expect(isInUserNamespace('         0       1000          1\n')).toBe(true);
  expect(isInUserNamespace('0 0 65536\n')).toBe(true);
});
