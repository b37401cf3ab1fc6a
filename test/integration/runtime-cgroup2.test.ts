// cgroup v2 with real processes: the device filter, birth into a group, freezing and killing. Needs no controllers, so the
// v2 hierarchy of a hybrid host does.

import { closeSync, existsSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { CgroupV2 } from '../../runtime-native/cgroup/v2';
import { launch } from '../../runtime-native/launch';
import { compileHook } from '../../runtime-native/plan/plan';
import { describeUnless } from '../setup/needs';
import { CGROUP_PARENT, missingForContainers, removeCgroupParents } from '../suites/runtime-bundle';
import { collectExits, Output, waitForExit } from '../suites/runtime-library';

const mountpoint = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((path) =>
  existsSync(`${path}/cgroup.subtree_control`),
);
// The kernel decides, not the set-up: a host of cgroup v1 alone skips these without complaint.
if (mountpoint === undefined) console.warn('skipped: needs a cgroup v2 hierarchy');

(mountpoint === undefined ? describe.skip : describeUnless(missingForContainers()))('CgroupV2 with processes', () => {
  let cgroup: CgroupV2;
  let output: Output;
  let stop: () => void;
  let counter = 0;

  beforeEach(() => {
    stop = collectExits();
    cgroup = new CgroupV2(`${mountpoint}/${CGROUP_PARENT}/v2-${++counter}`);
    cgroup.create();
    output = new Output();
  });
  afterEach(async () => {
    cgroup.signalAll(9);
    await cgroup.remove();
    output.close();
    stop();
    removeCgroupParents();
  });

  /** A shell born into the group, without namespaces of its own. */
  const start = (script: string): number => {
    const directory = openSync(cgroup.cloneDirectory(), 'r');
    const init = launch({
      plan: compileHook({ path: '/bin/sh', args: ['sh', '-c', script], env: ['PATH=/usr/bin:/bin'] }, undefined),
      namespaces: 0,
      cgroup: directory,
      stdio: [-1, output.stdout, output.stderr],
      inInit: false,
    });
    closeSync(directory);
    init.hangUp();
    closeSync(init.pidfd);
    return init.pid;
  };

  test('devices that are not allowed cannot be opened', async () => {
    cgroup.apply({ devices: [{ allow: false, access: 'rwm' }] }, false);

    await waitForExit(start('head -c 1 /dev/zero | wc -c; head -c 1 /dev/kmsg'));

    expect(output.read()).toEqual({ stdout: '1\n', stderr: expect.stringMatching(/Operation not permitted/) });
  });

  test('processes are in the group from their birth, stop while it is frozen, and end together', async () => {
    const pid = start('sleep 100 & while true; do echo x; sleep 0.02; done');
    const exit = waitForExit(pid);
    while (output.read().stdout.length < 4) await sleep(5);
    expect(cgroup.pids()).toContain(pid);

    await cgroup.freeze();
    const frozen = output.read().stdout.length;
    await sleep(100);
    expect(output.read().stdout.length).toBe(frozen);
    cgroup.thaw();
    while (output.read().stdout.length === frozen) await sleep(5);
    cgroup.signalAll(9);

    expect(await exit).toMatchObject({ code: 137, signal: 9 });
    while (cgroup.pids().length > 0) await sleep(5);
  });
});
