// dockerd and gantryd are stopped, killed, replaced and started again under running containers of docker: they run on, their
// output comes, and what ended meanwhile has its true status afterwards. containerd forgets such exits, so there is a peer only
// where docker itself ends its containers.

import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PROJECT_ROOT } from '../../setup/cache';
import { runCommand, waitFor } from '../../setup/command';
import { describeUnless, needsRoot } from '../../setup/needs';
import { type DockerHost, startDockerHost } from './host';
import { COMPLETE_SETUPS } from './setups';

const TIMEOUT_MS = 300_000;
const WAIT_MS = 120_000;
const IMAGE = 'test/busybox';
/** Prints a line for each round and keeps their number in /dev/shm/count, until /dev/shm/end holds an exit status. */
const COUNTING =
  'i=0; while [ ! -e /dev/shm/end ]; do i=$((i+1)); echo $i > /dev/shm/count; echo line $i; sleep 0.1; done; ' +
  'exit $(cat /dev/shm/end)';

describeUnless(needsRoot()).each(COMPLETE_SETUPS)('$name with --live-restore', (setup) => {
  jest.setTimeout(TIMEOUT_MS);
  let host: DockerHost;
  let installations: Installations;
  const docker = (...args: readonly string[]) => host.dockerd.must(args);
  /** A command of a client that may outlive a daemon. */
  const client = (...args: readonly string[]) => runCommand(host.dockerd.command(args), { timeoutMs: WAIT_MS });
  const start = async (name: string, ...flags: readonly string[]) => {
    await docker('run', '-d', '--name', name, ...flags, IMAGE, 'sh', '-c', COUNTING);
    const started = await pid(name);
    await waitFor('a round', () => existsSync(inside(started, 'count')));
  };
  const state = (name: string) =>
    docker('inspect', '--format', '{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}', name);
  const becomes = (name: string, expected: string) =>
    waitFor(`${name}: ${expected}`, async () => (await state(name)) === expected, WAIT_MS);
  const pid = (name: string) => docker('inspect', '--format', '{{.State.Pid}}', name);
  const pidWhenStarted = (name: string) =>
    waitFor(`a process of ${name}`, async () => {
      const { exitCode, stdout } = await client('inspect', '--format', '{{.State.Pid}}', name);
      return exitCode === 0 && stdout.trim() !== '0' && stdout.trim();
    });
  const lines = async (name: string) => (await docker('logs', name)).split('\n');
  const goesOn = async (name: string) => {
    const before = (await lines(name)).length;
    await waitFor(`more output of ${name}`, async () => (await lines(name)).length > before);
    expect(await docker('exec', name, 'echo', 'inside')).toBe('inside');
  };

  beforeAll(async () => {
    installations = new Installations();
    process.env['GANTRYD'] = installations.program;
    host = await startDockerHost('gantryd', { ...setup, args: [...setup.args, '--live-restore'] });
  });

  afterEach(async () => {
    const names = (await docker('ps', '-aq')).split('\n').filter(Boolean);
    if (names.length > 0) await docker('rm', '-f', ...names);
  });

  afterAll(async () => {
    await host?.destroy();
    delete process.env['GANTRYD'];
    installations?.remove();
  });

  test.each(['SIGTERM', 'SIGKILL'] as const)(
    'gantryd ends with %s and comes back: clients notice nothing',
    async (signal) => {
      await start('runs');
      const before = await pid('runs');
      const logs = client('logs', '--follow', 'runs');
      const front = client('run', '--name', 'front', IMAGE, 'sh', '-c', COUNTING);
      const waits = 'touch /dev/shm/waits; until [ -e /dev/shm/go ]; do sleep 0.1; done; echo gone; exit 6';
      const exec = client('exec', 'runs', 'sh', '-c', waits);
      const frontPid = await pidWhenStarted('front');
      await waitFor('the exec', () => existsSync(inside(before, 'waits')));

      await host.daemon.stop(signal);
      const count = countOf(before);
      await waitFor('more rounds', () => countOf(before) > count + 3);
      writeFileSync(inside(before, 'go'), '');
      await end(frontPid, 4);
      await host.daemon.start();

      expect(await exec).toEqual({ exitCode: 6, stdout: 'gone\n', stderr: '' });
      const ofFront = await front;
      expect(ofFront.exitCode).toBe(4);
      expectAllLines(ofFront.stdout);
      await goesOn('runs');
      expect(await pid('runs')).toBe(before);
      await end(before, 7);
      await becomes('runs', 'exited 7 0');
      expectAllLines((await logs).stdout);
    },
  );

  test('gantryd is away when containers end: docker learns their true status, and restart policies act', async () => {
    await start('ends');
    await start('again', '--restart', 'on-failure:1');
    await start('succeeds', '--restart', 'on-failure:1');
    const names = ['ends', 'again', 'succeeds'] as const;
    const [ends, again, succeeds] = await Promise.all(names.map(pid));
    const waiting = client('wait', 'ends');

    await host.daemon.stop('SIGKILL');
    await end(ends!, 9);
    await end(again!, 8);
    await end(succeeds!, 0);
    await host.daemon.start();

    await becomes('ends', 'exited 9 0');
    expect((await waiting).stdout).toBe('9\n');
    await becomes('again', 'running 0 1');
    await becomes('succeeds', 'exited 0 0');
  });

  test('gantryd is away when a container runs out of memory: docker knows why it ended', async () => {
    const greed = 'until [ -e /dev/shm/go ]; do sleep 0.1; done; x=a; while :; do x=$x$x; done';
    await docker('run', '-d', '--name', 'greedy', '-m', '16m', '--memory-swap', '16m', IMAGE, 'sh', '-c', greed);
    const greedy = await pid('greedy');

    await host.daemon.stop('SIGKILL');
    writeFileSync(inside(greedy, 'go'), '');
    await waitFor('the end of the container', () => !isRunning(greedy));
    await host.daemon.start();

    await becomes('greedy', 'exited 137 0');
    expect(await docker('inspect', '--format', '{{.State.OOMKilled}}', 'greedy')).toBe('true');
  });

  test('gantryd is replaced by another installation: containers of the old one are as before', async () => {
    await start('runs');
    await start('sleeps');
    await start('ends');
    const names = ['runs', 'sleeps', 'ends'] as const;
    const [runs, sleeps, ends] = await Promise.all(names.map(pid));
    await docker('pause', 'sleeps');

    await host.daemon.stop();
    await end(ends!, 3);
    installations.replace();
    await host.daemon.start();

    await becomes('ends', 'exited 3 0');
    await goesOn('runs');
    expect(await state('sleeps')).toBe('paused 0 0');
    await docker('unpause', 'sleeps');
    await goesOn('sleeps');
    expect([await pid('runs'), await pid('sleeps')]).toEqual([runs, sleeps]);
    await docker('restart', '-t', '0', 'runs');
    await goesOn('runs');
    await docker('stop', '-t', '0', 'sleeps');
    expect(await state('sleeps')).toBe('exited 137 0');
    expectAllLines(await docker('logs', 'sleeps'));
  });

  test.each(['SIGTERM', 'SIGKILL'] as const)(
    'dockerd ends with %s and comes back: no line of output is lost',
    async (signal) => {
      await start('runs');
      const before = await pid('runs');

      await host.dockerd.stop(signal);
      const count = countOf(before);
      await waitFor('more rounds', () => countOf(before) > count + 3);
      await host.dockerd.start();

      expect(await state('runs')).toBe('running 0 0');
      await goesOn('runs');
      expect(await pid('runs')).toBe(before);
      expectAllLines(await docker('logs', 'runs'));
      await docker('stop', '-t', '0', 'runs');
      expect(await state('runs')).toBe('exited 137 0');
    },
  );

  test('dockerd is away when containers end: it learns their true status, and restart policies act', async () => {
    await start('ends');
    await start('again', '--restart', 'always');
    const [ends, again] = [await pid('ends'), await pid('again')];

    await host.dockerd.stop('SIGKILL');
    await end(ends, 9);
    await end(again, 8);
    await host.dockerd.start();

    await becomes('ends', 'exited 9 0');
    await waitFor('its restart by docker', async () => ![again, '0'].includes(await pid('again')));
    expect(await state('again')).toMatch(/^running /);
  });

  test('both are killed, and containers end meanwhile', async () => {
    await start('ends');
    await start('again', '--restart', 'unless-stopped');
    await start('runs');
    const [ends, again, runs] = [await pid('ends'), await pid('again'), await pid('runs')];

    await host.dockerd.stop('SIGKILL');
    await host.daemon.stop('SIGKILL');
    await end(ends, 5);
    await end(again, 6);
    const count = countOf(runs);
    await waitFor('more rounds', () => countOf(runs) > count + 3);
    await host.daemon.start();
    await host.dockerd.start();

    await becomes('ends', 'exited 5 0');
    await waitFor('its restart by docker', async () => ![again, '0'].includes(await pid('again')));
    await goesOn('runs');
    expect(await pid('runs')).toBe(runs);
    expectAllLines(await docker('logs', 'runs'));
  });
});

