// What survives the daemon: tasks, their true exits and the events that subscribers missed.

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as events from '../../proto/generated/containerd.events';
import type { Envelope } from '../../proto/generated/containerd.types';
import { Status } from '../../proto/generated/containerd.v1.types';
import { testUnless } from '../setup/needs';
import { SHIMS } from './task-shims';
import { TestDaemon } from './tasks-daemon';

describe.each(SHIMS)('restart with $name', ({ config, missing }) => {
  const there = testUnless(missing);
  let daemon: TestDaemon;

  beforeAll(async () => {
    daemon = await TestDaemon.start(config);
  });

  afterAll(async () => {
    await daemon?.stop();
  });

  async function running(id: string, args: readonly string[] = ['/bin/sleep', '100']): Promise<void> {
    await daemon.container(id, args);
    await daemon.tasks.create({ containerId: id });
    await daemon.tasks.start({ containerId: id });
  }

  /** A command that ends with this status when the test says so, and not before. */
  function endsWhenTold(id: string, status: number): string[] {
    return ['/bin/sh', '-c', `until test -e /tmp/${id}; do sleep 0.05; done; exit ${status}`];
  }

  function tellToEnd(id: string): void {
    writeFileSync(join(daemon.rootfs, 'tmp', id), '');
  }

  function exitsOf(list: readonly Envelope[], id: string) {
    return list
      .filter(({ topic }) => topic === '/tasks/exit')
      .map(({ event }) => events.TaskExit.decode(event?.value ?? Buffer.alloc(0)))
      .filter(({ containerId }) => containerId === id);
  }

  there('a container outlives SIGKILL of the daemon and can be worked with again', async () => {
    await running('alive');
    const before = await daemon.tasks.get({ containerId: 'alive' });

    await daemon.kill();
    await daemon.boot();
    const after = await daemon.tasks.get({ containerId: 'alive' });
    await daemon.tasks.exec({ containerId: 'alive', execId: 'e', spec: daemon.process(['/bin/true']) });
    const waiting = daemon.tasks.wait({ containerId: 'alive', execId: 'e' });
    await daemon.tasks.start({ containerId: 'alive', execId: 'e' });

    expect(after).toEqual(before);
    expect((await waiting).exitStatus).toBe(0);
    await daemon.destroy('alive');
  });

  there('an exit while the daemon is away is told with its true status', async () => {
    await running('away', endsWhenTold('away', 9));
    await daemon.tasks.exec({ containerId: 'away', execId: 'e', spec: daemon.process(['/bin/sh', '-c', 'exit 4']) });
    const { process: init } = await daemon.tasks.get({ containerId: 'away' });

    await daemon.kill();
    tellToEnd('away');
    await daemon.until(() => !existsSync(`/proc/${init?.pid}`));
    await daemon.boot();
    const exit = await daemon.tasks.wait({ containerId: 'away' });
    const recorder = daemon.subscribe();
    await daemon.until(() => exitsOf(recorder.events, 'away').length > 0);
    const { process: stopped } = await daemon.tasks.get({ containerId: 'away' });
    const deleted = await daemon.tasks.delete({ containerId: 'away' });

    expect(exit.exitStatus).toBe(9);
    expect(stopped).toMatchObject({ status: Status.STOPPED, exitStatus: 9 });
    expect(deleted).toMatchObject({ exitStatus: 9, pid: init?.pid });
    expect(exitsOf(recorder.events, 'away')).toEqual([
      expect.objectContaining({ id: 'away', exitStatus: 9, pid: init?.pid, exitedAt: exit.exitedAt }),
    ]);
    recorder.close();
    await daemon.destroy('away');
  });

  there('a subscriber that wants other events leaves the held ones to the next', async () => {
    await running('held', endsWhenTold('held', 6));
    const { process: init } = await daemon.tasks.get({ containerId: 'held' });

    await daemon.kill();
    tellToEnd('held');
    await daemon.until(() => !existsSync(`/proc/${init?.pid}`));
    await daemon.boot();
    await daemon.tasks.wait({ containerId: 'held' });
    const other = daemon.subscribe(['namespace==elsewhere']);
    await daemon.tasks.list({});
    const wanted = daemon.subscribe(['namespace==test,topic~=|^/tasks/|']);
    await daemon.until(() => exitsOf(wanted.events, 'held').length > 0);

    expect(other.events).toEqual([]);
    other.close();
    wanted.close();
    await daemon.destroy('held');
  });

  there('a shim that died while the daemon was away: exit, delete, nothing left', async () => {
    await running('gone');
    const shim = daemon.shimPid('gone');

    await daemon.kill();
    process.kill(shim, 'SIGKILL');
    await daemon.boot();
    const recorder = daemon.subscribe();
    await daemon.until(() => recorder.topics('gone').includes('/tasks/delete'));

    expect(recorder.topics('gone')).toEqual(['/tasks/exit', '/tasks/delete']);
    expect(exitsOf(recorder.events, 'gone')[0]?.exitStatus).toBe(137);
    await daemon.untilClean('gone');
    await expect(daemon.tasks.get({ containerId: 'gone' })).rejects.toMatchObject({ details: 'task gone not found' });
    recorder.close();
    await daemon.containers.delete({ id: 'gone' });
  });

  there('a stopped shim does not delay start-up and is adopted when it goes on', async () => {
    await running('frozen');
    const shim = daemon.shimPid('frozen');

    await daemon.kill();
    process.kill(shim, 'SIGSTOP');
    try {
      // Whatever waited for the shim would wait until it goes on, below.
      await daemon.boot();
      const { tasks } = await daemon.tasks.list({});
      expect(tasks).toEqual([expect.objectContaining({ id: 'frozen', status: Status.RUNNING })]);
      await running('fresh', ['/bin/true']);
      await daemon.tasks.wait({ containerId: 'fresh' });
      await daemon.destroy('fresh');
    } finally {
      process.kill(shim, 'SIGCONT');
    }
    await daemon.tasks.kill({ containerId: 'frozen', signal: 9 });
    const exit = await daemon.tasks.wait({ containerId: 'frozen' });

    expect(exit.exitStatus).toBe(137);
    await daemon.destroy('frozen');
  });

  there('a daemon killed at any moment of Create leaves nothing behind', async () => {
    for (const delayMs of [1, 10, 25, 40, 60, 80]) {
      await daemon.container('half', ['/bin/sleep', '100']);
      const creating = daemon.tasks.create({ containerId: 'half' }).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      await daemon.kill();
      const acknowledged = await creating;
      await daemon.boot();

      if (acknowledged !== undefined) expect((await daemon.tasks.list({})).tasks).toHaveLength(1);
      await daemon.destroy('half');
      await daemon.untilClean();
    }
  });

  there('SIGTERM leaves the containers running', async () => {
    await running('term');
    await daemon.kill('SIGTERM');

    await daemon.boot();

    expect((await daemon.tasks.get({ containerId: 'term' })).process?.status).toBe(Status.RUNNING);
    await daemon.destroy('term');
    await daemon.untilClean();
  });
});
