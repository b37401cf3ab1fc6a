// Containers of a real gantryd on cgroup v2: what the command line asks for must be what the kernel enforces. Runs in the
// virtual machine of `make test-vm`, and on every host that has the unified hierarchy with all controllers.

import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { deviceNumbers } from '../../cli/spec/devices';
import { missingForCli, useDaemon } from '../integration/cli/fixture';
import { waitFor } from '../setup/command';
import { describeUnless, needsFile } from '../setup/needs';

const CGROUPS = '/sys/fs/cgroup';
/** Long enough for an emulated machine. */
const PATIENCE_MS = 60_000;

describeUnless(missingForCli() ?? missing())('gantry on cgroup v2', () => {
  const { daemon, run } = useDaemon();
  const group = (id: string) => join(CGROUPS, 'default', id);
  const read = (id: string, file: string) => readFileSync(join(group(id), file), 'utf8').trim();
  const processesOf = (id: string) => read(id, 'cgroup.procs').split('\n').filter(Boolean).length;

  const ids: string[] = [];
  /** Started in the background; removed after the test. */
  const start = async (id: string, command: string[], options: string[] = []) => {
    ids.push(id);
    expect(await run('run', '-d', ...options, 'busybox', id, ...command)).toMatchObject({ code: 0, stderr: '' });
  };
  afterEach(async () => {
    const removed = ids.splice(0);
    if (removed.length === 0) return;
    expect(await run('containers', 'rm', '--force', ...removed)).toMatchObject({ code: 0 });
    for (const id of removed) expect(existsSync(group(id))).toBe(false);
  });

  test('limits are in the files of the group, seen from inside as from outside, and in the metrics', async () => {
    const limits = [
      '--memory',
      '64m',
      '--memory-swap',
      '96m',
      '--cpus',
      '0.5',
      '--cpu-shares',
      '512',
      '--pids-limit',
      '20',
    ];
    const cgroups = ['--mount', 'type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro'];
    await start('v2a', ['sleep', '1000'], [...limits, ...cgroups]);

    const files = ['memory.max', 'memory.swap.max', 'cpu.max', 'cpu.weight', 'pids.max'];
    expect(files.map((file) => read('v2a', file))).toEqual(['67108864', '33554432', '50000 100000', '20', '20']);
    const inside = await run('exec', 'v2a', 'cat', '/sys/fs/cgroup/memory.max', '/proc/self/cgroup');
    expect(inside).toMatchObject({ code: 0, stdout: '67108864\n0::/\n' });
    const [metrics] = JSON.parse((await run('tasks', 'metrics', 'v2a', '--format', 'json')).stdout);
    expect(metrics).toMatchObject({ id: 'v2a', type: 'io.containerd.cgroups.v2.Metrics' });
    const { pids, memory, cpu } = metrics.data;
    expect(pids).toEqual({ current: 1, limit: 20 });
    expect(memory).toMatchObject({ usageLimit: 64 << 20, swapLimit: 32 << 20, usage: expect.any(Number) });
    expect(memory.usage).toBeGreaterThan(0);
    expect(cpu.usageUsec).toBeGreaterThan(0);
  });

  test('a process limit holds', async () => {
    const { stdout, stderr } = await run(
      ...['run', '--rm', '--pids-limit', '3', 'busybox', 'v2a'],
      ...['sh', '-c', '(sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait) 2>&1'],
    );

    expect(stdout + stderr).toContain('fork');
  });

  test('devices are those that were given', async () => {
    // Opening it needs no capability, unlike most devices that no container has by itself.
    const { major, minor } = deviceNumbers(statSync('/dev/fuse').rdev);
    const script = `head -c 1 /dev/zero | wc -c; mknod /tmp/node c ${major} ${minor}; : </tmp/node && echo opened`;
    const refused = await run('run', '--rm', 'busybox', 'v2a', 'sh', '-c', script);
    const allowed = await run('run', '--rm', '--device', '/dev/fuse', 'busybox', 'v2b', 'sh', '-c', script);
    const privileged = await run('run', '--rm', '--privileged', 'busybox', 'v2c', 'sh', '-c', script);

    expect(refused).toMatchObject({ stdout: '1\n', stderr: expect.stringContaining('Operation not permitted') });
    expect(allowed).toMatchObject({ stdout: '1\nopened\n', stderr: '' });
    expect(privileged).toMatchObject({ stdout: '1\nopened\n', stderr: '' });
  });

  test('pause freezes the group and resume lets it go on', async () => {
    await start('v2a', ['sh', '-c', 'while true; do echo x; sleep 0.1; done']);
    const output = () => statSync(join(daemon.env['GANTRY_LOG_DIR'] ?? '', 'default/v2a.log')).size;
    await waitFor('output', () => output() > 0, PATIENCE_MS);

    expect(await run('tasks', 'pause', 'v2a')).toMatchObject({ code: 0 });
    expect(read('v2a', 'cgroup.events')).toContain('frozen 1');
    const before = output();
    expect((await run('tasks', 'ls')).stdout).toMatch(/v2a.*paused/i);
    expect((await run('exec', 'v2a', 'true')).stderr).toContain('paused');
    expect(output()).toBe(before);
    expect(await run('tasks', 'resume', 'v2a')).toMatchObject({ code: 0 });

    expect(read('v2a', 'cgroup.events')).toContain('frozen 0');
    await waitFor('more output', () => output() > before, PATIENCE_MS);
  });

  test('a container that runs out of memory says so before it says that it has ended', async () => {
    const follower = daemon.spawn(['events']);
    // Events are told from the subscription on: something must be seen before the container starts.
    await waitFor(
      'the follower',
      async () => {
        await run('namespaces', 'label', 'default', `at=${Date.now()}`);
        return Promise.race([follower.prints('/namespaces/update').then(() => true), sleep(500).then(() => false)]);
      },
      PATIENCE_MS,
    );

    const { code } = await run(
      ...['run', '--rm', '--memory', '16m', '--memory-swap', '16m', 'busybox', 'v2a'],
      ...['dd', 'if=/dev/zero', 'of=/dev/null', 'bs=64M', 'count=1'],
    );
    await follower.prints('/tasks/delete');
    follower.child.kill('SIGINT');

    const { stdout } = await follower.done;
    expect(code).toBe(137);
    const topics = [...stdout.matchAll(/\/tasks\/\w+/g)].map(([topic]) => topic);
    expect(topics).toEqual(['/tasks/create', '/tasks/start', '/tasks/oom', '/tasks/exit', '/tasks/delete']);
  });

  test('kill --all ends processes that are in no pid namespace of the container', async () => {
    const script = 'setsid sleep 1000 & setsid sleep 1000 & exec sleep 1000';
    await start('v2a', ['sh', '-c', script], ['--with-ns', 'pid:host']);
    await waitFor('three processes', () => processesOf('v2a') === 3, PATIENCE_MS);

    expect(await run('tasks', 'kill', '--all', '-s', 'KILL', 'v2a')).toMatchObject({ code: 0 });

    await waitFor('no process', () => processesOf('v2a') === 0, PATIENCE_MS);
    expect((await run('tasks', 'ls')).stdout).toMatch(/v2a.*stopped/i);
  });

  test('exec joins the group, and where the container has made groups of its own, that of its first process', async () => {
    const script =
      'cd /sys/fs/cgroup && mkdir init && echo 1 >init/cgroup.procs && echo +pids >cgroup.subtree_control && exec sleep 1000';
    await start('v2a', ['sleep', '1000']);
    await start('v2b', ['sh', '-c', script], ['--privileged']);
    await waitFor('groups of its own', () => read('v2b', 'cgroup.subtree_control') === 'pids', PATIENCE_MS);

    const show = ['cat', '/proc/self/cgroup'];
    expect(await run('exec', 'v2a', ...show)).toMatchObject({ code: 0, stdout: '0::/\n' });
    expect(await run('exec', 'v2b', ...show)).toMatchObject({ code: 0, stdout: '0::/default/v2b/init\n' });
  });
});

function missing(): string | undefined {
  const file = join(CGROUPS, 'cgroup.controllers');
  const isUnified = existsSync(file) && readFileSync(file, 'utf8').includes('memory');
  return isUnified ? needsFile('/dev/fuse', 'module fuse') : 'needs cgroup v2 with all controllers';
}
