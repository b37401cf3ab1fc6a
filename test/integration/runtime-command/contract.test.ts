// The contract of OCI runtimes on gantry-runtime.

import path from 'node:path';
import { PROJECT_ROOT } from '../../setup/cache';
import { describeUnless, needsFile } from '../../setup/needs';
import { ociCommandSuite } from '../../suites/oci-command.suite';
import { missingForContainers } from '../../suites/runtime-bundle';

const GANTRY = path.join(PROJECT_ROOT, 'dist', 'bin', 'gantry-runtime');

describeUnless(missingForContainers() ?? needsFile(GANTRY, 'make build'))('gantry-runtime', () => {
  ociCommandSuite(GANTRY);
});
