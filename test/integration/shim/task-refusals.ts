// What a shim refuses, and in whose words.

import { readFileSync } from 'node:fs';
import { TaskService } from '../../../proto/generated/containerd.task.v2';
import type { TaskBench } from './task-bench';

export function taskRefusals(bench: TaskBench): void {
  const { open, remove, state, wait } = bench;

  test('a command that is not there fails with the words of the runtime and leaves nothing behind', async () => {
    const task = await open(['/nope']);
    await expect(task.create()).rejects.toMatchObject({
      kind: 'unknown',
      message: bench.says(
        /^OCI runtime create failed: runc create failed: unable to start container process: (error during container init: )?exec: "\/nope": stat \/nope: no such file or directory/,
        /^OCI runtime create failed: executable file `\/nope` not found/,
      ),
    });
    await expect(remove(task)).rejects.toThrow('container not created: not found');

    expect(bench.host.topics(task.id)).toEqual([]);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(task.bundle);
  });

  test('wrong requests are refused in the words of runc', async () => {
    const task = await open(['sleep', '100']);
    await expect(state(task)).rejects.toThrow('container not created: not found');
    await expect(task.create({ stdout: 'foo:///x' })).rejects.toThrow(
      'failed to create init process I/O: unknown STDIO scheme foo',
    );
    await expect(task.create({ options: { typeUrl: 'foo.Bar', value: Buffer.alloc(1) } })).rejects.toMatchObject({
      kind: 'unknown',
    });
    await task.run();
    await task.exec('e1', ['sleep', '100']);
    await expect(task.exec('e1', ['true'])).rejects.toThrow('id e1: already exists');
    await expect(task.call(TaskService.kill, { execId: 'e1', signal: 9 })).rejects.toThrow(
      'process not created: failed precondition',
    );
    await expect(task.call(TaskService.start, {})).rejects.toThrow('cannot start a running process');
    await expect(remove(task)).rejects.toThrow('cannot delete a running process');
    await expect(task.call(TaskService.resume, {})).rejects.toThrow('cannot resume a running process');
    await expect(task.call(TaskService.kill, { signal: 99 })).rejects.toThrow('unknown error after kill: ');
    await task.kill(9);
    await wait(task);

    await expect(task.kill(9)).rejects.toThrow('process already finished: not found');
    await expect(task.exec('e2', ['true'])).rejects.toThrow('cannot exec in a stopped state');
    expect(await task.call(TaskService.kill, { signal: 9, all: true })).toEqual({});
  });
}
