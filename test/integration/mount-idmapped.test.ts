// Root filesystems for user namespaces: mountAll() with the options uidmap= and gidmap=.

import { chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mountAll, unmountRecursive } from '../../runtime-native/index';
import { waitFor } from '../setup/command';
import { describeUnless, needsRoot } from '../setup/needs';
import { collectExits } from '../suites/runtime-library';

const MAPS = ['uidmap=0:100000:1000', 'gidmap=0:200000:500,500:300000:500'];

describeUnless(needsRoot())('an id-mapped root filesystem', () => {
  let directory = '';
  let stop = () => {};
  /** Where layers are mapped: also of others, so only what lasts is left by a test. */
  const places = () => readdirSync(tmpdir()).filter((name) => name.startsWith('gantry-layers-'));
  let earlier: readonly string[] = [];
  const path = (name: string) => join(directory, name);
  beforeAll(() => {
    stop = collectExits();
  });
  afterAll(() => stop());
  beforeEach(() => {
    earlier = places();
    directory = mkdtempSync(join(tmpdir(), 'gantry-idmap-'));
    for (const name of ['lower', 'upper', 'work', 'root']) mkdirSync(path(name));
    writeFileSync(path('lower/file'), 'content');
    chownSync(path('lower/file'), 7, 501);
  });
  afterEach(async () => {
    unmountRecursive(path('root'));
    await waitFor('an end of the mapped layers', () => places().every((name) => earlier.includes(name)));
    rmSync(directory, { recursive: true });
  });
  const owner = (name: string) => {
    const { uid, gid } = statSync(path(name));
    return [uid, gid];
  };

  test('of a bind mount', () => {
    mountAll([{ type: 'bind', source: path('lower'), target: '', options: ['rbind', 'ro', ...MAPS] }], path('root'));

    expect(owner('root/file')).toEqual([100_007, 300_001]);
    expect(owner('lower/file')).toEqual([7, 501]);
    expect(() => writeFileSync(path('root/x'), '')).toThrow(/EROFS/);
  });

  test('of an overlay: its lower directories are mapped, and gone afterwards', () => {
    const options = [`lowerdir=${path('lower')}`, `upperdir=${path('upper')}`, `workdir=${path('work')}`, ...MAPS];
    mountAll([{ type: 'overlay', source: 'overlay', target: '', options }], path('root'));

    expect(owner('root/file')).toEqual([100_007, 300_001]);
    writeFileSync(path('root/made'), '');
    chownSync(path('root/made'), 100_000, 200_000);
    expect(owner('upper/made')).toEqual([100_000, 200_000]);
  });

  test.each([
    [['uidmap=0:1:1'], 'need each other'],
    [['uidmap=0:1', 'gidmap=0:1:1'], 'malformed'],
    [['uidmap=0:1:0', 'gidmap=0:1:1'], 'malformed'],
  ])('%j is refused', (options, words) => {
    const mount = { type: 'bind', source: path('lower'), target: '', options: ['bind', ...options] };

    expect(() => mountAll([mount], path('root'))).toThrow(words);
  });
});
