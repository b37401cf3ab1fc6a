// dockerd and gantryd are killed and started again under running containers of docker: they run on, their output comes, and
// what ended meanwhile has its true status afterwards. containerd forgets such exits, so there is no peer here.

import { writeFileSync } from 'node:fs';
import { waitFor } from '../../setup/command';
import { describeUnless, needsRoot } from '../../setup/needs';
import { type DockerHost, startDockerHost } from './host';
import { COMPLETE_SETUPS } from './setups';

const TIMEOUT_MS = 300_000;
const IMAGE = 'test/busybox';
/** Prints a line for each round, until the file /end holds an exit status. */
const COUNTING =
  'i=0; while [ ! -e /dev/shm/end ]; do i=$((i+1)); echo line $i; sleep 0.2; done; exit $(cat /dev/shm/end)';

describeUnless(needsRoot()).each(COMPLETE_SETUPS)('$name with --live-restore', (setup) => {
  let host: DockerHost;
  const docker = (...args: readonly string[]) => host.dockerd.must(args);
  const start = (name: string, ...flags: readonly string[]) =>
    docker('run', '-d', '--name', name, ...flags, IMAGE, 'sh', '-c', COUNTING);
  const state = (name: string) =>
    docker('inspect', '--format', '{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}', name);
  const pid = (name: string) => docker('inspect', '--format', '{{.State.Pid}}', name);
  const lines = async (name: string) => (await docker('logs', name)).split('\n').length;
  /** From outside: no daemon is asked. */
  const end = async (containerPid: string, exitCode: number) => {
    writeFileSync(`/proc/${containerPid}/root/dev/shm/end`, String(exitCode));
    await waitFor('the end of the container', () => !isRunning(containerPid));
  };
  const goesOn = async (name: string) => {
    const before = await lines(name);
    await waitFor(`more output of ${name}`, async () => (await lines(name)) > before);
    expect(await docker('exec', name, 'echo', 'inside')).toBe('inside');
  };

  beforeAll(async () => {
    host = await startDockerHost('gantryd', { ...setup, args: [...setup.args, '--live-restore'] });
  }, TIMEOUT_MS);

  afterEach(async () => {
    const names = (await docker('ps', '-aq')).split('\n').filter(Boolean);
    if (names.length > 0) await docker('rm', '-f', ...names);
  }, TIMEOUT_MS);

  afterAll(async () => {
    await host?.destroy();
  }, TIMEOUT_MS);

  test(
    'gantryd is killed and comes back: containers and their output go on',
    async () => {
      await start('runs');
      const before = await pid('runs');

      await host.daemon.stop('SIGKILL');
      await host.daemon.start();

      await waitFor('an exec', async () => (await host.dockerd.call('exec', 'runs', 'true')).exitCode === 0);
      await goesOn('runs');
      expect(await pid('runs')).toBe(before);
      await end(before, 7);
      await waitFor('its exit in docker', async () => (await state('runs')) === 'exited 7 0');
    },
    TIMEOUT_MS,
  );

  test(
    'gantryd is away when containers end: docker learns their true status, and restart policies act',
    async () => {
      await start('ends');
      await start('again', '--restart', 'on-failure:1');
      const pids = [await pid('ends'), await pid('again')] as const;

      await host.daemon.stop('SIGKILL');
      await end(pids[0], 9);
      await end(pids[1], 8);
      await host.daemon.start();

      await waitFor('its exit in docker', async () => (await state('ends')) === 'exited 9 0');
      await waitFor('its restart by docker', async () => (await state('again')).endsWith(' 1'));
    },
    TIMEOUT_MS,
  );

  test(
    'dockerd is killed and comes back: containers and their output go on',
    async () => {
      await start('runs');
      const before = await pid('runs');

      await host.dockerd.stop('SIGKILL');
      await host.dockerd.start();

      expect(await state('runs')).toBe('running 0 0');
      await goesOn('runs');
      expect(await pid('runs')).toBe(before);
      await docker('stop', '-t', '0', 'runs');
      expect(await state('runs')).toBe('exited 137 0');
    },
    TIMEOUT_MS,
  );

  test(
    'dockerd is away when containers end: it learns their true status, and restart policies act',
    async () => {
      await start('ends');
      await start('again', '--restart', 'always');
      const pids = [await pid('ends'), await pid('again')] as const;

      await host.dockerd.stop('SIGKILL');
      await end(pids[0], 9);
      await end(pids[1], 8);
      await host.dockerd.start();

      await waitFor('its exit in docker', async () => (await state('ends')) === 'exited 9 0');
      await waitFor(
        'its restart by docker',
        async () => (await pid('again')) !== pids[1] && (await pid('again')) !== '0',
      );
      expect(await state('again')).toMatch(/^running /);
    },
    TIMEOUT_MS,
  );

  test(
    'both are killed, and a container ends meanwhile',
    async () => {
      await start('ends');
      await start('runs');
      const pids = [await pid('ends'), await pid('runs')] as const;

      await host.dockerd.stop('SIGKILL');
      await host.daemon.stop('SIGKILL');
      await end(pids[0], 5);
      await host.daemon.start();
      await host.dockerd.start();

      await waitFor('its exit in docker', async () => (await state('ends')) === 'exited 5 0');
      await goesOn('runs');
      expect(await pid('runs')).toBe(pids[1]);
    },
    TIMEOUT_MS,
  );
});

function isRunning(pid: string): boolean {
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch {
    return false;
  }
}
