// How a task begins and ends, what it can be told meanwhile, and what its events say.

import { readFileSync } from 'node:fs';
import { TaskService } from '../../../proto/generated/containerd.task.v2';
import { Status } from '../../../proto/generated/containerd.v1.types';
import { Metrics } from '../../../proto/generated/io.containerd.cgroups.v1';
import { GO_ZERO_TIME } from '../../../proto/time';
import { isAlive, poll } from './harness';
import type { TaskBench } from './task-bench';

export function taskLife(bench: TaskBench): void {
  const { open, fifo, remove, state, wait } = bench;

  test('a container is created, started, waited for and deleted, with events in order', async () => {
    const task = await open(['sh', '-c', 'exit 7']);
    const pid = await task.create();
    expect(await state(task)).toMatchObject({ id: task.id, pid, status: Status.CREATED, bundle: task.bundle });
    expect(await task.call(TaskService.start, {})).toEqual({ pid });
    const exit = await wait(task);
    expect(exit.exitStatus).toBe(7);
    expect(Number(exit.exitedAt?.seconds) * 1000).toBeGreaterThan(Date.now() - 60_000);
    expect(await state(task)).toMatchObject({ status: Status.STOPPED, exitStatus: 7, pid });
    expect(await remove(task)).toMatchObject({ pid, exitStatus: 7 });
    await bench.host.waitEvent('/tasks/delete');

    expect(bench.host.topics(task.id)).toEqual(['/tasks/create', '/tasks/start', '/tasks/exit', '/tasks/delete']);
    expect(bench.host.events.find(({ topic }) => topic === '/tasks/exit')?.payload).toMatchObject({
      containerId: task.id,
      id: task.id,
      pid,
      exitStatus: 7,
    });
    await expect(state(task)).rejects.toThrow('container not created: not found');
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(task.bundle);
  });

  test('a container that was never started has no exit when it is deleted, though its process has', async () => {
    const task = await open(['sh', '-c', 'exit 7']);
    const pid = await task.create();
    const { seconds } = GO_ZERO_TIME;
    expect(await remove(task)).toMatchObject({ pid, exitStatus: 0, exitedAt: { seconds } });
    const exit = await bench.host.waitEvent('/tasks/exit');
    const deleted = await bench.host.waitEvent('/tasks/delete');

    expect(exit.payload).toMatchObject({ id: task.id, pid, exitStatus: 137 });
    expect(deleted.payload).toMatchObject({ pid, exitStatus: 0, exitedAt: { seconds } });
    await expect(state(task)).rejects.toThrow('container not created: not found');
  });

  test('Shutdown ends the shim, but not while a container is left', async () => {
    const task = await open(['sleep', '100']);
    await task.run();
    const { shimPid } = await task.call(TaskService.connect, {});
    await task.call(TaskService.shutdown, {});
    expect(isAlive(shimPid)).toBe(true);
    await task.kill(9);
    await wait(task);
    await remove(task);
    await task.call(TaskService.shutdown, {});

    await poll('the shim to end', () => !isAlive(shimPid));
    await bench.host.waitEvent('/tasks/delete');
  });

  test('without a pid namespace of its own, everything in the container dies with init', async () => {
    const out = fifo('out', 'read');
    const task = await open(['sh', '-c', 'sleep 1000 & echo $!; sleep 0.2; exit 0'], (spec) => {
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'pid');
    });
    await task.run({ stdout: out.path, stderr: fifo('err', 'read').path });
    await wait(task);
    const pid = await poll('its pid', () => Number(/^(\d+)\n/.exec(out.text)?.[1] ?? 0) || undefined);
    expect(pid).toBeGreaterThan(1);

    await poll('the orphan to die', () => !isAlive(pid));
  });

  test('pause freezes, resume thaws, and a paused container can be killed', async () => {
    const task = await open(['sh', '-c', 'while :; do :; done']);
    const pid = await task.run();
    await task.call(TaskService.pause, {});
    expect(await state(task)).toMatchObject({ status: Status.PAUSED, pid });
    await expect(task.call(TaskService.pause, {})).rejects.toThrow('cannot pause a paused container');
    await task.call(TaskService.resume, {});
    expect(await state(task)).toMatchObject({ status: Status.RUNNING });
    await task.call(TaskService.pause, {});
    await task.kill(9);

    expect((await wait(task)).exitStatus).toBe(137);
    await bench.host.waitEvent('/tasks/exit');
    expect(bench.host.topics(task.id)).toEqual(
      expect.arrayContaining(['/tasks/paused', '/tasks/resumed', '/tasks/paused', '/tasks/exit']),
    );
  });

  test('Stats are cgroup metrics and Update changes limits', async () => {
    const task = await open(['sleep', '100']);
    await task.run();
    const resources = (document: object) => ({
      typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources',
      value: Buffer.from(JSON.stringify(document)),
    });
    await task.call(TaskService.update, { resources: resources({ memory: { limit: 50 << 20 } }) });
    const { stats } = await task.call(TaskService.stats, {});

    expect(stats?.typeUrl).toMatch(/^io\.containerd\.cgroups\.v[12]\.Metrics$/);
    if (stats?.typeUrl !== 'io.containerd.cgroups.v1.Metrics') return;
    const metrics = Metrics.decode(stats.value);
    expect(metrics.memory?.usage?.limit).toBe(BigInt(50 << 20));
    expect(metrics.pids?.current).toBeGreaterThan(0n);
  });

  test('an out-of-memory kill is announced before the exit', async () => {
    const task = await open(['sh', '-c', 'tail /dev/zero'], (spec) => {
      spec.linux.resources = { memory: { limit: 8 << 20, swap: 8 << 20 } };
      spec.process.args = ['sh', '-c', 'x=$(cat /dev/zero | tail -c 50000000); echo'];
    });
    await task.run();
    await wait(task);
    await bench.host.waitEvent('/tasks/exit');
    const topics = bench.host.topics(task.id);

    // The Go shim learns of it by an event of its own, which may come after the exit.
    if (!bench.isOurs) return;
    expect(topics).toContain('/tasks/oom');
    expect(topics.indexOf('/tasks/oom')).toBeLessThan(topics.indexOf('/tasks/exit'));
  });

  test('containers of a group share one shim', async () => {
    const group = (spec: { annotations: Record<string, string> }) => {
      spec.annotations['io.containerd.runc.v2.group'] = 'pod';
    };
    const [first, second] = [await open(['sleep', '100'], group), await open(['sleep', '100'], group)];
    await first.run();
    await second.run();
    const { shimPid } = await first.call(TaskService.connect, {});
    expect(await second.call(TaskService.connect, {})).toMatchObject({ shimPid });
    await first.kill(9);
    await wait(first);
    await remove(first);
    await first.call(TaskService.shutdown, {});

    expect(await state(second)).toMatchObject({ status: Status.RUNNING });
  });

  test('the delete action cleans up after a shim that was killed', async () => {
    const task = await open(['sleep', '100']);
    const pid = await task.run();
    const { shimPid } = await task.call(TaskService.connect, {});
    process.kill(shimPid, 'SIGKILL');
    await poll('the shim to be gone', () => !isAlive(shimPid));
    const { status, stdout } = bench.host.run(task.id, task.bundle, 'delete');
    expect(status).toBe(0);
    const response = TaskService.delete.responseType.decode(stdout);
    expect(response).toMatchObject({ pid, exitStatus: 137 });

    await poll('the process to be gone', () => !isAlive(pid));
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(task.bundle);
  });

  test('events that the daemon missed come when it is back', async () => {
    const task = await open(['sleep', '100']);
    await task.run();
    await bench.host.waitEvent('/tasks/start');
    await bench.host.stopListening();
    await task.kill(9);
    await wait(task);
    await bench.host.listen();

    await bench.host.waitEvent('/tasks/exit');
  });
}
