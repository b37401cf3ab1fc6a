// Each step of making a container with gantry's library fails once; the bench looks that nothing is left.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Container } from '../../runtime-native/index';
import { hasSecurityModule } from '../../runtime-native/launcher/security-modules';
import { waitFor } from '../setup/command';
import { describeUnless } from '../setup/needs';
import { childrenOf } from '../setup/processes';
import { type SpecChange, useRuntime } from '../suites/runtime-bench';
import { missingForContainers } from '../suites/runtime-bundle';

describeUnless(missingForContainers())('a container that cannot be made leaves nothing behind', () => {
  const runtime = useRuntime();

  const changes: [string, SpecChange][] = [
    ['configuration', (spec) => (spec.process.args = [])],
    ['seccomp', (spec) => (spec.linux.seccomp = { defaultAction: 'X' } as never)],
    ['cgroup limits', (spec) => (spec.linux.resources.cpu = { cpus: '4096' } as never)],
    [
      'namespace to join',
      (spec) => ((spec.linux.namespaces.find(({ type }) => type === 'network') as { path?: string }).path = '/no/such'),
    ],
    [
      'pid namespace to join',
      (spec) => ((spec.linux.namespaces.find(({ type }) => type === 'pid') as { path?: string }).path = '/etc/passwd'),
    ],
    ['first mount', (spec) => spec.mounts.unshift({ destination: '/m', type: 'bind', source: '/no/such' } as never)],
    [
      'last mount',
      (spec) => spec.mounts.push({ destination: '/m', type: 'tmpfs', source: 'x', options: ['bogus=1'] } as never),
    ],
    ['hook', (spec) => (spec.hooks = { createContainer: [{ path: '/bin/false' }] } as never)],
    ['user', (spec) => (spec.process.user.uid = 2 ** 31)],
    ['program', (spec) => (spec.process.args = ['/none'])],
    ['label', (spec) => (spec.process.apparmorProfile = 'no-such-profile')],
  ];
  test.each(changes)('%s', async (_what, change) => {
    const children = childrenOf(process.pid);
    const options = runtime.optionsFor(['true'], change);

    await expect(Container.create(options)).rejects.toThrow(/^runc create failed: /);

    // An orphan of the case before may become our child only now; it is reaped within a second, a process left is not.
    await waitFor('the end of orphans', () => childrenOf(process.pid).every((child) => children.includes(child)));
  });

  const labels: [string, SpecChange][] = [
    ['process', (spec) => (spec.process.selinuxLabel = 'no:such:label')],
    ['mounts', (spec) => (spec.linux.mountLabel = 'no:such:label')],
  ];
  test.each(labels)('label of SELinux, which the host need not have: %s', async (_what, change) => {
    const refused = Container.create(runtime.optionsFor(['true'], change));

    const why = ': selinux label is specified in config, but selinux is disabled or not supported';
    await expect(refused).rejects.toThrow(`invalid argument${hasSecurityModule('selinux') ? '' : why}`);
  });

  test('state directory that cannot be made', async () => {
    const blocked = join(runtime.root, '../', `gantry-file-${runtime.bundle.name}`);
    execFileSync('touch', [blocked]);

    await expect(Container.create({ ...runtime.optionsFor(['true']), root: blocked })).rejects.toThrow(
      /^runc create failed: /,
    );

    rmSync(blocked);
  });

  test('state directory that is full', async () => {
    const full = join(runtime.bundle.path, 'state');
    mkdirSync(full);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'tmpfs', full]);
    try {
      const options = { ...runtime.optionsFor(['true']), root: full, keepsSpec: true };
      await expect(Container.create(options)).rejects.toThrow(/^runc create failed: ENOSPC: .*write/);

      expect(readdirSync(full)).toEqual([]);
    } finally {
      execFileSync('umount', [full]);
    }
  });

  test('root filesystem that is missing', async () => {
    await expect(Container.create({ ...runtime.optionsFor(['true']), rootfs: '/no/such' })).rejects.toThrow(
      'runc create failed: invalid rootfs: stat /no/such: no such file or directory',
    );
  });
});
