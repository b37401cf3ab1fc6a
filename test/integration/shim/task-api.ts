// The Task API of a shim, over ttrpc, with real containers.

import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ProcessDetails } from '../../../proto/generated/containerd.runc.v1';
import { TaskService } from '../../../proto/generated/containerd.task.v2';
import { Status } from '../../../proto/generated/containerd.v1.types';
import { Metrics } from '../../../proto/generated/io.containerd.cgroups.v1';
import { GO_ZERO_TIME } from '../../../proto/time';
import { describeUnless } from '../../setup/needs';
import { Fifo, Host, isAlive, makeRootfs, makeSpec, OUR_SHIM, poll, type Task } from './harness';
import { isCrun, makeCrun, type Subject } from './subjects';

let rootfs: string;
let host: Host;

/** Every case on every subject; to be called once in a file. */
export function taskApiSuite(subjects: readonly Subject[]): void {
  let removeCrun: () => void;

  beforeAll(() => {
    rootfs = makeRootfs();
    removeCrun = makeCrun();
  });

  afterAll(() => {
    rmSync(rootfs, { recursive: true, force: true });
    removeCrun();
  });

  for (const subject of subjects)
    describeUnless(subject.missing)(`Task API of ${subject.name}`, () => taskApi(subject));
}

function taskApi(subject: Subject): void {
  const isOurs = subject.program === OUR_SHIM;
  const says = (runc: RegExp, crun: RegExp) => expect.stringMatching(isCrun(subject) ? crun : runc) as string;
  let counter = 0;

  beforeEach(async () => {
    host = await Host.open(subject.program, rootfs, subject.runtime);
  });

  afterEach(async () => {
    await host.close();
  });

  async function open(args: readonly string[], change?: Parameters<typeof makeSpec>[1]): Promise<Task> {
    const id = `t${counter++}`;
    return await host.start(id, host.makeBundle(id, makeSpec(args, change)));
  }

  const fifo = (name: string, mode: 'read' | 'write') => new Fifo(join(host.directory, name), mode);
  const state = (task: Task, execId = '') => task.call(TaskService.state, { execId });
  const wait = (task: Task, execId = '') => task.call(TaskService.wait, { execId });
  const remove = (task: Task, execId = '') => task.call(TaskService.delete, { execId });

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
    await host.waitEvent('/tasks/delete');

    expect(host.topics(task.id)).toEqual(['/tasks/create', '/tasks/start', '/tasks/exit', '/tasks/delete']);
    expect(host.events.find(({ topic }) => topic === '/tasks/exit')?.payload).toMatchObject({
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
    const exit = await host.waitEvent('/tasks/exit');
    const deleted = await host.waitEvent('/tasks/delete');

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
    await host.waitEvent('/tasks/delete');
  });

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
    const path = join(host.directory, 'logs/out.log');
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
    await host.waitEvent('/tasks/exit');

    expect(host.topics(task.id).slice(2)).toEqual(['/tasks/exec-added', '/tasks/exec-started', '/tasks/exit']);
    expect(host.events.at(-1)?.payload).toMatchObject({ id: 'e1', containerId: task.id, pid, exitStatus: 143 });
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
    await host.waitEvent('/tasks/exit', (payload) => payload['id'] === task.id);
    const exits = await poll('all exits', () => {
      const ids = host.events.filter(({ topic }) => topic === '/tasks/exit').map(({ payload }) => payload['id']);
      return ids.length === 4 && ids;
    });

    // containerd 1.6 does not hold the exit of init back; later versions do, and so do we.
    if (isOurs) expect(exits.at(-1)).toBe(task.id);
    expect([...exits].sort()).toEqual(['e1', 'e2', 'e3', task.id].sort());
  });

  test('without a pid namespace of its own, everything in the container dies with init', async () => {
    const out = fifo('out', 'read');
    const task = await open(['sh', '-c', 'sleep 1000 & echo $!; sleep 0.2; exit 0'], (spec) => {
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'pid');
    });
    await task.run({ stdout: out.path, stderr: fifo('err', 'read').path });
    await wait(task);
    const pid = Number(out.text.trim());
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
    await host.waitEvent('/tasks/exit');
    expect(host.topics(task.id)).toEqual(
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
    await host.waitEvent('/tasks/exit');
    const topics = host.topics(task.id);

    // The Go shim learns of it by an event of its own, which may come after the exit.
    if (!isOurs) return;
    expect(topics).toContain('/tasks/oom');
    expect(topics.indexOf('/tasks/oom')).toBeLessThan(topics.indexOf('/tasks/exit'));
  });

  test('a command that is not there fails with the words of the runtime and leaves nothing behind', async () => {
    const task = await open(['/nope']);
    await expect(task.create()).rejects.toMatchObject({
      kind: 'unknown',
      message: says(
        /^OCI runtime create failed: runc create failed: unable to start container process: (error during container init: )?exec: "\/nope": stat \/nope: no such file or directory/,
        /^OCI runtime create failed: executable file `\/nope` not found/,
      ),
    });
    await expect(remove(task)).rejects.toThrow('container not created: not found');

    expect(host.topics(task.id)).toEqual([]);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(task.bundle);
  });

  test('an exec that cannot start fails with the words of the runtime and can be deleted', async () => {
    const task = await open(['sleep', '100']);
    await task.run();
    await task.exec('e1', ['/nope']);
    await expect(task.call(TaskService.start, { execId: 'e1' })).rejects.toMatchObject({
      kind: 'unknown',
      message: says(
        /^OCI runtime exec failed: exec failed: unable to start container process: exec: "\/nope": stat \/nope: no such file or directory/,
        /^OCI runtime exec failed: executable file `\/nope` not found/,
      ),
    });
    expect(await state(task, 'e1')).toMatchObject({ status: Status.CREATED, pid: 0 });
    expect(await wait(task, 'e1')).toMatchObject({ exitStatus: 0 });

    expect(await remove(task, 'e1')).toMatchObject({ exitStatus: 0 });
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
    const { status, stdout } = host.run(task.id, task.bundle, 'delete');
    expect(status).toBe(0);
    const response = TaskService.delete.responseType.decode(stdout);
    expect(response).toMatchObject({ pid, exitStatus: 137 });

    await poll('the process to be gone', () => !isAlive(pid));
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(task.bundle);
  });

  test('events that the daemon missed come when it is back', async () => {
    const task = await open(['sleep', '100']);
    await task.run();
    await host.waitEvent('/tasks/start');
    await host.stopListening();
    await task.kill(9);
    await wait(task);
    await host.listen();

    await host.waitEvent('/tasks/exit');
  });
}
