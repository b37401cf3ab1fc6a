// Which mounts are written to directly, and that temporary ones never stay.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { clearMounts, optionOf, splitLowers, withMount } from '../../../../daemon/diff/mounts';
import { directTarget } from '../../../../daemon/diff/target';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'mounts-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

const mount = (type: string, source: string, ...options: string[]) => ({ type, source, target: '', options });
const isMounted = () => execFileSync('mount', { encoding: 'utf8' }).includes(directory);

describe('directTarget()', () => {
  test('is the upper directory of an overlay, with the lower layers', () => {
    const overlay = mount('overlay', 'overlay', 'index=off', 'workdir=/w', 'upperdir=/u', 'lowerdir=/a:/b');

    expect(directTarget([overlay])).toEqual({ root: '/u', whiteouts: 'overlay', lowers: ['/a', '/b'] });
    const user = mount('overlay', 'overlay', 'userxattr', 'workdir=/w', 'upperdir=/u', 'lowerdir=/a');
    expect(directTarget([user])).toMatchObject({ whiteouts: 'overlay-user' });
  });

  test('is the source of a bind mount, where whiteouts remove', () => {
    expect(directTarget([mount('bind', '/s', 'rw', 'rbind')])).toEqual({ root: '/s', whiteouts: 'delete', lowers: [] });
  });

  test('is none for anything else', () => {
    expect(directTarget([mount('ext4', '/dev/x', 'rw')])).toBeUndefined();
    expect(directTarget([mount('bind', 'relative', 'rbind')])).toBeUndefined();
    expect(directTarget([mount('bind', '/a', 'rbind'), mount('bind', '/b', 'rbind')])).toBeUndefined();
    expect(directTarget([{ ...mount('bind', '/a', 'rbind'), target: 'sub' }])).toBeUndefined();
  });

  test('refuses mounts that cannot be written, and none at all', () => {
    expect(() => directTarget([mount('bind', '/s', 'ro', 'rbind')])).toThrow(
      /"\/s": read-only file system: failed precondition$/,
    );
    expect(() => directTarget([mount('overlay', 'overlay', 'lowerdir=/a:/b')])).toThrow(/read-only file system/);
    expect(() => directTarget([])).toThrow(/mounts must not be empty: invalid argument$/);
  });
});

test('splitLowers() knows escaped colons', () => {
  expect(splitLowers('/a:/b\\:c:/d\\\\')).toEqual(['/a', '/b:c', '/d\\']);
  expect(optionOf(['upperdirx=/no', 'upperdir=/a=b'], 'upperdir')).toBe('/a=b');
});

describe('withMount()', () => {
  test('mounts for as long as the body runs', async () => {
    const names = await withMount([mount('tmpfs', 'tmpfs')], directory, async (root) => {
      writeFileSync(join(root, 'f'), '');
      return [isMounted(), readdirSync(root)];
    });

    expect(names).toEqual([true, ['f']]);
    expect(isMounted()).toBe(false);
    expect(readdirSync(directory)).toEqual([]);
  });

  test('leaves nothing when the body or the mount fails', async () => {
    const failing = withMount([mount('tmpfs', 'tmpfs')], directory, async () => {
      throw new Error('no');
    });

    await expect(failing).rejects.toThrow('no');
    await expect(withMount([mount('nonsense', 'x')], directory, async () => {})).rejects.toThrow(/nonsense/);
    expect(isMounted()).toBe(false);
    expect(readdirSync(directory)).toEqual([]);
  });
});

test('clearMounts() unmounts and removes what a killed daemon left', () => {
  mkdirSync(join(directory, 'mount-1'));
  mkdirSync(join(directory, 'empty-2'));
  execFileSync('mount', ['-t', 'tmpfs', 'none', join(directory, 'mount-1')]);
  mkdirSync(join(directory, 'mount-1/inner'));
  execFileSync('mount', ['-t', 'tmpfs', 'none', join(directory, 'mount-1/inner')]);

  clearMounts(directory);

  expect(isMounted()).toBe(false);
  expect(readdirSync(directory)).toEqual([]);
});
