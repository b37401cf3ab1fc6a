// Processes that are added to a container of gantry's library, and terminals.

import { closeSync, readSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { setBlocking, setWindowSize } from '../../runtime-native/index';
import { describeUnless } from '../setup/needs';
import { useRuntime } from '../suites/runtime-bench';
import { CGROUP_PARENT, missingForContainers } from '../suites/runtime-bundle';
import { waitForExit } from '../suites/runtime-library';

const DEADLINE_MS = 60_000;

describeUnless(missingForContainers())('Container', () => {
  const runtime = useRuntime();

  test('exec() runs in the namespaces and cgroups of the container, without inheritable capabilities', async () => {
    const container = await runtime.running();

    const result = await runtime.exec(container, [
      'sh',
      '-c',
      'echo $$ >&2; hostname; grep CapInh /proc/self/status; cat /proc/self/cgroup',
    ]);

    expect(result.code).toBe(0);
    expect(result.stdout).toMatch(/^box\nCapInh:\s0{16}\n/);
    expect(result.stdout).toContain(`/${CGROUP_PARENT}/${container.id}`);
    expect(Number(result.stderr)).toBeGreaterThan(1);
  });

  test('exec() tells in words of runc why it cannot run a program', async () => {
    const container = await runtime.running();
    const start = 'exec failed: unable to start container process: ';

    await expect(runtime.exec(container, ['/x'])).rejects.toThrow(
      `${start}exec: "/x": stat /x: no such file or directory`,
    );
    await expect(runtime.exec(container, ['x'])).rejects.toThrow(
      `${start}exec: "x": executable file not found in $PATH`,
    );
    expect(await runtime.exec(container, ['/bad-format'])).toMatchObject({
      code: 1,
      stderr: 'exec /bad-format: exec format error\n',
    });
    await expect(runtime.exec(container, ['true'], { cwd: '/none' })).rejects.toThrow(
      `${start}chdir to cwd ("/none") set in config.json failed: no such file or directory`,
    );
    await expect(runtime.exec(container, ['true'], { user: { uid: 2 ** 31, gid: 0 } })).rejects.toThrow(
      'must be in range',
    );
  });

  test('exec() in a container that has stopped fails', async () => {
    const container = await runtime.running();
    const exit = waitForExit(container.pid);
    container.kill(9, false);
    await exit;

    await expect(runtime.exec(container, ['true'])).rejects.toThrow('cannot exec in a stopped container');
  });

  test("a terminal is the container's own, with the size that was asked for", async () => {
    const options = runtime.optionsFor(
      ['sh', '-c', 'stty size; tty; ls -l /dev/console; read line; echo got $line; stty size'],
      (spec) => {
        spec.process.consoleSize = { height: 33, width: 101 };
      },
    );
    const container = await runtime.create({ ...options, io: 'terminal' });
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
    const container = await runtime.running();
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
});

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
