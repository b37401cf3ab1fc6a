// The runtime contract on Debian's runc, which shows that the cases are right.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeUnless, needsFile, retryPeer } from '../setup/needs';
import { runtimeSuite } from '../suites/runtime.suite';
import { missingForContainers, removeCgroupParents } from '../suites/runtime-bundle';
import { runtimeProgram } from '../suites/runtime-program';

const root = mkdtempSync(join(tmpdir(), 'gantry-runtime-root-'));

retryPeer();

afterAll(() => {
  removeCgroupParents();
  rmSync(root, { recursive: true, force: true });
});

describeUnless(missingForContainers() ?? needsFile('/usr/sbin/runc', 'package runc'))('runc', () => {
  runtimeSuite(runtimeProgram('runc', root));
});
