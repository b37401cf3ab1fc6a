// AppArmor profiles of processes, on a kernel that enforces them; Debian's runc shows that the command line's answers are
// the known ones. Runs in the virtual machine of `make test-vm`, and on every host with AppArmor.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { PROJECT_ROOT } from '../setup/cache';
import { describeUnless, needsFile } from '../setup/needs';
import { OciCommand } from '../suites/oci-command';
import { useRuntime } from '../suites/runtime-bench';
import { missingForContainers } from '../suites/runtime-bundle';
import { waitForExit } from '../suites/runtime-library';

const GANTRY = path.join(PROJECT_ROOT, 'dist', 'bin', 'gantry-runtime');
const RUNC = '/usr/sbin/runc';
const PARSER = '/sbin/apparmor_parser';
const ENABLED = '/sys/module/apparmor/parameters/enabled';
const PROFILE = `gantry-test-${process.pid}`;
const POLICY = `profile ${PROFILE} flags=(attach_disconnected) {
  file,
  capability,
  network,
  signal,
  deny /etc/passwd r,
}
`;
const SHOW = ['sh', '-c', 'cat /proc/self/attr/current; cat /etc/passwd'];

describeUnless(missingForContainers() ?? missing())('AppArmor', () => {
  const runtime = useRuntime();
  beforeAll(() => parse('--replace'));
  afterAll(() => parse('--remove'));

  const run = async (args: readonly string[], change: object) => {
    const output = runtime.newOutput();
    const options = runtime.optionsFor(args, (spec) => Object.assign(spec.process, change));
    const container = await runtime.create({ ...options, io: output.io });
    const exit = waitForExit(container.pid);
    await container.start();
    return { code: (await exit).code, ...output.read() };
  };

  test.each([true, false])('a container runs under its profile, noNewPrivileges %s', async (noNewPrivileges) => {
    expect(await run(SHOW, { apparmorProfile: PROFILE, noNewPrivileges })).toEqual({
      code: 1,
      stdout: `${PROFILE} (enforce)\n`,
      stderr: expect.stringContaining('Permission denied'),
    });
  });

  test('without a profile it is not confined', async () => {
    const { code, stdout } = await run(SHOW, {});

    expect(code).toBe(0);
    expect(stdout).toMatch(/^unconfined\nroot:x:0/);
  });

  test("an exec takes the container's profile, or its own", async () => {
    const container = await runtime.running(['sleep', '1000'], (spec) => {
      spec.process.apparmorProfile = PROFILE;
    });

    const same = await runtime.exec(container, SHOW);
    const own = await runtime.exec(container, SHOW, { apparmorProfile: 'unconfined' });

    expect([same.code, same.stdout]).toEqual([1, `${PROFILE} (enforce)\n`]);
    expect(own.stdout).toMatch(/^unconfined\nroot:x:0/);
  });

  test('a profile that is not loaded is refused', async () => {
    await expect(run(SHOW, { apparmorProfile: 'no-such-profile' })).rejects.toThrow(
      'apparmor failed to apply profile: write /proc/self/attr/apparmor/exec: no such file or directory: profile "no-such-profile" is not loaded',
    );
  });
});

describeUnless(missingForContainers() ?? missing() ?? missingPrograms()).each([
  ['gantry-runtime', GANTRY],
  ['runc', RUNC],
])('AppArmor, %s', (_name, program) => {
  let command: OciCommand;
  beforeAll(() => parse('--replace'));
  afterAll(() => parse('--remove'));
  beforeEach(() => {
    command = new OciCommand(program);
  });
  afterEach(() => command.clean());

  test("an exec takes the container's profile, or --apparmor", async () => {
    const id = await command.running(['sleep', '1000'], (spec) => {
      spec.process.apparmorProfile = PROFILE;
    });
    const same = await command.call('exec', id, ...SHOW);
    const own = await command.call('exec', '--apparmor', 'unconfined', id, ...SHOW);

    expect(same).toMatchObject({ exitCode: 1, stdout: `${PROFILE} (enforce)\n` });
    expect(own.stdout).toMatch(/^unconfined\nroot:x:0/);
  });

  test('a profile that is not loaded is refused, for a container and for an exec', async () => {
    const refusal = 'apparmor failed to apply profile: write /proc/self/attr/apparmor/exec: no such file or directory';
    const created = await command.run(SHOW, (spec) => {
      spec.process.apparmorProfile = 'no-such-profile';
    });
    const id = await command.running();
    const executed = await command.call('exec', '--apparmor', 'no-such-profile', id, ...SHOW);

    expect(created.stderr).toContain(refusal);
    expect(executed.stderr).toContain(refusal);
  });
});

function parse(action: '--replace' | '--remove'): void {
  execFileSync(PARSER, ['--skip-cache', action], { input: POLICY });
}

function missingPrograms(): string | undefined {
  return needsFile(GANTRY, 'make build') ?? needsFile(RUNC, 'package runc');
}

function missing(): string | undefined {
  const isEnabled = existsSync(ENABLED) && readFileSync(ENABLED, 'utf8').startsWith('Y');
  return isEnabled ? needsFile(PARSER, 'package apparmor') : 'needs a kernel with AppArmor';
}
