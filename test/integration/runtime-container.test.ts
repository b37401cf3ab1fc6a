// Running containers of gantry's library: signals, limits, out-of-memory notices, mounts, and what is left when the process
// that made the container is gone.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlreadyExists, isNotFound } from '../../proto/errors';
import { Metrics } from '../../proto/generated/io.containerd.cgroups.v1';
import { Metrics as MetricsV2 } from '../../proto/generated/io.containerd.cgroups.v2';
import { Container, explain } from '../../runtime-native/index';
import { describeUnless } from '../setup/needs';
import { cgroupsOf, type SpecChange, useRuntime } from '../suites/runtime-bench';
import { missingForContainers, mountsBelow } from '../suites/runtime-bundle';
import { waitForExit } from '../suites/runtime-library';

const DEADLINE_MS = 60_000;

describeUnless(missingForContainers())('Container', () => {
  const runtime = useRuntime();

  test('create() leaves a process that start() lets go on', async () => {
    const output = runtime.newOutput();
    const container = await runtime.create({ ...runtime.optionsFor(['echo', 'now']), io: output.io });
    expect(output.read().stdout).toBe('');

    const exit = waitForExit(container.pid);
    await container.start();

    expect((await exit).code).toBe(0);
    expect(output.read().stdout).toBe('now\n');
    await expect(container.start()).rejects.toThrow('cannot start a container that has stopped');
  });

  test('explain() tells what create() would do, and does nothing', () => {
    const plan = explain(runtime.optionsFor(['echo', 'hello']));

    expect(plan.operations.at(-1)).toMatchObject({ op: 'execute', args: ['echo', 'hello'] });
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
  });

  test("noPivotRoot moves the root over the host's, noNewKeyring keeps the keyring", async () => {
    const output = runtime.newOutput();
    const options = runtime.optionsFor(['sh', '-c', 'ls / | tr "\\n" " "']);
    const container = await runtime.create({ ...options, io: output.io, noPivotRoot: true, noNewKeyring: true });
    const exit = waitForExit(container.pid);
    await container.start();

    expect((await exit).code).toBe(0);
    expect(output.read().stdout).toMatch(/^bad-format bin dev etc /);
  });

  test('create() refuses an id that exists', async () => {
    const container = await runtime.running();

    const again = Container.create({ ...runtime.optionsFor(['true']), id: container.id });

    expect(isAlreadyExists(await again.catch((error: unknown) => error))).toBe(true);
    expect(container.pids()).toContain(container.pid);
  });

  test('kill() signals the first process, and is not found when it has exited', async () => {
    const output = runtime.newOutput();
    const script = 'trap "exit 3" TERM; echo ready; while true; do sleep 0.05; done';
    const container = await runtime.create({ ...runtime.optionsFor(['sh', '-c', script]), io: output.io });
    await container.start();
    const exit = waitForExit(container.pid);
    await until(() => output.read().stdout !== '');
    container.kill(15, false);

    expect((await exit).code).toBe(3);
    expect(() => container.kill(15, false)).toThrow('process already finished');
    expect(isNotFound(catchError(() => container.kill(0, false)))).toBe(true);
  });

  test('kill() of all reaches processes outside of the pid namespace of the first', async () => {
    const container = await runtime.running(['sleep', '1000'], (spec) => {
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'pid');
    });
    const other = await container.exec({
      execId: 'other',
      process: { args: ['sleep', '1000'], cwd: '/', env: ['PATH=/bin'], user: { uid: 0, gid: 0 } },
      io: { stdin: -1, stdout: -1, stderr: -1 },
    });
    expect(container.pids().sort()).toEqual([container.pid, other.pid].sort());
    const exits = [waitForExit(container.pid), waitForExit(other.pid)];

    container.kill(9, true);

    expect((await Promise.all(exits)).map(({ code, signal }) => [code, signal])).toEqual([
      [137, 9],
      [137, 9],
    ]);
  });

  test('pause() stops all processes until resume()', async () => {
    const output = runtime.newOutput();
    const options = runtime.optionsFor(['sh', '-c', 'while true; do echo x; sleep 0.02; done']);
    const container = await runtime.create({ ...options, io: output.io });
    await container.start();
    await until(() => output.read().stdout.length > 4);
    await container.pause();
    const before = output.read().stdout.length;
    await sleep(150);
    expect(output.read().stdout.length).toBe(before);
    await expect(runtime.exec(container, ['true'])).rejects.toThrow('cannot exec in a paused container');
    expect(container.stats().value.length).toBeGreaterThan(0);

    container.resume();

    await until(() => output.read().stdout.length > before);
  });

  test('a paused container can be deleted', async () => {
    const container = await runtime.running();
    await container.pause();

    await container.delete();

    expect(container.pids()).toEqual([]);
  });

  test('update() changes limits and stats() shows them', async () => {
    const container = await runtime.running(['sleep', '1000'], (spec) => {
      spec.linux.resources = { ...spec.linux.resources, memory: { limit: 32 << 20 }, pids: { limit: 20 } } as never;
    });

    await container.update({
      memory: { limit: 48 << 20, swap: 96 << 20 },
      pids: { limit: 40 },
      cpu: { shares: 100, quota: 20000, period: 100000 },
    });

    expect(limitsOf(container)).toEqual({ memory: 48n << 20n, pids: { current: 1n, limit: 40n }, hasRun: true });
    // Version 2 takes a limit below what is in use, and ends processes.
    if (container.stats().typeUrl === MetricsV2.name) return;
    await expect(container.update({ memory: { limit: 4096 } })).rejects.toThrow(
      /unable to set memory limit to 4096 \(current usage: \d+/,
    );
  });

  test('onOom() hears that memory is short, and oomCount() counts the kills', async () => {
    const container = await runtime.create(
      runtime.optionsFor(['dd', 'if=/dev/zero', 'of=/dev/null', 'bs=64M', 'count=1'], (spec) => {
        spec.linux.resources = { ...spec.linux.resources, memory: { limit: 16 << 20, swap: 16 << 20 } } as never;
      }),
    );
    let heard = 0;
    container.onOom(() => heard++);
    const exit = waitForExit(container.pid);
    await container.start();

    expect((await exit).code).toBe(137);
    await until(() => heard > 0);
    expect(container.oomCount()).toBe(1);
  });

  test('load() finds a container of a process that is gone, and delete() ends it', async () => {
    const container = await runtime.running();
    const exit = waitForExit(container.pid);

    const loaded = Container.load(runtime.root, container.id);
    expect(loaded.pid).toBe(container.pid);
    expect(loaded.pids()).toEqual([container.pid]);
    await loaded.delete();

    expect((await exit).code).toBe(137);
    expect(() => Container.load(runtime.root, container.id)).toThrow(`container "${container.id}" does not exist`);
  });

  test('start() shows the program, not init, as soon as it has resolved', async () => {
    const container = await runtime.running(['sleep', '987']);

    expect(execFileSync('cat', [`/proc/${container.pid}/cmdline`], { encoding: 'utf8' })).toBe('sleep\x00987\x00');
  });

  describe('mount propagation', () => {
    const SYS_ADMIN = ['CAP_SYS_ADMIN'];
    const volume = () => join(runtime.bundle.path, 'volume');
    // A volume on a mount of its own that is shared, as the host's mounts are under systemd.
    beforeEach(() => {
      mkdirSync(join(volume(), 'place'), { recursive: true });
      execFileSync('mount', ['--bind', volume(), volume()]);
      execFileSync('mount', ['--make-shared', volume()]);
      mkdirSync(join(volume(), 'place'), { recursive: true });
    });
    afterEach(() => {
      execFileSync('sh', ['-c', `umount ${volume()}/place 2>/dev/null; umount ${volume()}`]);
    });
    const withVolume =
      (propagation: string): SpecChange =>
      (spec) => {
        spec.mounts.push({
          destination: '/mnt',
          type: 'bind',
          source: volume(),
          options: ['rbind', propagation],
        } as never);
        spec.process.capabilities = {
          ...spec.process.capabilities,
          bounding: SYS_ADMIN,
          effective: SYS_ADMIN,
          permitted: SYS_ADMIN,
        };
        if (propagation === 'rshared') spec.linux.rootfsPropagation = 'shared';
      };

    test('rshared brings mounts of the container to the host', async () => {
      const container = await runtime.running(['sleep', '1000'], withVolume('rshared'));

      expect(await runtime.exec(container, ['mount', '-t', 'tmpfs', 'x', '/mnt/place'])).toMatchObject({ code: 0 });

      expect(mountsBelow(join(volume(), 'place'))).not.toEqual([]);
    });

    test.each([
      ['rslave', 1],
      ['rprivate', 0],
    ])('%s: %i mounts of the host come into the container, none out of it', async (propagation, count) => {
      const container = await runtime.running(['sleep', '1000'], withVolume(propagation));
      expect(await runtime.exec(container, ['sh', '-c', 'mkdir /mnt/own && mount -t tmpfs x /mnt/own'])).toMatchObject({
        code: 0,
      });
      execFileSync('mount', ['-t', 'tmpfs', 'x', join(volume(), 'place')]);

      const { stdout } = await runtime.exec(container, ['sh', '-c', 'grep -c " /mnt/place " /proc/mounts']);

      expect(Number(stdout)).toBe(count);
      expect(mountsBelow(join(volume(), 'own'))).toEqual([]);
      execFileSync('rmdir', [join(volume(), 'own')]);
    });
  });

  test('processes that a container leaves in its cgroup end with it', async () => {
    const container = await runtime.running(['sh', '-c', 'sleep 1000 & sleep 1000 & exit 0'], (spec) => {
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'pid');
    });
    await waitForExit(container.pid);
    expect(container.pids().length).toBe(2);

    await container.delete();

    expect(container.pids()).toEqual([]);
  });

  test('cgroups that a container made below its own are removed', async () => {
    const container = await runtime.running(['sleep', '1000'], (spec) => {
      spec.mounts = spec.mounts.filter(({ type }) => type !== 'cgroup');
    });
    const own = cgroupsOf(runtime.bundle.name);
    for (const directory of own) mkdirSync(join(directory, 'inner/most'), { recursive: true });

    await container.delete();

    expect(own.filter((directory) => existsSync(directory))).toEqual([]);
  });
});

/** From the message of either cgroup version. */
function limitsOf(container: Container) {
  const { typeUrl, value } = container.stats();
  if (typeUrl === MetricsV2.name) {
    const { memory, pids, cpu } = MetricsV2.decode(value);
    return { memory: memory?.usageLimit, pids, hasRun: (cpu?.usageUsec ?? 0n) > 0n };
  }
  expect(typeUrl).toBe(Metrics.name);
  const { memory, pids, cpu } = Metrics.decode(value);
  return { memory: memory?.usage?.limit, pids, hasRun: (cpu?.usage?.total ?? 0n) > 0n };
}

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + DEADLINE_MS;
  while (!condition()) {
    if (Date.now() > end) throw new Error('condition did not come true in time');
    await sleep(5);
  }
}

function catchError(body: () => void): unknown {
  try {
    body();
  } catch (error) {
    return error;
  }
  return undefined;
}
