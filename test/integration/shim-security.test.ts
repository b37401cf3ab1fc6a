// What others on the host, and a container that shares its network, can reach of the daemon and its shims; and what clients
// that misbehave can make them keep in memory.

import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  createReadStream,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
} from 'node:fs';
import { join } from 'node:path';
import { TaskService } from '../../proto/generated/containerd.task.v3';
import { TtrpcClient } from '../../proto/ttrpc/client';
import { describeUnless } from '../setup/needs';
import { missingForTasks, TestDaemon } from './tasks-daemon';

const MIB = 1024;
/** Of one process, in KiB, whatever is done to it. */
const GROWTH_MAX_KIB = 24 * MIB;
const REST_MS = 40_000;
const CALLS = 10_000;
const CALLS_AT_ONCE = 100;
const OUTPUT_BYTES = 2 ** 30;
/** uid and gid nobody. */
const NOBODY = 65534;

let daemon: TestDaemon;

/** A daemon with a container, for the tests of the describe() around it. */
function useDaemon(start: 'fork' | 'spawn'): void {
  beforeAll(async () => {
    daemon = await TestDaemon.start({ start });
    await daemon.container('box', ['/bin/sleep', '1000']);
    await daemon.tasks.create({ containerId: 'box' });
    await daemon.tasks.start({ containerId: 'box' });
  });

  afterAll(async () => {
    await daemon?.stop();
  });
}

describeUnless(missingForTasks()).each(['fork', 'spawn'] as const)('a shim (%s)', (start) => {
  useDaemon(start);

  test('CVE-2020-15257: listens on a path only, in a directory that nobody else enters', () => {
    const shim = daemon.shimPid('box');
    const sockets = new Map(unixSockets(shim).map(({ inode, path }) => [inode, path]));
    const own = openFiles(shim).flatMap((file) => /^socket:\[(\d+)\]$/.exec(file)?.[1] ?? []);
    const paths = own.map((inode) => sockets.get(inode) ?? '').filter((path) => path !== '');

    // An abstract one starts with "@". The accepted connections have the name of the listener.
    expect([...new Set(paths)]).toEqual([realpathSync(socketOfShim())]);
    expect(modeOf(socketOfShim())).toBe(0o600);
    expect(modeOf(join(daemon.state, 's'))).toBe(0o700);
  });

  test('CVE-2020-15257: cannot be seen by a container in the network namespace of the host', async () => {
    const init = (await daemon.tasks.get({ containerId: 'box' })).process?.pid ?? 0;
    expect(readlinkSync(`/proc/${init}/ns/net`)).toBe(readlinkSync('/proc/self/ns/net'));

    // With the container's own root, where the path leads nowhere.
    const seen = () => lstatSync(join(`/proc/${init}/root`, socketOfShim()));

    expect(seen).toThrow(/ENOENT/);
  });

  test('refuses others, who know where its socket is', () => {
    chmodSync(daemon.directory, 0o711); // So that it is not the directory of the test that keeps them out.
    const script =
      'const s = require("net").connect(process.argv[1]); s.on("error", (e) => console.log(e.code)); s.on("connect", () => console.log("connected"));';
    const asNobody = execFileSync(process.execPath, ['-e', script, socketOfShim()], {
      uid: NOBODY,
      gid: NOBODY,
      encoding: 'utf8',
      cwd: '/',
    });

    expect(asNobody).toBe('EACCES\n');
  });

  test.each(['../box', 'a/b', '..', 'a\0b', ' ', 'x'.repeat(77)])(
    'gets no id that leads elsewhere (%j)',
    async (id) => {
      const exec = daemon.tasks.exec({ containerId: 'box', execId: id, spec: daemon.process(['/bin/true']) });
      await expect(exec).rejects.toThrow(/INVALID_ARGUMENT/);
      await expect(daemon.container(id, ['/bin/true'])).rejects.toThrow(/INVALID_ARGUMENT/);

      const shim = await TtrpcClient.connect(socketOfShim());
      const call = shim.call(TaskService.exec, { id: 'box', execId: id }, { namespace: daemon.namespace });
      await expect(call).rejects.toThrow(/identifier/);
      shim.close();
    },
  );

  test('CVE-2024-25621: with its daemon leaves nothing that others can read or connect to', () => {
    const open = [...walk(daemon.state), ...walk(daemon.root)].filter((path) => !isClosed(path));

    expect(open).toEqual([]);
    expect(walk(daemon.root).length).toBeGreaterThan(3);
  });
});

