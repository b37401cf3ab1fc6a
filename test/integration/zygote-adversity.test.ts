// The zygote as an attacker and a pessimist see it: what forked shims have of each other, requests that make no sense, and a
// host that is out of descriptors, of processes or of its own files.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { SHIM_ENVIRONMENT, ZYGOTE_FLAGS } from '../../proto/shim-flags';
import { describeUnless, needsFile } from '../setup/needs';
import { argumentsOf, childrenOf, openFilesOf, parentOf } from '../setup/processes';
import { missingForTasks, TestDaemon } from './tasks-daemon';

const PROJECT = resolve(__dirname, '../..');
const PIDS = '/sys/fs/cgroup/pids';
const EAGAIN = 11;
const EMFILE = 24;
const ENOSPC = 28;
const EADDRINUSE = 98;
const STEP_BUNDLE = 1;
const STEP_SOCKET = 3;

describeUnless(missingForTasks())('the zygote of a daemon', () => {
  let daemon: TestDaemon;

  afterEach(async () => {
    await daemon?.stop();
  });

  async function start(id: string): Promise<void> {
    await daemon.container(id, ['/bin/sleep', '100']);
    await daemon.tasks.create({ containerId: id });
    await daemon.tasks.start({ containerId: id });
  }

  /** Whether a container runs, with a shim that was started as a program. */
  async function runsWithoutFork(id: string, reason: string): Promise<void> {
    await start(id);
    expect(daemon.log).toContain(reason);
    expect(parentOf(daemon.shimPid(id))).not.toBe(zygotePid());
    await daemon.destroy(id);
    await daemon.untilClean(id);
  }

  async function runsForked(id: string): Promise<void> {
    await start(id);
    expect(parentOf(daemon.shimPid(id))).toBe(zygotePid());
    await daemon.destroy(id);
  }

  const zygotePid = () => childrenOf(daemon.pid).find((pid) => argumentsOf(pid).includes('zygote')) ?? 0;

  test('gives its shims no socket and no file of the daemon or of another container', async () => {
    daemon = await TestDaemon.start({ start: 'fork' });
    await start('one');
    await start('two');
    const files = (id: string) => new Set(openFiles(daemon.shimPid(id)));
    const [one, two, zygote] = [files('one'), files('two'), new Set(openFiles(zygotePid()))];

    const shared = [...one].filter((file) => two.has(file));

    // Memory of init, and pipes of event loops that no thread of a shim runs.
    expect(shared.filter((file) => !/^(\/dev\/null|\/memfd:gantry-init|pipe:|anon_inode:)/.test(file))).toEqual([]);
    expect(shared.filter((file) => !file.startsWith('anon_inode:') && !zygote.has(file))).toEqual([]);
    expect([...one].filter((file) => file.startsWith('socket:') && zygote.has(file))).toEqual([]);
    expect([...one].filter((file) => file.includes('two') || file.startsWith(daemon.root))).toEqual([]);
  });

  test('that has no descriptors left is done without, and takes no socket from a shim that lives', async () => {
    daemon = await TestDaemon.start({ start: 'fork' });
    const zygote = zygotePid();
    const { soft, hard } = fileLimit(zygote);
    const free = freeDescriptor(zygote);

    // None for the bundle, the log, the socket.
    const steps = ['open the bundle', 'open the log', 'open the socket'];
    for (const [index, step] of steps.entries()) {
      setFileLimit(zygote, free + index, hard);
      await runsWithoutFork(`files-${index}`, `zygote: ${step}: error ${EMFILE}`);
    }
    // One for the socket, none to ask whether somebody listens.
    const path = socketPath(daemon, 'live');
    const server = createServer().listen(path);
    await new Promise((done) => server.once('listening', done));
    setFileLimit(zygote, free + steps.length, hard);
    await expect(start('live')).rejects.toThrow();
    expect(daemon.log).toContain(`zygote: open the socket: error ${EADDRINUSE}`);
    expect(existsSync(path)).toBe(true);
    await new Promise((done) => server.close(done));
    await daemon.destroy('live');

    setFileLimit(zygote, soft, hard);
    await runsForked('again');
  });

  test('without room for a socket says so, and leaves nothing', async () => {
    daemon = await TestDaemon.start({ start: 'fork' });
    const sockets = join(daemon.state, 's');
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'nr_inodes=1', 'tmpfs', sockets]);
    try {
      await expect(start('full')).rejects.toThrow(/ENOSPC/);
      expect(daemon.log).toContain(`zygote: open the socket: error ${ENOSPC}`);
    } finally {
      execFileSync('umount', [sockets]);
    }
    await daemon.destroy('full');
    await daemon.untilClean();

    await runsForked('again');
  });

  test('whose shim.js is gone still forks', async () => {
    const copy = mkdtempSync(join(tmpdir(), 'gantry-copy-'));
    cpSync(join(PROJECT, 'dist'), join(copy, 'dist'), { recursive: true, verbatimSymlinks: true });
    symlinkSync(join(PROJECT, 'node_modules'), join(copy, 'node_modules'));
    const before = process.env['GANTRYD'];
    process.env['GANTRYD'] = join(copy, 'dist/bin/gantryd');
    try {
      daemon = await TestDaemon.start({ start: 'fork' });
      rmSync(join(copy, 'dist/shim.js'));
      rmSync(join(copy, 'dist/native/init'));

      await runsForked('fork');
    } finally {
      if (before === undefined) delete process.env['GANTRYD'];
      else process.env['GANTRYD'] = before;
      rmSync(copy, { recursive: true });
    }
  });
});

