// Which groups may be used, on plain directories, for a child that is an ordinary user: root may write all.

import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mayUseV1, mayUseV2 } from '../../../../runtime-native/cgroup/rights';
import { PROJECT_ROOT } from '../../../setup/cache';
import { describeUnless, needsFile, needsRoot } from '../../../setup/needs';

const USER = 12_345;
const COMPILED = join(PROJECT_ROOT, 'dist/runtime-native/cgroup/rights.js');

describeUnless(needsRoot() ?? needsFile(COMPILED, 'make build'))('rights on cgroups of an ordinary user', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'gantry-rights-'));
    chmodSync(root, 0o755);
    for (const group of ['', 'user', 'user/self', 'user/foreign', 'host']) {
      mkdirSync(join(root, group), { recursive: true });
      for (const file of ['cgroup.procs', 'tasks']) writeFileSync(join(root, group, file), '');
    }
    for (const path of ['user', 'user/self', 'user/cgroup.procs', 'user/self/cgroup.procs', 'user/self/tasks']) {
      chownSync(join(root, path), USER, USER);
    }
  });
  afterEach(() => rmSync(root, { recursive: true }));

  test.each<[string, string, string, [boolean, boolean]]>([
    ['a new group in what is its own', 'user/a', 'user/self', [true, true]],
    ['one that is further below', 'user/a/b/c', 'user/self', [true, true]],
    ['one below its own process', 'user/self/a', 'user/self', [true, true]],
    ['one that is there and its own', 'user/self', 'user/self', [true, true]],
    ['one that is there and not its own', 'user/foreign', 'user/self', [false, false]],
    ['one beside', 'host/a', 'user/self', [false, false]],
    ['a new one below the root', 'a', 'user/self', [false, false]],
    ['its own, for a process that is elsewhere', 'user/a', 'host', [true, false]],
  ])('%s', (_what, directory, own, [v1, v2]) => {
    const paths = [join(root, directory), join(root, own)] as const;
    const script = `const { mayUseV1, mayUseV2 } = require(${JSON.stringify(COMPILED)});
      const [directory, own] = process.argv.slice(1);
      console.log(JSON.stringify([mayUseV1(directory), mayUseV2(directory, own)]));`;
    const child = spawnSync(process.execPath, ['-e', script, ...paths], { uid: USER, gid: USER, encoding: 'utf8' });

    expect({ stderr: child.stderr, answers: child.stdout }).toEqual({ stderr: '', answers: `[${v1},${v2}]\n` });
    expect([mayUseV1(paths[0]), mayUseV2(...paths)]).toEqual([true, true]);
  });
});