describeUnless(missingForTasks())('the memory of a shim and its daemon', () => {
  useDaemon('fork');

  test('CVE-2022-23471: a gigabyte of output of an exec leaves memory as it was', async () => {
    const pids = [daemon.shimPid('box'), daemon.pid];
    const fifo = join(daemon.directory, 'out');
    execFileSync('mkfifo', [fifo]);
    await daemon.tasks.exec({
      containerId: 'box',
      execId: 'loud',
      stdout: fifo,
      spec: daemon.process(['/bin/busybox', 'dd', 'if=/dev/zero', 'bs=1M', 'count=1024']),
    });
    const waiting = daemon.tasks.wait({ containerId: 'box', execId: 'loud' }, { timeoutMs: 200_000 });
    const before = pids.map(memoryKib);
    const reader = createReadStream(fifo, { highWaterMark: 1 << 20 });
    await daemon.tasks.start({ containerId: 'box', execId: 'loud' });
    let bytes = 0;
    let largest = before;
    for await (const chunk of reader) {
      bytes += (chunk as Buffer).length;
      if (bytes % (64 << 20) < chunk.length)
        largest = pids.map((pid, index) => Math.max(memoryKib(pid), largest[index] ?? 0));
    }

    expect((await waiting).exitStatus).toBe(0);
    expect(bytes).toBe(OUTPUT_BYTES);
    expect(growth(before, largest)).toBeLessThan(GROWTH_MAX_KIB);
    await daemon.tasks.deleteProcess({ containerId: 'box', execId: 'loud' });
  }, 240_000);

  test('CVE-2022-23471: output that nobody reads stops the program, not the shim', async () => {
    const shim = daemon.shimPid('box');
    const fifo = join(daemon.directory, 'silent');
    execFileSync('mkfifo', [fifo]);
    const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
    const before = memoryKib(shim);
    await daemon.tasks.exec({
      containerId: 'box',
      execId: 'stuck',
      stdout: fifo,
      spec: daemon.process(['/bin/busybox', 'yes']),
    });
    const { pid } = await daemon.tasks.start({ containerId: 'box', execId: 'stuck' });
    await daemon.until(() => readFileSync(`/proc/${pid}/wchan`, 'utf8').includes('pipe'));

    expect(memoryKib(shim) - before).toBeLessThan(GROWTH_MAX_KIB);
    expect((await daemon.tasks.list({})).tasks).toHaveLength(1);
    closeSync(reader);
    await daemon.tasks.kill({ containerId: 'box', execId: 'stuck', signal: 9 });
    await daemon.tasks.wait({ containerId: 'box', execId: 'stuck' });
    await daemon.tasks.deleteProcess({ containerId: 'box', execId: 'stuck' });
  });

  test('CVE-2025-64329: ten thousand calls that their clients give up leave memory as it was', async () => {
    const pids = [daemon.shimPid('box'), daemon.pid];
    // The first thousand fill what is kept on purpose.
    await abandonCalls(daemon, CALLS / 10);
    await abandonConnections(socketOfShim(), CALLS / 100);
    const before = pids.map(memoryKib);

    await abandonCalls(daemon, CALLS);
    await abandonConnections(socketOfShim(), CALLS / 10);

    // Garbage is collected at rest, half a minute after the last collection at the latest.
    const grown = () => growth(before, pids.map(memoryKib));
    await daemon.until(() => grown() < GROWTH_MAX_KIB, REST_MS).catch(() => undefined);
    expect(grown()).toBeLessThan(GROWTH_MAX_KIB);
    expect(openFiles(pids[0] ?? 0).length).toBeLessThan(100);
    expect(openFiles(pids[1] ?? 0).length).toBeLessThan(200);
  }, 240_000);
});

function socketOfShim(): string {
  const directory = join(daemon.state, 's');
  const names = readdirSync(directory).filter((name) => !name.startsWith('zygote'));
  return join(directory, names[0] ?? '');
}

/** Calls of Wait, which does not end by itself, with a deadline that has passed at once. */
async function abandonCalls(daemon: TestDaemon, count: number): Promise<void> {
  for (let done = 0; done < count; done += CALLS_AT_ONCE) {
    const calls = Array.from({ length: CALLS_AT_ONCE }, () =>
      daemon.tasks.wait({ containerId: 'box' }, { timeoutMs: 50 }),
    );
    const outcomes = await Promise.allSettled(calls);
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toEqual([]);
  }
}

/** Connections to the shim itself, each with calls of Wait, that are closed while they wait. */
async function abandonConnections(socket: string, count: number): Promise<void> {
  for (let done = 0; done < count; done++) {
    const client = await TtrpcClient.connect(socket);
    const calls = Array.from({ length: 10 }, () => client.call(TaskService.wait, { id: 'box' }, { namespace: 'test' }));
    const settled = Promise.allSettled(calls);
    await client.call(TaskService.state, { id: 'box' }, { namespace: 'test' });
    client.close();
    expect((await settled).filter(({ status }) => status === 'fulfilled')).toEqual([]);
  }
}

function growth(before: readonly number[], after: readonly number[]): number {
  return Math.max(...after.map((size, index) => size - (before[index] ?? 0)));
}

function memoryKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

function unixSockets(pid: number): { inode: string; path: string }[] {
  return readFileSync(`/proc/${pid}/net/unix`, 'utf8')
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .map((fields) => ({ inode: fields[6] ?? '', path: fields[7] ?? '' }));
}

function openFiles(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return [];
    }
  });
}

const modeOf = (path: string) => lstatSync(path).mode & 0o777;

/** Everything that somebody else can get to: what lies in a directory that only its owner may enter is left out. */
function walk(path: string): string[] {
  const below = lstatSync(path).isDirectory() && (modeOf(path) & 0o011) !== 0 ? readdirSync(path) : [];
  return [path, ...below.flatMap((name) => walk(join(path, name)))];
}

/** Directories may be passed through but not listed, files not be read, nothing be written. */
function isClosed(path: string): boolean {
  const stat = lstatSync(path);
  if (stat.isSymbolicLink()) return true;
  return (stat.mode & (stat.isDirectory() ? 0o066 : 0o077)) === 0;
}
