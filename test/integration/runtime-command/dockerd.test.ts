// Debian's dockerd with gantry-runtime as a further runtime (--add-runtime), on a containerd of its own.

import { INSTALLED_DOCKER, installedContainerd } from '../../setup/clients';
import { waitFor } from '../../setup/command';
import { startContainerd, type TestDaemon } from '../../setup/daemons';
import { Dockerd, WITHOUT_NETWORKS } from '../../setup/dockerd';
import { describeUnless } from '../../setup/needs';
import { Engine, GANTRY_RUNTIME, missingForEngine } from './engine';

const TIMEOUT_MS = 300_000;
const MEGABYTE = 2 ** 20;

describeUnless(missingForEngine(INSTALLED_DOCKER.dockerd, 'package docker.io'))('dockerd', () => {
  let containerd: TestDaemon;
  let dockerd: Dockerd;
  let docker: Engine;
  const run = (...args: readonly string[]) =>
    docker.call('run', '--rm', '--runtime', 'gantry', ...docker.flags, ...args);

  beforeAll(async () => {
    containerd = await startContainerd(await installedContainerd());
    dockerd = new Dockerd(INSTALLED_DOCKER, containerd, {
      args: [...WITHOUT_NETWORKS, '--add-runtime', `gantry=${GANTRY_RUNTIME}`],
    });
    docker = new Engine('docker', () => dockerd.command([]));
    await dockerd.start();
    await docker.must('import', await docker.rootfsTar(), 'box');
  }, TIMEOUT_MS);

  afterAll(async () => {
    await dockerd.stop();
    await containerd.destroy();
    await docker.remove();
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
    'knows a missing program by the words of the error',
    async () => {
      expect(await run('box', 'nothing')).toMatchObject({ exitCode: 127 });
    },
    TIMEOUT_MS,
  );

  test(
    'executes in, limits, pauses and kills a container',
    async () => {
      await docker.must(
        'run',
        '--detach',
        '--name',
        'one',
        '--runtime',
        'gantry',
        ...docker.flags,
        '--memory',
        '64m',
        'box',
        'sleep',
        '1000',
      );

      expect(await docker.call('exec', 'one', 'sh', '-c', 'echo in; exit 4')).toMatchObject({
        exitCode: 4,
        stdout: 'in\n',
      });
      expect(await limitOf('one')).toBe(64 * MEGABYTE);
      await docker.must('update', '--memory', '32m', '--memory-swap', '64m', 'one');
      expect(await limitOf('one')).toBe(32 * MEGABYTE);
      expect(await docker.must('top', 'one')).toContain('sleep 1000');
      await docker.must('pause', 'one');
      expect(await status('one')).toBe('paused');
      await docker.must('unpause', 'one');
      await docker.must('kill', 'one');
      await waitFor('its end', async () => (await status('one')) === 'exited');
      expect(await docker.must('inspect', '--format', '{{.State.ExitCode}}', 'one')).toBe('137');
      await docker.must('rm', 'one');
    },
    TIMEOUT_MS,
  );

  const status = (name: string) => docker.must('inspect', '--format', '{{.State.Status}}', name);
  const limitOf = async (name: string) => {
    const script = 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max';
    return Number(await docker.must('exec', name, 'sh', '-c', script));
  };
});
