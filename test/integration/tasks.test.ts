// The Tasks service on real processes, with every shim that can be had.

import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Status } from '../../proto/generated/containerd.v1.types';
import { tryRemoveCgroup } from '../setup/leftovers';
import { testUnless } from '../setup/needs';
import { SHIMS } from './task-shims';
import { TestDaemon } from './tasks-daemon';

const GO_ZERO_SECONDS = -62135596800n;
/** Within 5 s is what is promised; a sync to a disk that others keep busy may take that long alone. */
const SOON_MS = 30_000;

describe.each(SHIMS)('Tasks with $name', ({ config, missing }) => {
  const there = testUnless(missing);
  let daemon: TestDaemon;

  beforeAll(async () => {
    daemon = await TestDaemon.start(config);
  });

  afterAll(async () => {
    await daemon?.stop();
  });

  async function created(id: string, args: readonly string[]): Promise<number> {
    await daemon.container(id, args);
    return (await daemon.tasks.create({ containerId: id })).pid;
  }

  there('run: events come in order and the exit status is true', async () => {
    const recorder = daemon.subscribe();
    const pid = await created('life', ['/bin/sh', '-c', 'exit 7']);

    const waiting = daemon.tasks.wait({ containerId: 'life' });
    const started = await daemon.tasks.start({ containerId: 'life' });
    const exit = await waiting;
    const deleted = await daemon.tasks.delete({ containerId: 'life' });
    await daemon.until(() => recorder.topics('life').includes('/tasks/delete'));

    expect(started.pid).toBe(pid);
    expect(exit.exitStatus).toBe(7);
    expect(deleted).toMatchObject({ exitStatus: 7, pid, exitedAt: exit.exitedAt });
    expect(recorder.topics('life')).toEqual(['/tasks/create', '/tasks/start', '/tasks/exit', '/tasks/delete']);
    recorder.close();
  });

  there('a task that was never started has no exit when it is deleted', async () => {
    const pid = await created('never', ['/bin/sleep', '100']);
    const deleted = await daemon.tasks.delete({ containerId: 'never' });

    expect(deleted).toMatchObject({ pid, exitStatus: 0, exitedAt: { seconds: GO_ZERO_SECONDS } });
    await expect(daemon.tasks.get({ containerId: 'never' })).rejects.toMatchObject({ code: 5 });
    const { pid: again } = await daemon.tasks.create({ containerId: 'never' });
    await daemon.tasks.kill({ containerId: 'never', signal: 9 });
    await daemon.tasks.wait({ containerId: 'never' });

    expect(await daemon.tasks.delete({ containerId: 'never' })).toMatchObject({ pid: again, exitStatus: 137 });
  });

  there('Get and List answer the states', async () => {
    await created('states', ['/bin/sleep', '100']);
    const first = await daemon.tasks.get({ containerId: 'states' });
    await daemon.tasks.start({ containerId: 'states' });
    const second = await daemon.tasks.list({});
    await daemon.tasks.pause({ containerId: 'states' });
    const third = await daemon.tasks.get({ containerId: 'states' });
    await daemon.tasks.resume({ containerId: 'states' });
    await daemon.tasks.kill({ containerId: 'states', signal: 9 });
    await daemon.tasks.wait({ containerId: 'states' });
    const last = await daemon.tasks.get({ containerId: 'states' });

    expect(first.process).toMatchObject({ id: 'states', containerId: '', status: Status.CREATED });
    expect(first.process?.exitedAt?.seconds).toBe(GO_ZERO_SECONDS);
    expect(second.tasks.find(({ id }) => id === 'states')?.status).toBe(Status.RUNNING);
    expect(third.process?.status).toBe(Status.PAUSED);
    expect(last.process).toMatchObject({ status: Status.STOPPED, exitStatus: 137 });
    await daemon.destroy('states');
  });

  there('exec: added, started, exited, deleted', async () => {
    const recorder = daemon.subscribe();
    await created('exec', ['/bin/sleep', '100']);
    await daemon.tasks.start({ containerId: 'exec' });
    const key = { containerId: 'exec', execId: 'e1' };

    await daemon.tasks.exec({ ...key, spec: daemon.process(['/bin/sh', '-c', 'exit 3']) });
    const waiting = daemon.tasks.wait(key);
    await daemon.tasks.start(key);
    const exit = await waiting;
    const deleted = await daemon.tasks.deleteProcess(key);
    await daemon.until(() => recorder.topics('exec').length === 5);

    expect(exit.exitStatus).toBe(3);
    expect(deleted).toMatchObject({ id: 'e1', exitStatus: 3 });
    expect(recorder.topics('exec').slice(2)).toEqual(['/tasks/exec-added', '/tasks/exec-started', '/tasks/exit']);
    await expect(daemon.tasks.get(key)).rejects.toMatchObject({ code: 5 });
    recorder.close();
    await daemon.destroy('exec');
  });

  there('many waiters get the same answer, also after the exit', async () => {
    await created('waiters', ['/bin/sh', '-c', 'exit 5']);
    const waiting = Array.from({ length: 10 }, () => daemon.tasks.wait({ containerId: 'waiters' }));

    await daemon.tasks.start({ containerId: 'waiters' });
    const exits = await Promise.all(waiting);
    const late = await daemon.tasks.wait({ containerId: 'waiters' });

    expect(new Set([...exits, late].map(({ exitStatus }) => exitStatus))).toEqual(new Set([5]));
    expect(new Set([...exits, late].map(({ exitedAt }) => exitedAt?.nanos)).size).toBe(1);
    await daemon.destroy('waiters');
  });

  there('errors have the code and the words of containerd', async () => {
    const { tasks } = daemon;
    const expected = (code: number, details: string | RegExp) => ({
      code,
      details: typeof details === 'string' ? details : expect.stringMatching(details),
    });
    await expect(tasks.get({ containerId: 'no' })).rejects.toMatchObject(
      expected(5, 'container "no" in namespace "test": not found'),
    );
    await daemon.container('words', ['/bin/sleep', '100']);
    await expect(tasks.kill({ containerId: 'words', signal: 9 })).rejects.toMatchObject(
      expected(5, 'task words not found'),
    );
    await tasks.create({ containerId: 'words' });
    await expect(tasks.create({ containerId: 'words' })).rejects.toMatchObject(
      expected(6, 'task words: already exists'),
    );
    await expect(tasks.get({ containerId: 'words', execId: 'x' })).rejects.toMatchObject(
      expected(5, 'process does not exist x: not found'),
    );
    await tasks.start({ containerId: 'words' });
    await expect(tasks.delete({ containerId: 'words' })).rejects.toMatchObject(
      expected(2, 'failed to delete task: cannot delete a running process: unknown'),
    );
    await tasks.kill({ containerId: 'words', signal: 9 });
    await tasks.wait({ containerId: 'words' });
    await expect(tasks.kill({ containerId: 'words', signal: 9 })).rejects.toMatchObject(
      expected(5, 'process already finished: not found'),
    );
    await daemon.destroy('words');
  });

  there('a Create that fails leaves nothing behind', async () => {
    const recorder = daemon.subscribe();
    await daemon.container('bad', ['/nope']);

    await expect(daemon.tasks.create({ containerId: 'bad' })).rejects.toMatchObject({
      code: 2,
      details: expect.stringMatching(
        /^failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: .*exec: "\/nope": stat \/nope: no such file or directory: unknown$/,
      ),
    });

    await expect(daemon.tasks.get({ containerId: 'bad' })).rejects.toMatchObject({ code: 5 });
    expect(recorder.topics('bad')).toEqual([]);
    await daemon.untilClean('bad');
    recorder.close();
    await daemon.containers.delete({ id: 'bad' });
  });

  there('a Create that finds its cgroup in use leaves those in it alone', async () => {
    const cgroup = daemon.makeCgroup('taken');
    const other = spawn('sleep', ['1000']);
    try {
      writeFileSync(join(cgroup, 'cgroup.procs'), `${other.pid}`);
      await daemon.container('taken', ['/bin/true']);

      const made = await daemon.tasks.create({ containerId: 'taken' }).then(
        () => 'made',
        ({ details }: { details: string }) => details,
      );

      // runc before 1.2 only warns of it.
      if (!daemon.isForeign) expect(made).toContain("container's cgroup is not empty: 1 process(es) found");
      expect(other.signalCode).toBeNull();
      expect(readFileSync(join(cgroup, 'cgroup.procs'), 'utf8')).toContain(`${other.pid}\n`);
    } finally {
      other.kill('SIGKILL');
      await daemon.until(() => other.signalCode !== null);
      await daemon.destroy('taken');
      await daemon.until(() => tryRemoveCgroup(cgroup));
    }
  });

  there('a shim that dies: exit 137 and delete soon, nothing left, then NOT_FOUND', async () => {
    const recorder = daemon.subscribe();
    await created('dead', ['/bin/sleep', '100']);
    await daemon.tasks.start({ containerId: 'dead' });
    const waiting = daemon.tasks.wait({ containerId: 'dead' });

    process.kill(daemon.shimPid('dead'), 'SIGKILL');
    const exit = await waiting;
    await daemon.until(() => recorder.topics('dead').includes('/tasks/delete'), SOON_MS);

    expect(exit.exitStatus).toBe(137);
    expect(recorder.topics('dead')).toEqual(['/tasks/create', '/tasks/start', '/tasks/exit', '/tasks/delete']);
    await expect(daemon.tasks.get({ containerId: 'dead' })).rejects.toMatchObject({
      code: 5,
      details: 'task dead not found',
    });
    await daemon.untilClean('dead', SOON_MS);
    recorder.close();
    await daemon.containers.delete({ id: 'dead' });
  });

  there('a stopped shim delays no call but those on its own task', async () => {
    await created('stopped', ['/bin/sleep', '100']);
    await daemon.tasks.start({ containerId: 'stopped' });
    const pid = daemon.shimPid('stopped');
    process.kill(pid, 'SIGSTOP');
    try {
      // Whatever waited for the shim would wait until it goes on, below.
      const { tasks } = await daemon.tasks.list({});
      await daemon.tasks.get({ containerId: 'stopped' });
      await created('other', ['/bin/true']);
      const waiting = daemon.tasks.wait({ containerId: 'other' });
      await daemon.tasks.start({ containerId: 'other' });
      await waiting;

      expect(tasks.find(({ id }) => id === 'stopped')?.status).toBe(Status.RUNNING);
      await expect(daemon.tasks.kill({ containerId: 'stopped', signal: 9 }, { timeoutMs: 300 })).rejects.toMatchObject({
        code: 4,
      });
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await daemon.destroy('stopped');
    await daemon.destroy('other');
  });

  there('after everything is deleted nothing is left', async () => {
    await expect(daemon.untilClean()).resolves.toBeUndefined();
  });
});