describeUnless(needsRoot()).each(['containerd', 'gantryd'] as const)('docker without --live-restore on %s', (kind) => {
  jest.setTimeout(TIMEOUT_MS);
  const POLICIES = ['no', 'on-failure', 'unless-stopped', 'always'] as const;
  let host: DockerHost;

  beforeAll(async () => {
    host = await startDockerHost(kind, { version: '20.10.24', args: ['--storage-driver', 'overlay2'] });
  });

  afterAll(async () => {
    await host?.destroy();
  });

  // A container that was killed has failed, whoever killed it; what dockerd kills when it comes back counts as stopped.
  const RESTARTED = ['always', 'always-stopped', 'on-failure', 'on-failure-stopped'];
  test.each([
    { signal: 'SIGTERM', running: [...RESTARTED, 'unless-stopped'] },
    { signal: 'SIGKILL', running: RESTARTED },
  ] as const)('dockerd ends with $signal: containers end, and policies start them', async ({ signal, running }) => {
    const docker = (...args: readonly string[]) => host.dockerd.must(args);
    const stopped = POLICIES.map((policy) => `${policy}-stopped`);
    for (const policy of POLICIES) {
      for (const name of [policy, `${policy}-stopped`]) {
        await docker('run', '-d', '--name', name, '--restart', policy, IMAGE, 'sh', '-c', COUNTING);
      }
    }
    await docker('stop', '-t', '0', ...stopped);

    await host.dockerd.stop(signal);
    await host.dockerd.start();

    const names = async () => (await docker('ps', '--format', '{{.Names}}')).split('\n').sort();
    await waitFor('the containers that shall run', async () => (await names()).join() === running.join(), WAIT_MS);
    expect(await docker('inspect', '--format', '{{.State.Status}} {{.State.ExitCode}}', 'no')).toBe('exited 137');
    await docker('rm', '-f', ...POLICIES, ...stopped);
  });
});

