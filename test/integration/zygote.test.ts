// Shims that are forked from the zygote: what they share, whom they outlive, and that everything works without it.

import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeUnless } from '../setup/needs';
import { argumentsOf, childrenOf, openFilesOf } from '../setup/processes';
import { missingForTasks, TestDaemon } from './tasks-daemon';

/** A forked shim at work has about 3 MiB of its own, a spawned one over 11. */
const PRIVATE_KIB_MAX = 8192;

describeUnless(missingForTasks())('zygote', () => {
  let daemon: TestDaemon;

  beforeEach(async () => {
    daemon = await TestDaemon.start({ start: 'fork' });
  });

  afterEach(async () => {
    await daemon?.stop();
  });

  async function run(id: string, args: readonly string[] = ['/bin/sleep', '100']): Promise<void> {
    await daemon.container(id, args);
    await daemon.tasks.create({ containerId: id });
    await daemon.tasks.start({ containerId: id });
  }

  /** Starts a container, waits for its end and removes it. */
  async function runToEnd(id: string): Promise<number> {
    await run(id, ['/bin/sh', '-c', 'exit 3']);
    const { exitStatus } = await daemon.tasks.wait({ containerId: id });
    await daemon.destroy(id);
    return exitStatus;
  }

  const zygotes = () => childrenOf(daemon.pid).filter((pid) => argumentsOf(pid).includes('zygote'));
  const zygotePid = () => zygotes()[0] ?? 0;

  test('a shim is its child, works in its bundle, has a name of its own and little memory', async () => {
    await run('child');
    const pid = daemon.shimPid('child');

    expect(childrenOf(zygotePid())).toEqual([pid]);
    expect(readlinkSync(`/proc/${pid}/cwd`)).toBe(daemon.bundle('child'));
    expect(readFileSync(join(daemon.bundle('child'), 'shim.pid'), 'utf8')).toBe(String(pid));
    expect(readFileSync(`/proc/${pid}/comm`, 'utf8')).toBe('gantry-shim\n');
    expect(privateKib(pid)).toBeLessThan(PRIVATE_KIB_MAX);
    expect(openFilesOf(pid)).not.toEqual(expect.arrayContaining(openSockets(zygotePid())));
    await daemon.destroy('child');
    await daemon.untilClean();
  });

  test('many at once', async () => {
    const ids = Array.from({ length: 20 }, (_, index) => `many-${index}`);

    expect(await Promise.all(ids.map(runToEnd))).toEqual(ids.map(() => 3));
    await daemon.until(() => childrenOf(zygotePid()).length === 0);
    await daemon.untilClean();
  });

  test('shims outlive it, and others are started without it', async () => {
    await run('before');
    const killed = zygotePid();
    process.kill(killed, 'SIGKILL');
    await daemon.until(() => daemon.log.includes('no zygote: shims are started as programs'));

    expect(await runToEnd('after')).toBe(3);
    const waiting = daemon.tasks.wait({ containerId: 'before' });
    await daemon.tasks.kill({ containerId: 'before', signal: 15, all: true });
    await daemon.tasks.kill({ containerId: 'before', signal: 9 });
    expect((await waiting).exitStatus).toBe(137);
    await daemon.destroy('before');

    await daemon.until(() => ![0, killed].includes(zygotePid()));
  });

  test('one that does not answer is killed, and the container starts all the same', async () => {
    process.kill(zygotePid(), 'SIGSTOP');

    expect(await runToEnd('stopped')).toBe(3);
    expect(daemon.log).toContain('shim was not forked');
    await daemon.untilClean();
  });

  test.each(['SIGTERM', 'SIGKILL'] as const)('ends with its daemon (%s); its shims are adopted', async (signal) => {
    await run('stays');
    const zygote = zygotePid();

    await daemon.kill(signal);
    await daemon.until(() => !existsSync(`/proc/${zygote}`));
    await daemon.boot();
    await daemon.untilAdopted();
    const waiting = daemon.tasks.wait({ containerId: 'stays' });
    await daemon.tasks.kill({ containerId: 'stays', signal: 9 });

    expect((await waiting).exitStatus).toBe(137);
    await daemon.destroy('stays');
  });

  test('what a killed rehearsal has left is removed by the next', async () => {
    const gone = '4194305'; // Larger than any pid (PID_MAX_LIMIT).
    await daemon.kill();
    mkdirSync(join(daemon.root, 'zygote', gone, 'rootfs'), { recursive: true });
    await daemon.boot();
    await daemon.untilForking();

    expect(readdirSync(join(daemon.root, 'zygote'))).toEqual([]);
  });

  test('where it cannot rehearse, shims are started as programs and the log says why', async () => {
    await daemon.kill();
    await daemon.until(
      () => !existsSync(join(daemon.root, 'zygote')) || readdirSync(join(daemon.root, 'zygote')).length === 0,
    );
    rmSync(join(daemon.root, 'zygote'), { recursive: true, force: true });
    writeFileSync(join(daemon.root, 'zygote'), 'not a directory');
    await daemon.boot();
    await daemon.until(() => daemon.log.includes('no zygote: shims are started as programs'));

    expect(await runToEnd('plain')).toBe(3);
    expect(daemon.log).toContain('EEXIST');
  });
});

function privateKib(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const size = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(rollup)?.[1]);
  return size('Private_Clean') + size('Private_Dirty');
}

const openSockets = (pid: number) => openFilesOf(pid).filter((file) => file.startsWith('socket:'));