describeUnless(missingForTasks() ?? needsFile(PIDS, 'cgroups of version 1'))('a zygote that may not fork', () => {
  test('is done without until it may', async () => {
    const daemon = await TestDaemon.start({ start: 'fork' });
    const group = join(PIDS, `gantry-zygote-${process.pid}`);
    mkdirSync(group);
    const zygote = childrenOf(daemon.pid).find((pid) => argumentsOf(pid).includes('zygote')) ?? 0;
    const create = async (id: string) => {
      await daemon.container(id, ['/bin/sleep', '100']);
      await daemon.tasks.create({ containerId: id });
      return parentOf(daemon.shimPid(id)) === zygote;
    };
    try {
      writeFileSync(join(group, 'cgroup.procs'), String(zygote));
      writeFileSync(join(group, 'pids.max'), readFileSync(join(group, 'pids.current'), 'utf8'));
      expect(await create('spawned')).toBe(false);
      expect(daemon.log).toContain(`zygote: fork: error ${EAGAIN}`);

      writeFileSync(join(group, 'pids.max'), 'max');
      expect(await create('forked')).toBe(true);
    } finally {
      await daemon.stop();
      await daemon.until(() => readFileSync(join(group, 'cgroup.procs'), 'utf8') === '');
      rmdirSync(group);
    }
  });
});

describeUnless(missingForTasks())('a request to the zygote', () => {
  let directory: string;
  let child: ChildProcess;
  let control: Socket;
  let exited: Promise<number | null>;

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'gantry-zygote-'));
  });

  beforeEach(async () => {
    const args = [...ZYGOTE_FLAGS, join(PROJECT, 'dist/shim.js'), 'zygote'];
    const places = ['-bundle', join(directory, 'rehearsals'), '-socket', join(directory, 's')];
    child = spawn(process.execPath, [...args, ...places], {
      env: { ...process.env, ...SHIM_ENVIRONMENT },
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    });
    control = child.stdio[3] as Socket;
    control.on('error', () => {}); // It ends with bytes unread.
    exited = new Promise((done) => child.once('exit', done));
    expect((await reply())[0]).toBe(child.pid);
  });

  afterEach(async () => {
    control.destroy();
    await exited;
  });

  afterAll(() => rmSync(directory, { recursive: true }));

  const reply = () =>
    new Promise<[result: number, step: number]>((done) => {
      control.once('data', (bytes: Buffer) => done([bytes.readInt32LE(0), bytes.readInt32LE(4)]));
    });
  const send = (body: Buffer, length = body.length) => {
    const header = Buffer.alloc(4);
    header.writeUInt32LE(length);
    control.write(Buffer.concat([header, body]));
  };
  const sendPaths = (bundle: string, log: string, socket: string) =>
    send(Buffer.from(`${bundle}\0${log}\0${socket}\0{}`));

  test('that cannot be carried out is answered with the step and leaves nothing', async () => {
    const files = openFiles(child.pid ?? 0).length;
    const log = join(directory, 'log');
    execFileSync('mkfifo', [log]);
    const long = join(directory, 'x'.repeat(120));

    sendPaths('/no/such', log, join(directory, 'socket'));
    const noBundle = await reply();
    sendPaths('/etc/passwd', log, join(directory, 'socket'));
    const noDirectory = await reply();
    sendPaths(directory, join(directory, 'none'), join(directory, 'socket'));
    const noLog = await reply();
    sendPaths(directory, log, long);
    const tooLong = await reply();
    sendPaths(directory, log, '/no/such/socket');
    const noPlace = await reply();

    expect([noBundle, noDirectory, noLog]).toEqual([
      [-2, STEP_BUNDLE],
      [-20, STEP_BUNDLE],
      [-2, STEP_BUNDLE + 1],
    ]);
    expect([tooLong, noPlace]).toEqual([
      [-36, STEP_SOCKET],
      [-2, STEP_SOCKET],
    ]);
    expect(openFiles(child.pid ?? 0)).toHaveLength(files);
    expect(existsSync(join(directory, 'socket'))).toBe(false);
    expect(childrenOf(child.pid ?? 0)).toEqual([]);
  });

  test.each([
    ['larger than its room', () => send(Buffer.from('x'), 0xffffffff)],
    ['without an end of its strings', () => send(Buffer.alloc(16_384, 'x'))],
    ['with too few strings', () => send(Buffer.from('a\0b\0'))],
    ['of nothing', () => send(Buffer.alloc(0))],
  ])('%s ends it without a fork', async (_what, act) => {
    act();

    expect(await exited).not.toBe(0);
    expect(readdirSync(directory).filter((name) => name.startsWith('socket'))).toEqual([]);
  });
});

/** What is open, without what the test itself has handed down to all. */
function openFiles(pid: number): string[] {
  const own = new Set(openFilesOf(process.pid));
  return openFilesOf(pid).filter((file) => file === '/dev/null' || !own.has(file));
}

/** The number that the next open() gets. */
function freeDescriptor(pid: number): number {
  const used = new Set(readdirSync(`/proc/${pid}/fd`).map(Number));
  let number = 0;
  while (used.has(number)) number++;
  for (const next of [number + 1, number + 2, number + 3]) expect(used.has(next)).toBe(false);
  return number;
}

function fileLimit(pid: number): { soft: number; hard: number } {
  const line = /Max open files\s+(\d+)\s+(\d+)/.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'));
  return { soft: Number(line?.[1]), hard: Number(line?.[2]) };
}

const setFileLimit = (pid: number, soft: number, hard: number) =>
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${soft}:${hard}`]);

/** As own-launcher.ts names it. */
function socketPath(daemon: TestDaemon, id: string): string {
  const hash = createHash('sha256').update(`${daemon.address}/${daemon.namespace}/${id}`).digest('hex');
  return join(daemon.state, 's', hash.slice(0, 32));
}
