// The runtime contract on gantry's library and its command line, and on runc, which shows that the cases are right.

import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../setup/cache';
import { describeUnless, needsFile } from '../setup/needs';
import { runtimeSuite } from '../suites/runtime.suite';
import { missingForContainers, removeCgroupParents } from '../suites/runtime-bundle';
import type { RunResult, RuntimeUnderTest } from '../suites/runtime-case';
import { collectExits, runtimeLibrary } from '../suites/runtime-library';

const GANTRY_RUNTIME = join(PROJECT_ROOT, 'dist', 'bin', 'gantry-runtime');
const missing = missingForContainers();
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

describeUnless(missing)('gantry', () => {
  runtimeSuite(runtimeLibrary(root));
});

describeUnless(missing ?? needsFile(GANTRY_RUNTIME, 'make build'))('gantry-runtime', () => {
  runtimeSuite(runtimeProgram(GANTRY_RUNTIME, join(root, 'gantry-runtime')));
});

describeUnless(missing ?? needsFile('/usr/sbin/runc', 'package runc'))('runc', () => {
  runtimeSuite(runtimeProgram('runc', join(root, 'runc')));
});

function runtimeProgram(program: string, state: string): RuntimeUnderTest {
  return {
    run({ id, bundle, spec }): Promise<RunResult> {
      mkdirSync(state, { recursive: true });
      const directory = join(bundle.path, id);
      mkdirSync(directory);
      writeFileSync(join(directory, 'config.json'), JSON.stringify(spec));
      return new Promise((resolve) => {
        const child = execFile(
          program,
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
