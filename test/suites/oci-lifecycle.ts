// The contract of an OCI runtime's command line: states, and what each of them allows (runtime-spec runtime.md).

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand, waitFor } from '../setup/command';
import type { OciCommand } from './oci-command';

export function lifecycleCases(command: () => OciCommand): void {
  test('create makes a process that does not run the program yet', async () => {
    const { id, path } = await command().create(['sh', '-c', 'echo ran > /ran; sleep 1000']);

    const state = await command().state(id);
    expect(state).toMatchObject({ id, status: 'created', bundle: path });
    expect(state.ociVersion).toMatch(/^1\.\d+\.\d+/);
    expect(existsSync(`/proc/${state.pid}`)).toBe(true);
    expect(existsSync(join(command().bundle.rootfs, 'ran'))).toBe(false);
  });

  test('start runs the program, once', async () => {
    const { id } = await command().create(['sh', '-c', 'echo ran >> /ran; sleep 1000']);
    const { pid } = await command().state(id);
    await command().must('start', id);

    const ran = join(command().bundle.rootfs, 'ran');
    await waitFor('the program', () => existsSync(ran) && readFileSync(ran, 'utf8') !== '');
    expect(await command().state(id)).toMatchObject({ status: 'running', pid });
    expect((await command().call('start', id)).exitCode).not.toBe(0);
    expect((await command().state(id)).status).toBe('running');
    expect(readFileSync(ran, 'utf8')).toBe('ran\n');
  });

  test('a container whose process has ended is stopped', async () => {
    const id = await command().running(['true']);

    await command().waitForStatus(id, 'stopped');
    expect((await command().call('start', id)).exitCode).not.toBe(0);
    expect((await command().call('kill', id, 'TERM')).exitCode).not.toBe(0);
    expect((await command().call('exec', id, 'true')).exitCode).not.toBe(0);
    expect((await command().call('pause', id)).exitCode).not.toBe(0);
  });

  test('delete removes what has stopped, and all of it', async () => {
    const id = await command().running(['true']);
    await command().waitForStatus(id, 'stopped');
    await command().must('delete', id);

    expect((await command().call('state', id)).exitCode).not.toBe(0);
    expect((await command().call('delete', id)).exitCode).not.toBe(0);
    expect(await command().must('list', '--quiet')).toBe('');
  });

  test('delete leaves alone what runs, unless it is forced', async () => {
    const id = await command().running();
    const { pid } = await command().state(id);

    expect((await command().call('delete', id)).exitCode).not.toBe(0);
    expect((await command().state(id)).status).toBe('running');
    await command().must('delete', '--force', id);
    await waitFor('the end of the process', () => !isRunning(pid));
    expect((await command().call('state', id)).exitCode).not.toBe(0);
  });

  test('delete --force removes what was created, and what is paused', async () => {
    const created = await command().create(['true']);
    const paused = await command().running();
    await command().must('pause', paused);

    await command().must('delete', '--force', created.id);
    await command().must('delete', '--force', paused);
    expect(await command().must('list', '--quiet')).toBe('');
  });

  test('an id is taken until it is deleted, and free again afterwards', async () => {
    const { id, path } = await command().create(['true']);

    const second = await command().detached('create', '--bundle', path, id);
    expect(second.code).not.toBe(0);
    expect(second.log).toContain('exist');
    expect((await command().state(id)).status).toBe('created');
    await command().must('delete', '--force', id);
    expect((await command().detached('create', '--bundle', path, id)).code).toBe(0);
  });

  test.each(['state', 'start', 'kill', 'delete', 'pause', 'resume', 'ps'])(
    '%s of what does not exist fails and says so',
    async (operation) => {
      const { exitCode, stdout, stderr } = await command().call(operation, 'no-such-container');

      expect(exitCode).not.toBe(0);
      expect(stdout).toBe('');
      expect(stderr).toMatch(/does not exist|No such file/);
    },
  );

  test.each(['state', 'start', 'delete', 'create', 'pause'])('%s without an id fails', async (operation) => {
    expect((await command().call(operation)).exitCode).not.toBe(0);
  });

  test.each(['../up', 'a/b', '', '.', '..'])('create refuses the id %j', async (id) => {
    const { path } = command().prepare(['true']);

    expect((await command().detached('create', '--bundle', path, id)).code).not.toBe(0);
    expect(await command().must('list', '--quiet')).toBe('');
  });

  test('create without a bundle, a configuration or a root leaves nothing behind', async () => {
    const noRoot = command().prepare(['true'], (spec) => {
      spec.root.path = '/no/such/root';
    });
    const garbled = command().prepare(['true']);
    writeFileSync(join(garbled.path, 'config.json'), '{');

    for (const path of ['/no/such/bundle', command().bundle.path, noRoot.path, garbled.path]) {
      expect((await command().detached('create', '--bundle', path, 'nothing')).code).not.toBe(0);
    }
    expect(await command().must('list', '--quiet')).toBe('');
  });

  test('the state has the annotations', async () => {
    const { id } = await command().create(['true'], (spec) => {
      spec.annotations = { 'org.example.key': 'value', empty: '' } as never;
    });

    expect((await command().state(id)).annotations).toMatchObject({ 'org.example.key': 'value', empty: '' });
  });

  test('the pid file holds the pid of the state', async () => {
    const { id, path } = command().prepare(['true']);
    const file = join(path, 'pid');
    await command().detached('create', '--bundle', path, '--pid-file', file, id);

    expect(readFileSync(file, 'utf8').trim()).toBe(String((await command().state(id)).pid));
  });

  test('list shows the containers', async () => {
    const id = await command().running();
    const { pid } = await command().state(id);

    expect(await command().must('list', '--quiet')).toBe(`${id}\n`);
    const listed = JSON.parse(await command().must('list', '--format', 'json')) as unknown[];
    expect(listed).toEqual([expect.objectContaining({ id, pid, status: 'running' })]);
    expect(await command().must('list')).toMatch(new RegExp(`^(ID|NAME) .*\\n${id} +${pid} +running `));
  });

  describe('kill', () => {
    test.each(['KILL', 'SIGKILL', '9'])('takes the signal %s', async (signal) => {
      const id = await command().running();
      await command().must('kill', id, signal);

      await command().waitForStatus(id, 'stopped');
    });

    test('sends TERM if nothing is said', async () => {
      const id = await command().running([
        'sh',
        '-c',
        'trap "exit 0" TERM; echo > /ready; while :; do sleep 0.05; done',
      ]);
      await waitFor('the trap', () => existsSync(join(command().bundle.rootfs, 'ready')));
      await command().must('kill', id);

      await command().waitForStatus(id, 'stopped');
    });

    test('ends a container that has not been started', async () => {
      const { id } = await command().create(['true']);
      await command().must('kill', id, 'KILL');

      await command().waitForStatus(id, 'stopped');
      await command().must('delete', id);
    });

    test('with --all reaches every process', async () => {
      const id = await command().running(['sh', '-c', 'sleep 1000 & sleep 1000 & wait']);
      await waitFor('three processes', async () => (await pidsOf(command(), id)).length === 3);
      const pids = await pidsOf(command(), id);
      await command().must('kill', '--all', id, 'KILL');

      await waitFor('their end', () => pids.every((pid) => !isRunning(pid)));
    });
  });

  describe('pause and resume', () => {
    test('freeze the processes and let them go on', async () => {
      const id = await command().running(['sh', '-c', 'while :; do echo >> /ticks; sleep 0.01; done']);
      const ticks = join(command().bundle.rootfs, 'ticks');
      await waitFor('the first tick', () => existsSync(ticks));
      await command().must('pause', id);
      expect((await command().state(id)).status).toBe('paused');
      const before = readFileSync(ticks).length;
      await command().must('resume', id);

      expect((await command().state(id)).status).toBe('running');
      await waitFor('a tick', () => readFileSync(ticks).length > before);
    });
  });

  describe('run', () => {
    test('passes output, input and the exit code through and leaves nothing', async () => {
      const { id, path } = command().prepare(['sh', '-c', 'cat; echo err >&2; exit 7']);
      const result = await runCommand(command().argv('run', '--bundle', path, id), { stdin: 'input' });

      expect(result).toEqual({ exitCode: 7, stdout: 'input', stderr: 'err\n' });
      expect(await command().must('list', '--quiet')).toBe('');
    });

    test('exits with 128 and the signal that ended the process', async () => {
      expect(
        (
          await command().run(['sh', '-c', 'kill -9 $$'], (spec) => {
            spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'pid');
          })
        ).exitCode,
      ).toBe(137);
    });

    test('--detach leaves a running container', async () => {
      const { id, path } = command().prepare(['sleep', '1000']);
      const file = join(path, 'pid');
      expect((await command().detached('run', '--detach', '--bundle', path, '--pid-file', file, id)).code).toBe(0);

      expect(await command().state(id)).toMatchObject({ status: 'running', pid: Number(readFileSync(file, 'utf8')) });
    });

    test('--detach with a terminal needs a console socket', async () => {
      const { id, path } = command().prepare(['true'], (spec) => {
        spec.process.terminal = true;
      });

      expect((await command().detached('run', '--detach', '--bundle', path, id)).code).not.toBe(0);
      expect((await command().detached('create', '--bundle', path, id)).code).not.toBe(0);
      expect(await command().must('list', '--quiet')).toBe('');
    });
  });
}

/** By the host's numbers. */
export async function pidsOf(command: OciCommand, id: string): Promise<number[]> {
  return JSON.parse(await command.must('ps', '--format', 'json', id)) as number[];
}

/** Not when only its exit status is left. */
function isRunning(pid: number | undefined): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
