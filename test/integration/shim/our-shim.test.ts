// What only our shim does: exit records, bootstrap parameters, survival. Needs root, cgroups and a build.

import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Options } from '../../../proto/generated/containerd.runc.v1';
import { BootstrapParams, BootstrapResult } from '../../../proto/generated/containerd.runtime.bootstrap.v1';
import { TaskService } from '../../../proto/generated/containerd.task.v2';
import { TaskService as TaskServiceV3 } from '../../../proto/generated/containerd.task.v3';
import { RuntimeInfo } from '../../../proto/generated/containerd.types';
import { Status } from '../../../proto/generated/containerd.v1.types';
import { Any } from '../../../proto/generated/google.protobuf';
import { TtrpcClient } from '../../../proto/ttrpc/client';
import { describeUnless, needsFile, needsRoot } from '../../setup/needs';
import { Host, isAlive, makeRootfs, makeSpec, OUR_SHIM, poll } from './harness';

let rootfs: string;
let host: Host;

beforeAll(() => {
  rootfs = makeRootfs();
});

afterAll(() => rmSync(rootfs, { recursive: true, force: true }));

describeUnless(needsRoot() ?? needsFile(OUR_SHIM, 'make build'))('our shim', () => {
  test('the exit record is in the bundle before the exit is announced, and delete uses it', async () => {
    host = await Host.open(OUR_SHIM, rootfs);
    const task = await host.start('rec', host.makeBundle('rec', makeSpec(['sh', '-c', 'exit 9'])));
    const pid = await task.run();
    await host.waitEvent('/tasks/exit');
    const record = JSON.parse(readFileSync(join(task.bundle, 'exit.json'), 'utf8')) as object;
    expect(record).toMatchObject({ pid, exitStatus: 9, exitedAt: expect.stringMatching(/^\d{19}$/) as string });
    process.kill((await task.call(TaskService.connect, {})).shimPid, 'SIGKILL');
    const { stdout } = host.run(task.id, task.bundle, 'delete');

    expect(TaskService.delete.responseType.decode(stdout)).toMatchObject({ pid, exitStatus: 9 });
    await host.close();
  });

  test('the shim survives signals and a log that nobody reads', async () => {
    host = await Host.open(OUR_SHIM, rootfs);
    const task = await host.start('sig', host.makeBundle('sig', makeSpec(['sleep', '100'])));
    await task.run();
    const { shimPid } = await task.call(TaskService.connect, {});
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGPIPE'] as const) process.kill(shimPid, signal);

    expect(await task.call(TaskService.state, {})).toMatchObject({ status: Status.RUNNING });
    await host.close();
  });

  test('checkpoint is refused clearly', async () => {
    host = await Host.open(OUR_SHIM, rootfs);
    const task = await host.start('cp', host.makeBundle('cp', makeSpec(['sleep', '100'])));
    await task.run();

    await expect(task.call(TaskService.checkpoint, { path: '/x' })).rejects.toMatchObject({ kind: 'not implemented' });
    await host.close();
  });

  test('start understands the bootstrap parameters of containerd 2.3', async () => {
    host = await Host.open(OUR_SHIM, rootfs);
    const bundle = host.makeBundle('boot', makeSpec(['sleep', '100']));
    const options = { typeUrl: Options.name, value: Options.encode({ shimCgroup: `/shimtest-${process.pid}` }) };
    const input = BootstrapParams.encode({
      instanceId: 'boot',
      namespace: 'shimtest',
      containerdTtrpcAddress: host.ttrpcAddress,
      socketDir: join(host.directory, 'sockets'),
      extensions: [{ value: options }],
    });
    const { status, stdout } = host.run('boot', bundle, 'start', input);
    expect(status).toBe(0);
    const result = BootstrapResult.decode(stdout);
    expect(result).toMatchObject({ version: 3, protocol: 'ttrpc' });
    expect(result.address).toMatch(new RegExp(`^unix://${host.directory}/sockets/[0-9a-f]{64}$`));
    const client = await TtrpcClient.connect(result.address.replace('unix://', ''));
    const { shimPid } = await client.call(TaskServiceV3.connect, { id: 'boot' });
    expect(readFileSync(`/proc/${shimPid}/cgroup`, 'utf8')).toContain(`/shimtest-${process.pid}`);
    await client.call(TaskServiceV3.shutdown, { id: 'boot' });
    await poll('the shim to end', () => !isAlive(shimPid));
    client.close();
    await host.close();
    execFileSync('sh', [
      '-c',
      `rmdir /sys/fs/cgroup/*/shimtest-${process.pid} /sys/fs/cgroup/shimtest-${process.pid} 2>/dev/null || true`,
    ]);
  });

  test('starts of one group at the same time find one shim', async () => {
    host = await Host.open(OUR_SHIM, rootfs);
    const bundles = ['g1', 'g2', 'g3'].map((id) =>
      host.makeBundle(
        id,
        makeSpec(['sleep', '100'], (spec) => {
          spec.annotations['io.kubernetes.cri.sandbox-id'] = 'pod';
        }),
      ),
    );
    const tasks = await Promise.all(bundles.map((bundle, i) => host.startAsync(`g${i + 1}`, bundle)));
    const pids = await Promise.all(tasks.map(async (task) => (await task.call(TaskService.connect, {})).shimPid));

    expect(new Set(pids).size).toBe(1);
    await host.close();
  });

  test('-info tells what the runtime is and echoes the options', () => {
    const options = Any.encode({ typeUrl: Options.name, value: Options.encode({ systemdCgroup: true }) });
    const info = RuntimeInfo.decode(execFileSync(OUR_SHIM, ['-info'], { input: options }));

    expect(info).toMatchObject({ name: 'io.containerd.gantry.v1', options: { typeUrl: Options.name } });
    expect(JSON.parse(info.features?.value.toString() ?? '')).toMatchObject({
      ociVersionMin: '1.0.0',
      mountOptions: expect.arrayContaining(['rro']) as string[],
      linux: { mountExtensions: { idmap: { enabled: true } } },
    });
    expect(RuntimeInfo.decode(execFileSync(OUR_SHIM, ['-info'], { input: '' })).options).toBeUndefined();
  });

  test('start fails with one line when the bundle is not one', async () => {
    host = await Host.open(OUR_SHIM, rootfs);
    const { status, stdout, stderr } = host.run('none', host.directory, 'start');

    expect(status).toBe(1);
    expect(stdout.toString()).toBe('');
    expect(stderr).toMatch(/^gantry-shim: .*config\.json.*\n$/);
    await host.close();
  });
});
