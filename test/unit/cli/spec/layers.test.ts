import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { layersOf, readFromLayers } from '../../../../cli/spec/layers';
import { needsRoot, testUnless } from '../../../setup/needs';

let root: string;
let upper: string;
let lower: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'gantry-layers-'));
  upper = join(root, 'upper');
  lower = join(root, 'lower');
  mkdirSync(join(upper, 'etc'), { recursive: true });
  mkdirSync(join(lower, 'etc'), { recursive: true });
  writeFileSync(join(lower, 'etc/passwd'), 'lower');
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

test('layersOf() knows binds and overlays', () => {
  expect(layersOf([{ type: 'bind', source: '/a', options: ['rw', 'rbind'] }])).toEqual(['/a']);
  expect(
    layersOf([{ type: 'overlay', source: 'overlay', options: ['workdir=/w', 'upperdir=/u', 'lowerdir=/1:/2\\:x'] }]),
  ).toEqual(['/u', '/1', '/2:x']);
  expect(layersOf([{ type: 'erofs', source: '/x' }])).toBeUndefined();
  expect(layersOf([])).toBeUndefined();
});

test('readFromLayers() takes the uppermost file', () => {
  expect(readFromLayers([upper, lower], '/etc/passwd')).toBe('lower');
  writeFileSync(join(upper, 'etc/passwd'), 'upper');
  expect(readFromLayers([upper, lower], '/etc/passwd')).toBe('upper');
  expect(readFromLayers([upper, lower], '/etc/shadow')).toBeUndefined();
});

testUnless(needsRoot())('readFromLayers() honours whiteouts', () => {
  execFileSync('mknod', [join(upper, 'etc/passwd'), 'c', '0', '0'], { stdio: 'ignore' });

  expect(readFromLayers([upper, lower], '/etc/passwd')).toBeUndefined();
});

test('readFromLayers() follows links inside the root only', () => {
  symlinkSync('/usr/lib/passwd', join(upper, 'etc/passwd'));
  mkdirSync(join(lower, 'usr/lib'), { recursive: true });
  writeFileSync(join(lower, 'usr/lib/passwd'), 'inside');
  symlinkSync('../../../../../../../../etc/hostname', join(upper, 'etc/group'));
  symlinkSync('loop', join(upper, 'etc/loop'));

  expect(readFromLayers([upper, lower], '/etc/passwd')).toBe('inside');
  expect(readFromLayers([upper, lower], '/etc/group')).toBeUndefined();
  expect(readFromLayers([upper, lower], '/etc/loop')).toBeUndefined();
});

test('readFromLayers() never follows a directory link out of a layer', () => {
  rmSync(join(upper, 'etc'), { recursive: true });
  symlinkSync('/etc', join(upper, 'etc'));

  expect(readFromLayers([upper], '/etc/passwd')).toBeUndefined();
});

test('readFromLayers() reads regular files only', () => {
  mkdirSync(join(upper, 'etc/dir'));
  execFileSync('sh', ['-c', 'mkfifo "$1"', 'sh', join(upper, 'etc/fifo')]);

  expect(readFromLayers([upper], '/etc/dir')).toBeUndefined();
  expect(readFromLayers([upper], '/etc/fifo')).toBeUndefined();
});