/** Installations of gantryd, of which one is in use, by the path of its program that stays the same. */
class Installations {
  readonly #directory = mkdtempSync(path.join(tmpdir(), 'gantry-installations-'));
  readonly program = path.join(this.#directory, 'current', 'dist', 'bin', 'gantryd');
  #number = 0;

  constructor() {
    this.#install();
  }

  /** Removes the old one. */
  replace(): void {
    const old = this.#current;
    this.#number += 1;
    rmSync(path.join(this.#directory, 'current'));
    this.#install();
    rmSync(old, { recursive: true });
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  get #current(): string {
    return path.join(this.#directory, String(this.#number));
  }

  #install(): void {
    const [from, to] = [path.join(PROJECT_ROOT, 'dist'), path.join(this.#current, 'dist')];
    cpSync(from, to, { recursive: true, verbatimSymlinks: true, filter: (file) => file !== path.join(from, 'test') });
    symlinkSync(path.join(PROJECT_ROOT, 'node_modules'), path.join(this.#current, 'node_modules'));
    symlinkSync(this.#current, path.join(this.#directory, 'current'));
  }
}

/** A file in /dev/shm of a container, from outside: no daemon is asked. */
function inside(pid: string, name: string): string {
  return `/proc/${pid}/root/dev/shm/${name}`;
}

function countOf(pid: string): number {
  return Number(readFileSync(inside(pid, 'count'), 'utf8'));
}

async function end(pid: string, exitCode: number): Promise<void> {
  writeFileSync(inside(pid, 'end'), String(exitCode));
  await waitFor('the end of the container', () => !isRunning(pid));
}

/** Every line of COUNTING is there, in order, and once. */
function expectAllLines(output: string): void {
  const found = output.trimEnd().split('\n');
  expect(found).toEqual(found.map((_, index) => `line ${index + 1}`));
}

function isRunning(pid: string): boolean {
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch {
    return false;
  }
}
