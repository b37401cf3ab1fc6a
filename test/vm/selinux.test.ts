// SELinux labels of processes, mounts and session keyrings, by gantry-runtime and by Debian's runc, which shows that they
// are the right ones. Runs in the second virtual machine of `make test-vm`, whose policy is Debian's, and permissive.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { PROJECT_ROOT } from '../setup/cache';
import { waitFor } from '../setup/command';
import { describeUnless, needsFile } from '../setup/needs';
import { OciCommand, type SpecChange } from '../suites/oci-command';
import { missingForContainers } from '../suites/runtime-bundle';

const GANTRY = path.join(PROJECT_ROOT, 'dist', 'bin', 'gantry-runtime');
const RUNC = '/usr/sbin/runc';
/** Of Debian's policy; what they are meant for does not matter. */
const LABEL = 'system_u:system_r:svirt_t:s0:c1,c2';
const OTHER_LABEL = 'system_u:system_r:svirt_t:s0:c3';
const MOUNT_LABEL = 'system_u:object_r:svirt_image_t:s0:c1,c2';
const SHOW = ['cat', '/proc/self/attr/current'];
const OWN_MOUNTS = ['/dev', '/dev/pts', '/dev/shm'];

const missing =
  missingForContainers() ??
  (existsSync('/sys/fs/selinux/enforce') ? undefined : 'needs a kernel with SELinux') ??
  needsFile(GANTRY, 'make build') ??
  needsFile(RUNC, 'package runc') ??
  needsFile('/usr/bin/keyctl', 'package keyutils');

const labelled: SpecChange = (spec) => {
  spec.process.selinuxLabel = LABEL;
  spec.linux.mountLabel = MOUNT_LABEL;
};

describeUnless(missing).each([
  ['gantry-runtime', GANTRY],
  ['runc', RUNC],
])('SELinux, %s', (name, program) => {
  let command: OciCommand;
  beforeEach(() => {
    command = new OciCommand(program);
  });
  afterEach(() => command.clean());

  const pidOf = async (id: string) => (await command.state(id)).pid ?? 0;

  test('a container and its execs run under the label', async () => {
    const id = await command.running(['sleep', '1000'], labelled);
    const pid = await pidOf(id);
    await waitFor('the program', () => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n');

    expect(labelOf(pid)).toBe(LABEL);
    expect(text(await command.must('exec', id, ...SHOW))).toBe(LABEL);
    expect(text(await command.must('exec', '--process-label', OTHER_LABEL, id, ...SHOW))).toBe(OTHER_LABEL);
  });

  test('without a label it has that of its parent', async () => {
    const { stdout } = await command.run(SHOW);

    expect(text(stdout)).toBe(labelOf('self'));
  });

  test('filesystems of the container have the mount label, those of the kernel and of the host their own', async () => {
    const source = path.join(command.directory, 'volume');
    mkdirSync(source);
    const id = await command.running(['sleep', '1000'], (spec, bundle) => {
      labelled(spec, bundle);
      spec.linux.maskedPaths = ['/sys/firmware'];
      spec.mounts.push(
        { destination: '/bound', type: 'bind', source, options: ['rbind'] } as never,
        { destination: '/copy', type: 'tmpfs', source: 'tmpfs', options: ['tmpcopyup', 'ro'] } as never,
      );
    });
    const root = `/proc/${await pidOf(id)}/root`;
    const mounts = contextsOf(await command.must('exec', id, 'cat', '/proc/self/mountinfo'));

    const own = [...mounts].filter(([, context]) => context !== undefined);
    expect(new Map(own)).toEqual(new Map([...OWN_MOUNTS, '/copy', '/sys/firmware'].map((at) => [at, MOUNT_LABEL])));
    expect(mounts.has('/bound') && mounts.has('/proc') && mounts.has('/sys/fs/cgroup')).toBe(true);
    expect(fileLabel(`${root}/dev/mqueue`)).toBe(MOUNT_LABEL);
    expect(fileLabel(`${root}/dev/null`)).toBe(MOUNT_LABEL);
    expect(fileLabel(`${root}/bound`)).toBe(fileLabel(source));
  });

  test('the session keyring belongs to the label', async () => {
    const id = await command.running(['sleep', '1000'], labelled);
    const keyring = readFileSync('/proc/keys', 'utf8')
      .split('\n')
      .find((line) => line.includes(` _ses.${id}:`));
    const serial = `0x${keyring?.split(' ')[0]}`;

    expect(text(execFileSync('keyctl', ['security', serial], { encoding: 'utf8' }))).toBe(LABEL);
  });

  test('a label that the policy does not know is refused', async () => {
    const { exitCode, stderr } = await command.run(['true'], (spec) => {
      spec.process.selinuxLabel = 'no:such:label:s0';
    });
    const mount = await command.run(['true'], (spec) => {
      spec.linux.mountLabel = 'no:such:label:s0';
    });

    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/write \/proc\/self\/attr\/keycreate: invalid argument"?\n$/);
    expect(mount.exitCode).toBe(1);
    expect(mount.stderr).toMatch(/rootfs at \\"\/dev\\": mount tmpfs:\/dev.*invalid argument"?\n$/);
  });

  if (name === 'runc') return;

  test('CVE-2019-19921, CVE-2025-52881: a label is not written into what lies over /proc/self/attr', async () => {
    const id = await command.running(['sleep', '1000'], (spec, bundle) => {
      labelled(spec, bundle);
      spec.mounts.push({ destination: '/proc/self/attr', type: 'tmpfs', source: 'tmpfs', options: [] } as never);
    });
    const pid = await pidOf(id);
    await waitFor('the program', () => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n');

    expect(labelOf(pid)).toBe(LABEL);
  });

  test('a profile of AppArmor, which is not at work, is refused', async () => {
    const { stderr } = await command.run(['true'], (spec) => {
      spec.process.apparmorProfile = 'docker-default';
    });

    expect(stderr).toContain('apparmor is disabled or not supported');
  });
});

function labelOf(pid: number | 'self'): string {
  return text(readFileSync(`/proc/${pid}/attr/current`, 'utf8'));
}

function fileLabel(file: string): string {
  return text(execFileSync('stat', ['-c', '%C', file], { encoding: 'utf8' }));
}

/** The kernel ends some labels with a NUL. */
function text(output: string): string {
  return output.replace(/[\0\n]+$/, '');
}

/** Mount points to the label that was given at the mount. */
function contextsOf(mountinfo: string): Map<string, string | undefined> {
  const lines = mountinfo.split('\n').filter(Boolean);
  return new Map(lines.map((line) => [line.split(' ')[4] ?? '', /\bcontext="?([^"\s]+)"?/.exec(line)?.[1]]));
}
