// The runtime contract on gantry's library, and on runc where it is installed, which shows that the cases are right.

import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runtimeSuite } from '../suites/runtime.suite';
import { cannotRunContainers, removeCgroupParents } from '../suites/runtime-bundle';
import type { RunResult, RuntimeUnderTest } from '../suites/runtime-case';
import { collectExits, runtimeLibrary } from '../suites/runtime-library';

const reason = cannotRunContainers();
const root = mkdtempSync(join(tmpdir(), 'gantry-runtime-root-'));
let stop = () => {};

beforeAll(() => {
  stop = collectExits();
});
afterAll(() => {
  stop();
  removeCgroupParents();
  rmSync(root, { recursive: true, force: true });
});

if (reason !== undefined) console.warn(`runtime contract skipped: ${reason}`);
(reason === undefined ? describe : describe.skip)('gantry', () => {
  runtimeSuite(runtimeLibrary(root));
});

const withRunc = reason === undefined && process.env['GANTRY_TEST_RUNC'] === '1' && hasRunc();
(withRunc ? describe : describe.skip)('runc', () => {
  runtimeSuite(runcProgram(join(root, 'runc')));
});

function hasRunc(): boolean {
  try {
    execFileSync('runc', ['--version']);
    return true;
  } catch {
    return false;
  }
}

function runcProgram(state: string): RuntimeUnderTest {
  return {
    run({ id, bundle, spec }): Promise<RunResult> {
      mkdirSync(state, { recursive: true });
      const directory = join(bundle.path, id);
      mkdirSync(directory);
      writeFileSync(join(directory, 'config.json'), JSON.stringify(spec));
      return new Promise((resolve) => {
        const child = execFile(
          'runc',
          ['--root', state, 'run', '--bundle', directory, id],
          (failure, stdout, stderr) => {
            const error = /msg="(runc run failed: .*)"/
              .exec(stderr)?.[1]
              ?.replaceAll('\\"', '"')
              .replaceAll('\\\\', '\\');
            const code = failure === null ? 0 : Number(failure.code ?? -1);
            resolve({ error, code, stdout, stderr: stderr.replaceAll(/^time=.*\n/gm, '') });
          },
        );
        child.stdin?.end();
      });
    },
  };
}
