// Where the input and output of a task go: fifos, files and terminals.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TaskService } from '../../../proto/generated/containerd.task.v2';
import { poll } from './harness';
import type { TaskBench } from './task-bench';

export function taskStreams(bench: TaskBench): void {
  const { open, fifo, remove, state, wait } = bench;

  test('output and input go through fifos', async () => {
    const [input, out, err] = [fifo('in', 'write'), fifo('out', 'read'), fifo('err', 'read')];
    const task = await open(['sh', '-c', 'echo to stderr >&2; exec cat']);
    await task.run({ stdin: input.path, stdout: out.path, stderr: err.path });
    input.write('hello\n');
    await poll('output', () => out.text === 'hello\n' && err.text === 'to stderr\n');
    input.close();
    await task.call(TaskService.closeIO, { stdin: true });
    expect((await wait(task)).exitStatus).toBe(0);
    await remove(task);

    await poll('end of output', () => out.hasEnded && err.hasEnded);
  });

  test('a megabyte of output arrives whole when the process ends at once', async () => {
    const out = fifo('out', 'read');
    const task = await open(['dd', 'if=/dev/zero', 'bs=4096', 'count=256']);
    await task.run({ stdout: out.path, stderr: fifo('err', 'read').path });
    await wait(task);
    await remove(task);

    await poll('output', () => out.bytes === 1 << 20);
  });

  test('a program without privileges can open /dev/stdout again', async () => {
    const out = fifo('out', 'read');
    const task = await open(['sh', '-c', 'echo first; echo again > /proc/self/fd/1'], (spec) => {
      spec.process.user = { uid: 1000, gid: 1000 };
    });
    await task.run({ stdout: out.path, stderr: fifo('err', 'read').path });
    expect((await wait(task)).exitStatus).toBe(0);
    await remove(task);

    await poll('output', () => out.text === 'first\nagain\n');
  });

  test('file:// appends stdout and stderr to a file that the container cannot truncate', async () => {
    const path = join(bench.host.directory, 'logs/out.log');
    const task = await open(['sh', '-c', 'echo one; echo two > /proc/self/fd/1; echo three >&2']);
    await task.run({ stdout: `file://${path}`, stderr: `file://${path}` });
    await wait(task);
    await remove(task);

    expect(readFileSync(path, 'utf8').split('\n').sort()).toEqual(['', 'one', 'three', 'two']);
  });

  test('a terminal echoes, has a size that can change, and ends with the process', async () => {
    const [input, out] = [fifo('in', 'write'), fifo('out', 'read')];
    const task = await open(['sh'], (spec) => {
      spec.process.terminal = true;
    });
    await task.run({ terminal: true, stdin: input.path, stdout: out.path });
    await task.call(TaskService.resizePty, { width: 123, height: 45 });
    input.write('stty size; tty\n');
    await poll('size and name', () => /45 123\r\n\/dev\/(pts\/0|console)/.test(out.text));
    input.write('exit 3\n');
    expect((await wait(task)).exitStatus).toBe(3);
    expect(await state(task)).toMatchObject({ terminal: true, stdin: input.path, stdout: out.path });
    await remove(task);

    await poll('end of output', () => out.hasEnded);
  });
}
