// Further processes in a running container.

import { ProcessDetails } from '../../../proto/generated/containerd.runc.v1';
import { TaskService } from '../../../proto/generated/containerd.task.v2';
import { Status } from '../../../proto/generated/containerd.v1.types';
import { poll } from './harness';
import type { TaskBench } from './task-bench';

export function taskExec(bench: TaskBench): void {
  const { open, fifo, remove, state, wait } = bench;

  test('an exec runs, has streams and a status of its own, and is deleted', async () => {
    const out = fifo('exec-out', 'read');
    const task = await open(['sleep', '100']);
    const initPid = await task.run();
    await task.exec('e1', ['sh', '-c', 'echo in; sleep 100'], { stdout: out.path, stderr: fifo('err', 'read').path });
    expect(await state(task, 'e1')).toMatchObject({ id: 'e1', status: Status.CREATED, pid: 0 });
    const { pid } = await task.call(TaskService.start, { execId: 'e1' });
    await poll('output', () => out.text === 'in\n');
    const { processes } = await task.call(TaskService.pids, {});
    const details = processes.find((each) => each.pid === pid)?.info;
    expect(details?.typeUrl).toBe('containerd.runc.v1.ProcessDetails');
    expect(ProcessDetails.decode(details?.value ?? Buffer.alloc(0)).execId).toBe('e1');
    expect(processes.map((each) => each.pid)).toContain(initPid);
    await task.call(TaskService.kill, { execId: 'e1', signal: 15 });
    expect((await wait(task, 'e1')).exitStatus).toBe(143);
    expect(await remove(task, 'e1')).toMatchObject({ pid, exitStatus: 143 });
    await expect(state(task, 'e1')).rejects.toThrow('process does not exist e1: not found');
    await bench.host.waitEvent('/tasks/exit');

    expect(bench.host.topics(task.id).slice(2)).toEqual(['/tasks/exec-added', '/tasks/exec-started', '/tasks/exit']);
    expect(bench.host.events.at(-1)?.payload).toMatchObject({ id: 'e1', containerId: task.id, pid, exitStatus: 143 });
  });

  test('an exec gets a terminal of its own', async () => {
    const out = fifo('exec-out', 'read');
    const task = await open(['sleep', '100']);
    await task.run();
    await task.exec('e1', ['sh', '-c', 'tty; stty size; sleep 100'], {
      terminal: true,
      stdout: out.path,
      process: { consoleSize: { width: 80, height: 24 } },
    });
    await task.call(TaskService.start, { execId: 'e1' });
    await poll('name of the terminal', () => /\/dev\/pts\/\d+\r\n/.test(out.text));
    await task.call(TaskService.resizePty, { execId: 'e1', width: 70, height: 20 });
    await task.call(TaskService.kill, { execId: 'e1', signal: 9 });
    expect((await wait(task, 'e1')).exitStatus).toBe(137);
    await remove(task, 'e1');

    await poll('end of output', () => out.hasEnded);
  });

  test('an exec can be added and run before init is started', async () => {
    const task = await open(['sleep', '100']);
    await task.create();
    await task.exec('e1', ['sh', '-c', 'exit 5']);
    await task.call(TaskService.start, { execId: 'e1' });

    expect((await wait(task, 'e1')).exitStatus).toBe(5);
    expect(await state(task)).toMatchObject({ status: Status.CREATED });
  });

  test('the exit of init comes after those of its execs', async () => {
    const task = await open(['sleep', '100']);
    await task.run();
    for (const execId of ['e1', 'e2', 'e3']) {
      await task.exec(execId, ['sleep', '100']);
      await task.call(TaskService.start, { execId });
    }
    await task.kill(9);
    await wait(task);
    await bench.host.waitEvent('/tasks/exit', (payload) => payload['id'] === task.id);
    const exits = await poll('all exits', () => {
      const ids = bench.host.events.filter(({ topic }) => topic === '/tasks/exit').map(({ payload }) => payload['id']);
      return ids.length === 4 && ids;
    });

    // containerd 1.6 does not hold the exit of init back; later versions do, and so do we.
    if (bench.isOurs) expect(exits.at(-1)).toBe(task.id);
    expect([...exits].sort()).toEqual(['e1', 'e2', 'e3', task.id].sort());
  });

  test('an exec that cannot start fails with the words of the runtime and can be deleted', async () => {
    const task = await open(['sleep', '100']);
    await task.run();
    await task.exec('e1', ['/nope']);
    await expect(task.call(TaskService.start, { execId: 'e1' })).rejects.toMatchObject({
      kind: 'unknown',
      message: bench.says(
        /^OCI runtime exec failed: exec failed: unable to start container process: exec: "\/nope": stat \/nope: no such file or directory/,
        /^OCI runtime exec failed: executable file `\/nope` not found/,
      ),
    });
    expect(await state(task, 'e1')).toMatchObject({ status: Status.CREATED, pid: 0 });
    expect(await wait(task, 'e1')).toMatchObject({ exitStatus: 0 });

    expect(await remove(task, 'e1')).toMatchObject({ exitStatus: 0 });
  });
}
