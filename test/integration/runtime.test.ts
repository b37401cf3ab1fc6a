// The runtime contract on gantry's library and its command line.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../setup/cache';
import { describeUnless, needsFile } from '../setup/needs';
import { runtimeSuite } from '../suites/runtime.suite';
import { missingForContainers, removeCgroupParents } from '../suites/runtime-bundle';
import { collectExits, runtimeLibrary } from '../suites/runtime-library';
import { runtimeProgram } from '../suites/runtime-program';

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
