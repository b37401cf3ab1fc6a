// Running containers of gantry's library: exec, signals, terminals, limits, out-of-memory notices, and what is left when
// something fails or the process that made the container is gone.

import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlreadyExists, isNotFound } from '../../proto/errors';
import { Metrics } from '../../proto/generated/io.containerd.cgroups.v1';
import { Container, type CreateOptions, explain, setBlocking, setWindowSize } from '../../runtime-native/index';
import type { Spec } from '../../runtime-native/spec';
import {
  cannotRunContainers,
  type Mutable,
  makeBundle,
  makeSpec,
  mountsBelow,
  removeCgroupParents,
  type TestBundle,
} from '../suites/runtime-bundle';
import { collectExits, Output, waitForExit } from '../suites/runtime-library';

const reason = cannotRunContainers();
if (reason !== undefined) console.warn(`runtime containers skipped: ${reason}`);
const DEADLINE_MS = 10_000;

(reason === undefined ? describe : describe.skip)('Container', () => {
  let bundle: TestBundle;
  let root: string;
  let stop: () => void;
  let counter = 0;
  const containers: Container[] = [];
  const outputs: Output[] = [];

  beforeAll(() => {
    bundle = makeBundle();
    root = mkdtempSync(join(tmpdir(), 'gantry-runtime-root-'));
    stop = collectExits();
  });
  afterEach(async () => {
    for (const container of containers.splice(0)) await container.delete();
    for (const output of outputs.splice(0)) output.close();
    expect(readdirSync(root)).toEqual([]);
    expect(cgroupsOf(bundle.name)).toEqual([]);
    expect(mountsBelow(bundle.path)).toEqual([]);
  });
  afterAll(() => {
    stop();
    removeCgroupParents();
    bundle.remove();
    rmSync(root, { recursive: true, force: true });
  });

  const newOutput = () => {
    const output = new Output();
    outputs.push(output);
    return output;
  };
  const optionsFor = (args: readonly string[], change: (spec: Mutable<Spec>) => void = () => {}): CreateOptions => {
    const id = `${bundle.name}-c${++counter}`;
    const spec = makeSpec(bundle, `c${counter}`, args);
    change(spec);
    return { id, bundle: bundle.path, spec: spec as Spec, rootfs: bundle.rootfs, io: newOutput().io, root };
  };
  const create = async (options: CreateOptions) => {
    const container = await Container.create(options);
    containers.push(container);
    return container;
  };
  const running = async (args: readonly string[] = ['sleep', '1000'], change?: (spec: Mutable<Spec>) => void) => {
    const container = await create(optionsFor(args, change));
    await container.start();
    return container;
  };
  const exec = async (container: Container, args: readonly string[], change: object = {}) => {
    const output = newOutput();
    const process = { args, cwd: '/', env: ['PATH=/bin'], user: { uid: 0, gid: 0 }, ...change };
    const { pid } = await container.exec({ execId: 'e', process, io: output.io });
    const { code } = await waitForExit(pid);
    return { code, ...output.read() };
  };

  test('create() leaves a process that start() lets go on', async () => {
    const output = newOutput();
    const container = await create({ ...optionsFor(['echo', 'now']), io: output.io });
    expect(output.read().stdout).toBe('');

    const exit = waitForExit(container.pid);
    await container.start();

    expect((await exit).code).toBe(0);
    expect(output.read().stdout).toBe('now\n');
    await expect(container.start()).rejects.toThrow('cannot start a container that has stopped');
  });

  test('explain() tells what create() would do, and does nothing', () => {
    const plan = explain(optionsFor(['echo', 'hello']));

    expect(plan.operations.at(-1)).toMatchObject({ op: 'execute', args: ['echo', 'hello'] });
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
  });

  test("noPivotRoot moves the root over the host's, noNewKeyring keeps the keyring", async () => {
    const output = newOutput();
    const options = optionsFor(['sh', '-c', 'ls / | tr "\\n" " "']);
    const container = await create({ ...options, io: output.io, noPivotRoot: true, noNewKeyring: true });
    const exit = waitForExit(container.pid);
    await container.start();

    expect((await exit).code).toBe(0);
    expect(output.read().stdout).toMatch(/^bad-format bin dev etc /);
  });

  test('create() refuses an id that exists', async () => {
    const container = await running();

    const again = Container.create({ ...optionsFor(['true']), id: container.id });

    expect(isAlreadyExists(await again.catch((error: unknown) => error))).toBe(true);
    expect(container.pids()).toContain(container.pid);
  });

  test('exec() runs in the namespaces and cgroups of the container, without inheritable capabilities', async () => {
    const container = await running();

    const result = await exec(container, [
      'sh',
      '-c',
      'echo $$ >&2; hostname; grep CapInh /proc/self/status; cat /proc/self/cgroup',
    ]);

    expect(result.code).toBe(0);
    expect(result.stdout).toMatch(/^box\nCapInh:\s0{16}\n/);
    expect(result.stdout).toContain(`/gantry-runtime-test/${container.id}`);
    expect(Number(result.stderr)).toBeGreaterThan(1);
  });

  test('exec() tells in words of runc why it cannot run a program', async () => {
    const container = await running();
    const start = 'exec failed: unable to start container process: ';

    await expect(exec(container, ['/x'])).rejects.toThrow(`${start}exec: "/x": stat /x: no such file or directory`);
    await expect(exec(container, ['x'])).rejects.toThrow(`${start}exec: "x": executable file not found in $PATH`);
    expect(await exec(container, ['/bad-format'])).toMatchObject({
      code: 1,
      stderr: 'exec /bad-format: exec format error\n',
    });
    await expect(exec(container, ['true'], { cwd: '/none' })).rejects.toThrow(
      `${start}chdir to cwd ("/none") set in config.json failed: no such file or directory`,
    );
    await expect(exec(container, ['true'], { user: { uid: 2 ** 31, gid: 0 } })).rejects.toThrow('must be in range');
  });

  test('exec() in a container that has stopped fails', async () => {
    const container = await running();
    const exit = waitForExit(container.pid);
    container.kill(9, false);
    await exit;

    await expect(exec(container, ['true'])).rejects.toThrow('cannot exec in a stopped container');
  });

  test('kill() signals the first process, and is not found when it has exited', async () => {
    const container = await running(['sh', '-c', 'trap "exit 3" TERM; while true; do sleep 0.05; done']);
    const exit = waitForExit(container.pid);
    await sleep(100);
    container.kill(15, false);

    expect((await exit).code).toBe(3);
    expect(() => container.kill(15, false)).toThrow('process already finished');
    expect(isNotFound(catchError(() => container.kill(0, false)))).toBe(true);
  });

  test('kill() of all reaches processes outside of the pid namespace of the first', async () => {
    const container = await running(['sleep', '1000'], (spec) => {
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

  test("a terminal is the container's own, with the size that was asked for", async () => {
    const options = optionsFor(
      ['sh', '-c', 'stty size; tty; ls -l /dev/console; read line; echo got $line; stty size'],
      (spec) => {
        spec.process.consoleSize = { height: 33, width: 101 };
      },
    );
    const container = await create({ ...options, io: 'terminal' });
    const master = container.terminalFd ?? -1;
    const exit = waitForExit(container.pid);
    await container.start();
    let text = await readUntil(master, /console.*\n/s);
    setWindowSize(master, 10, 20);
    writeSync(master, 'hello\n');
    await exit;
    text += await readUntil(master, /10 20/);
    closeSync(master);

    expect(text).toMatch(/^33 101\r\n\/dev\/pts\/0\r\n/);
    expect(text).toMatch(/crw.*136,\s+0 .*\/dev\/console/);
    expect(text).toMatch(/got hello\r\n10 20/);
  });

  test('a terminal of an exec', async () => {
    const container = await running();
    const process = {
      args: ['sh', '-c', 'tty; test -t 0 && echo yes'],
      cwd: '/',
      env: ['PATH=/bin'],
      user: { uid: 0, gid: 0 },
    };
    const { pid, terminalFd = -1 } = await container.exec({ execId: 't', process, io: 'terminal' });
    await waitForExit(pid);
    const text = await readUntil(terminalFd, /yes/);
    closeSync(terminalFd);

    expect(text).toMatch(/\/dev\/pts\/0\r\nyes/);
  });

  test('pause() stops all processes until resume()', async () => {
    const output = newOutput();
    const options = optionsFor(['sh', '-c', 'while true; do echo x; sleep 0.02; done']);
    const container = await create({ ...options, io: output.io });
    await container.start();
    await until(() => output.read().stdout.length > 4);
    await container.pause();
    const before = output.read().stdout.length;
    await sleep(150);
    expect(output.read().stdout.length).toBe(before);
    await expect(exec(container, ['true'])).rejects.toThrow('cannot exec in a paused container');
    expect(container.stats().value.length).toBeGreaterThan(0);

    container.resume();

    await until(() => output.read().stdout.length > before);
  });

  test('a paused container can be deleted', async () => {
    const container = await running();
    await container.pause();

    await container.delete();

    expect(container.pids()).toEqual([]);
  });

  test('update() changes limits and stats() shows them', async () => {
    const container = await running(['sleep', '1000'], (spec) => {
      spec.linux.resources = { ...spec.linux.resources, memory: { limit: 32 << 20 }, pids: { limit: 20 } } as never;
    });

    container.update({
      memory: { limit: 48 << 20, swap: 96 << 20 },
      pids: { limit: 40 },
      cpu: { shares: 100, quota: 20000, period: 100000 },
    });

    const { typeUrl, value } = container.stats();
    const metrics = Metrics.decode(value);
    expect(typeUrl).toBe('io.containerd.cgroups.v1.Metrics');
    expect(metrics.memory?.usage?.limit).toBe(48n << 20n);
    expect(metrics.pids).toEqual({ current: 1n, limit: 40n });
    expect(metrics.cpu?.usage?.total).toBeGreaterThan(0n);
    expect(() => container.update({ memory: { limit: 4096 } })).toThrow(
      /unable to set memory limit to 4096 \(current usage: \d+/,
    );
  });

  test('onOom() hears that memory is short, and oomCount() counts the kills', async () => {
    const container = await create(
      optionsFor(['dd', 'if=/dev/zero', 'of=/dev/null', 'bs=64M', 'count=1'], (spec) => {
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
    const container = await running();
    const exit = waitForExit(container.pid);

    const loaded = Container.load(root, container.id);
    expect(loaded.pid).toBe(container.pid);
    expect(loaded.pids()).toEqual([container.pid]);
    await loaded.delete();

    expect((await exit).code).toBe(137);
    expect(() => Container.load(root, container.id)).toThrow(`container "${container.id}" does not exist`);
  });

  test('start() shows the program, not init, as soon as it has resolved', async () => {
    const container = await running(['sleep', '987']);

    expect(execFileSync('cat', [`/proc/${container.pid}/cmdline`], { encoding: 'utf8' })).toBe('sleep\x00987\x00');
  });

  describe('a failure leaves nothing behind', () => {
    // Each change makes another step of create fail; afterEach looks for state, cgroups and mounts.
    const changes: [string, (spec: Mutable<Spec>) => void][] = [
      ['configuration', (spec) => (spec.process.args = [])],
      ['seccomp', (spec) => (spec.linux.seccomp = { defaultAction: 'X' } as never)],
      ['cgroup limits', (spec) => (spec.linux.resources.cpu = { cpus: '4096' } as never)],
      [
        'namespace to join',
        (spec) =>
          ((spec.linux.namespaces.find(({ type }) => type === 'network') as { path?: string }).path = '/no/such'),
      ],
      [
        'pid namespace to join',
        (spec) =>
          ((spec.linux.namespaces.find(({ type }) => type === 'pid') as { path?: string }).path = '/etc/passwd'),
      ],
      ['first mount', (spec) => spec.mounts.unshift({ destination: '/m', type: 'bind', source: '/no/such' } as never)],
      [
        'last mount',
        (spec) => spec.mounts.push({ destination: '/m', type: 'tmpfs', source: 'x', options: ['bogus=1'] } as never),
      ],
      ['hook', (spec) => (spec.hooks = { createContainer: [{ path: '/bin/false' }] } as never)],
      ['user', (spec) => (spec.process.user.uid = 2 ** 31)],
      ['program', (spec) => (spec.process.args = ['/none'])],
      ['label', (spec) => (spec.process.apparmorProfile = 'no-such-profile')],
    ];
    test.each(changes)('%s', async (_what, change) => {
      const children = childrenOf(process.pid);
      const options = optionsFor(['true'], change);

      await expect(Container.create(options)).rejects.toThrow(/^runc create failed: /);

      expect(childrenOf(process.pid).filter((child) => !children.includes(child))).toEqual([]);
    });

    test('state directory that cannot be made', async () => {
      const blocked = join(root, '../', `gantry-file-${bundle.name}`);
      execFileSync('touch', [blocked]);

      await expect(Container.create({ ...optionsFor(['true']), root: blocked })).rejects.toThrow(
        /^runc create failed: /,
      );

      rmSync(blocked);
    });

    test('root filesystem that is missing', async () => {
      await expect(Container.create({ ...optionsFor(['true']), rootfs: '/no/such' })).rejects.toThrow(
        'runc create failed: invalid rootfs: stat /no/such: no such file or directory',
      );
    });
  });

  describe('mount propagation', () => {
    const SYS_ADMIN = ['CAP_SYS_ADMIN'];
    const volume = () => join(bundle.path, 'volume');
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
    const withVolume = (propagation: string) => (spec: Mutable<Spec>) => {
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
      const container = await running(['sleep', '1000'], withVolume('rshared'));

      expect(await exec(container, ['mount', '-t', 'tmpfs', 'x', '/mnt/place'])).toMatchObject({ code: 0 });

      expect(mountsBelow(join(volume(), 'place'))).not.toEqual([]);
    });

    test.each([
      ['rslave', 1],
      ['rprivate', 0],
    ])('%s: %i mounts of the host come into the container, none out of it', async (propagation, count) => {
      const container = await running(['sleep', '1000'], withVolume(propagation));
      expect(await exec(container, ['sh', '-c', 'mkdir /mnt/own && mount -t tmpfs x /mnt/own'])).toMatchObject({
        code: 0,
      });
      execFileSync('mount', ['-t', 'tmpfs', 'x', join(volume(), 'place')]);

      const { stdout } = await exec(container, ['sh', '-c', 'grep -c " /mnt/place " /proc/mounts']);

      expect(Number(stdout)).toBe(count);
      expect(mountsBelow(join(volume(), 'own'))).toEqual([]);
      execFileSync('rmdir', [join(volume(), 'own')]);
    });
  });

  test('processes that a container leaves in its cgroup end with it', async () => {
    const container = await running(['sh', '-c', 'sleep 1000 & sleep 1000 & exit 0'], (spec) => {
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'pid');
    });
    await waitForExit(container.pid);
    expect(container.pids().length).toBe(2);

    await container.delete();

    expect(container.pids()).toEqual([]);
  });

  test('cgroups that a container made below its own are removed', async () => {
    const container = await running(['sleep', '1000'], (spec) => {
      spec.mounts = spec.mounts.filter(({ type }) => type !== 'cgroup');
    });
    const own = cgroupsOf(bundle.name);
    for (const directory of own) mkdirSync(join(directory, 'inner/most'), { recursive: true });

    await container.delete();

    expect(own.filter((directory) => existsSync(directory))).toEqual([]);
  });
});

function cgroupsOf(name: string): string[] {
  const hierarchies = readdirSync('/sys/fs/cgroup').map((entry) =>
    join('/sys/fs/cgroup', entry, 'gantry-runtime-test'),
  );
  return ['/sys/fs/cgroup/gantry-runtime-test', ...hierarchies]
    .filter((directory) => existsSync(directory))
    .flatMap((directory) =>
      readdirSync(directory)
        .filter((entry) => entry.startsWith(name))
        .map((entry) => join(directory, entry)),
    );
}

/** Processes that have this one as parent and run init or a program of the test image. */
function childrenOf(pid: number): string[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((entry) => {
      try {
        const stat = readFileSync(`/proc/${entry}/stat`, 'latin1');
        return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] === String(pid);
      } catch {
        return false;
      }
    });
}

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + DEADLINE_MS;
  while (!condition()) {
    if (Date.now() > end) throw new Error('condition did not come true in time');
    await sleep(5);
  }
}

/** Reads a pty's master until the text matches or its other side is closed. */
async function readUntil(fd: number, pattern: RegExp): Promise<string> {
  setBlocking(fd, false);
  const buffer = Buffer.alloc(4096);
  let text = '';
  const end = Date.now() + DEADLINE_MS;
  while (!pattern.test(text) && Date.now() < end) {
    try {
      text += buffer.toString('utf8', 0, readSync(fd, buffer));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EIO') return text;
      await sleep(5);
    }
  }
  return text;
}

function catchError(body: () => void): unknown {
  try {
    body();
  } catch (error) {
    return error;
  }
  return undefined;
}
