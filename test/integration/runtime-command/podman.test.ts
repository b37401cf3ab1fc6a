// Debian's podman on top of gantry-runtime: conmon calls it as it calls runc and crun.

import { waitFor } from '../../setup/command';
import { describeUnless } from '../../setup/needs';
import { Engine, GANTRY_RUNTIME, missingForEngine } from './engine';

const PODMAN = '/usr/bin/podman';
const TIMEOUT_MS = 300_000;
const MEGABYTE = 2 ** 20;

describeUnless(missingForEngine(PODMAN, 'package podman'))('podman', () => {
  let podman: Engine;
  const run = (...args: readonly string[]) => podman.call('run', '--rm', ...podman.flags, ...args);

  beforeAll(async () => {
    podman = new Engine('podman', (directory) => [
      PODMAN,
      ...['--root', `${directory}/root`, '--runroot', `${directory}/run`, '--tmpdir', `${directory}/tmp`],
      ...['--storage-driver', 'vfs', '--cgroup-manager', 'cgroupfs', '--events-backend', 'file'],
      ...['--runtime', GANTRY_RUNTIME],
    ]);
    await podman.must('import', await podman.rootfsTar(), 'box');
  }, TIMEOUT_MS);

  afterAll(async () => {
    await podman.call('rm', '--all', '--force', '--time', '0');
    await podman.remove();
  }, TIMEOUT_MS);

  test(
    'runs a container and gives its output and exit code',
    async () => {
      expect(await run('box', 'sh', '-c', 'echo out; echo err >&2; exit 7')).toEqual({
        exitCode: 7,
        stdout: 'out\n',
        stderr: 'err\n',
      });
    },
    TIMEOUT_MS,
  );

  test(
    'gives a container a terminal',
    async () => {
      expect((await run('--tty', 'box', 'tty')).stdout).toMatch(/^\/dev\/(pts\/0|console)\r\n$/);
    },
    TIMEOUT_MS,
  );

  test(
    'knows a missing program by the words of the error',
    async () => {
      expect(await run('box', 'nothing')).toMatchObject({ exitCode: 127 });
    },
    TIMEOUT_MS,
  );

  test(
    'executes in, limits, pauses and kills a container',
    async () => {
      const limits = ['--memory', '64m', '--pids-limit', '20'];
      await podman.must('run', '--detach', '--name', 'one', ...podman.flags, ...limits, 'box', 'sleep', '1000');

      expect(await podman.call('exec', 'one', 'sh', '-c', 'echo in; exit 4')).toMatchObject({
        exitCode: 4,
        stdout: 'in\n',
      });
      expect((await podman.call('exec', '--tty', 'one', 'tty')).stdout).toMatch(/^\/dev\//);
      const files = '/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max';
      const unified = '/sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max';
      expect(await podman.must('exec', 'one', 'sh', '-c', `cat ${files} 2>/dev/null || cat ${unified}`)).toBe(
        `${64 * MEGABYTE}\n20`,
      );
      await podman.must('pause', 'one');
      expect(await status('one')).toBe('paused');
      await podman.must('unpause', 'one');
      await podman.must('kill', 'one');
      await waitFor('its end', async () => (await status('one')) === 'exited');
      expect(await podman.must('inspect', '--format', '{{.State.ExitCode}}', 'one')).toBe('137');
      await podman.must('rm', 'one');
    },
    TIMEOUT_MS,
  );

  const status = (name: string) => podman.must('inspect', '--format', '{{.State.Status}}', name);
});
