// What gantry-runtime promises beyond the contract of OCI runtimes: callers that die, that come at the same time, or that
// find a pid in use again; terminals and signals in the foreground; an ordinary user; and its own commands.

import { spawn } from 'node:child_process';
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { mustRun, runCommand, waitFor } from '../../setup/command';
import { describeUnless, needsFile } from '../../setup/needs';
import { OciCommand } from '../../suites/oci-command';
import { cgroupsOf } from '../../suites/runtime-bench';
import { missingForContainers } from '../../suites/runtime-bundle';
import { GANTRY_RUNTIME } from './engine';

const USER = 1000;
const PROGRAM_TIMEOUT_MS = 60_000;

describeUnless(missingForContainers() ?? needsFile(GANTRY_RUNTIME, 'make build'))('gantry-runtime', () => {
  let command: OciCommand;
  beforeEach(() => {
    command = new OciCommand(GANTRY_RUNTIME);
  });
  afterEach(() => command.clean());

  const stateFile = (id: string) => path.join(command.directory, 'state', id, 'state.json');

  test('create that is killed half way leaves what delete --force removes', async () => {
    const mark = path.join(command.directory, 'mark');
    const { id, path: bundle } = command.prepare(['true'], (spec) => {
      const args = ['sh', '-c', `echo $PPID > ${mark}; sleep 1000`];
      spec.hooks = { createRuntime: [{ path: '/bin/sh', args, env: ['PATH=/usr/bin:/bin'] }] } as never;
    });
    const argv = command.argv('create', '--bundle', bundle, id);
    const child = spawn(argv[0]!, argv.slice(1), { stdio: 'ignore' });
    await waitFor('the hook', () => existsSync(mark) && readFileSync(mark, 'utf8') !== '');
    expect((await command.state(id)).status).toBe('creating');
    const ended = new Promise((resolve) => child.on('exit', resolve));
    child.kill('SIGKILL');
    await ended;

    await command.must('delete', '--force', id);
    expect(await command.must('list', '--quiet')).toBe('');
    expect(cgroupsOf(command.bundle.name)).toEqual([]);
  });

  test('of two that create the same id, or start the same container, one succeeds', async () => {
    const { id, path: bundle } = command.prepare(['sleep', '1000']);
    const created = await Promise.all([1, 2, 3].map(() => command.detached('create', '--bundle', bundle, id)));
    expect(created.filter(({ code }) => code === 0)).toHaveLength(1);

    const started = await Promise.all([1, 2, 3].map(() => command.call('start', id)));
    expect(started.filter(({ exitCode }) => exitCode === 0)).toHaveLength(1);
    expect((await command.state(id)).status).toBe('running');
  });

  test('a pid that belongs to another process by now is never signalled', async () => {
    const id = await command.running(['true']);
    await command.waitForStatus(id, 'stopped');
    const other = spawn('sleep', ['1000'], { stdio: 'ignore' });
    try {
      const state = JSON.parse(readFileSync(stateFile(id), 'utf8')) as object;
      writeFileSync(stateFile(id), JSON.stringify({ ...state, pid: other.pid }));

      expect((await command.state(id)).status).toBe('stopped');
      expect((await command.call('kill', id, 'KILL')).stderr).toContain('container not running');
      await command.must('delete', '--force', id);
      expect(existsSync(`/proc/${other.pid}`)).toBe(true);
      expect(other.exitCode ?? other.signalCode).toBeNull();
    } finally {
      other.kill('SIGKILL');
    }
  });

  test('only its owner may look into the state of a container', async () => {
    const { id } = await command.create(['true']);
    const directory = path.dirname(stateFile(id));

    expect(readdirSync(directory).sort()).toEqual(['config.json', 'start.sock', 'state.json']);
    for (const file of ['.', 'config.json', 'state.json']) {
      expect(await mustRun(['stat', '-c', '%a', path.join(directory, file)])).toMatch(/^[67]00\n$/);
    }
    await command.must('start', id);
    expect(existsSync(path.join(directory, 'start.sock'))).toBe(false);
  });

  test('a container does not hold files of its caller', async () => {
    const { id, path: bundle } = command.prepare(['sleep', '1000']);
    const argv = command.argv('run', '--detach', '--bundle', bundle, id);
    await runCommand(['sh', '-c', 'exec "$@" 5</etc/passwd 6</dev/zero </dev/null >/dev/null 2>&1', 'sh', ...argv]);

    const { pid } = await command.state(id);
    expect(readdirSync(`/proc/${pid}/fd`).sort()).toEqual(['0', '1', '2']);
  });

  describe('in the foreground', () => {
    test('run joins our terminal with the one of the process', async () => {
      const { id, path: bundle } = command.prepare(
        ['sh', '-c', 'stty size; read line; echo "got $line"; tty; exit 5'],
        (spec) => {
          spec.process.terminal = true;
        },
      );
      const line = command.argv('run', '--bundle', bundle, id).join(' ');
      // script(1) gives its child a terminal, and echoes what that writes.
      const script = `stty rows 33 cols 99; ${line}`;
      const { stdout, exitCode } = await runCommand(['script', '-qec', script, '/dev/null'], {
        stdin: 'typed\n',
        timeoutMs: PROGRAM_TIMEOUT_MS,
      });

      expect(exitCode).toBe(5);
      expect(stdout).toContain('33 99\r\n');
      expect(stdout).toContain('got typed\r\n');
    });

    test('exec has a terminal of its own', async () => {
      const id = await command.running();
      const line = command.argv('exec', '--tty', id, 'sh', '-c', '"tty; exit 6"').join(' ');
      const { stdout, exitCode } = await runCommand(['script', '-qec', line, '/dev/null'], { stdin: '' });

      expect(exitCode).toBe(6);
      expect(stdout).toMatch(/\/dev\/pts\/0\r\n/);
    });

    test('run passes signals on', async () => {
      const { id, path: bundle } = command.prepare([
        'sh',
        '-c',
        'trap "exit 44" TERM; trap "echo > /usr1" USR1; echo > /ready; while :; do sleep 0.05; done',
      ]);
      const argv = command.argv('run', '--bundle', bundle, id);
      const child = spawn(argv[0]!, argv.slice(1), { stdio: 'ignore' });
      const ended = new Promise((resolve) => child.on('exit', resolve));
      const inside = (file: string) => existsSync(path.join(command.bundle.rootfs, file));
      await waitFor('the traps', () => inside('ready'));
      child.kill('SIGUSR1');
      await waitFor('the first', () => inside('usr1'));
      child.kill('SIGTERM');

      expect(await ended).toBe(44);
      expect(await command.must('list', '--quiet')).toBe('');
    });
  });

  test('passes the sockets of socket activation on, and says so', async () => {
    const { id, path: bundle } = command.prepare(['sh', '-c', 'echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4']);
    const files = ['one', 'two'].map((name) => {
      const file = path.join(command.directory, name);
      writeFileSync(file, `${name}\n`);
      return file;
    });
    const argv = command.argv('run', '--preserve-fds', '1', '--bundle', bundle, id);
    const script = 'exec 3<"$1" 4<"$2"; shift 2; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"';

    expect(await mustRun(['sh', '-c', script, 'sh', ...files, ...argv])).toBe('1 1\none\ntwo\n');
  });

  test('refuses to pass a descriptor that is not open', async () => {
    const { id, path: bundle } = command.prepare(['true']);

    expect((await command.call('run', '--preserve-fds', '3', '--bundle', bundle, id)).stderr).toContain('preserved-fd');
  });

  describe('for an ordinary user', () => {
    test('spec --rootless runs, with exec, kill and delete', async () => {
      const home = path.join(command.directory, 'user');
      mkdirSync(home);
      cpSync(command.bundle.rootfs, path.join(home, 'rootfs'), { recursive: true, verbatimSymlinks: true });
      await mustRun(['chown', '-R', `${USER}:${USER}`, home]);
      chmodSync(command.directory, 0o755);
      chownSync(home, USER, USER);
      const user = ['setpriv', '--reuid', `${USER}`, '--regid', `${USER}`, '--clear-groups'];
      const env = { PATH: '/usr/bin:/bin', XDG_RUNTIME_DIR: home };
      const call = (...args: string[]) => runCommand([...user, GANTRY_RUNTIME, ...args], { env, cwd: home });
      await call('spec', '--rootless');
      const config = path.join(home, 'config.json');
      const spec = JSON.parse(readFileSync(config, 'utf8')) as { process: object };
      const write = (args: string[]) =>
        writeFileSync(config, JSON.stringify({ ...spec, process: { ...spec.process, terminal: false, args } }));

      write(['sh', '-c', 'id -u; id -g; exit 4']);
      expect(await call('run', 'one')).toMatchObject({ exitCode: 4, stdout: '0\n0\n' });
      write(['sleep', '1000']);
      const child = spawn(user[0]!, [...user.slice(1), GANTRY_RUNTIME, 'run', '--detach', 'two'], {
        stdio: 'ignore',
        env,
        cwd: home,
      });
      expect(await new Promise((resolve) => child.on('exit', resolve))).toBe(0);
      expect((await call('exec', 'two', 'id', '-u')).stdout).toBe('0\n');
      expect((await call('kill', 'two', 'KILL')).exitCode).toBe(0);
      await waitFor('its end', async () => (await call('list')).stdout.includes('stopped'));
      expect((await call('delete', 'two')).exitCode).toBe(0);
      expect((await call('list', '--quiet')).stdout).toBe('');
    });
  });

  test('explain prints the plan of a bundle and makes nothing', async () => {
    const { path: bundle } = command.prepare(['echo', 'hi']);
    const plan = JSON.parse(await command.must('explain', '--bundle', bundle)) as { operations: { op: string }[] };

    expect(plan.operations.at(-1)).toMatchObject({ op: 'execute', args: ['echo', 'hi'] });
    expect(plan.operations.map(({ op }) => op)).toEqual(expect.arrayContaining(['enterRoot', 'mask', 'capabilities']));
    expect(await command.must('list', '--quiet')).toBe('');
    expect(cgroupsOf(command.bundle.name)).toEqual([]);
  });

  test('features and spec agree with what the runtime takes', async () => {
    const features = JSON.parse(await command.must('features')) as {
      ociVersionMax: string;
      linux: { namespaces: string[]; seccomp: { actions: string[] } };
    };
    const directory = path.join(command.directory, 'example');
    mkdirSync(path.join(directory, 'rootfs'), { recursive: true });
    await command.must('spec', '--bundle', directory);

    expect(features.linux.namespaces).toEqual(expect.arrayContaining(['cgroup', 'mount', 'pid', 'user']));
    expect(features.linux.seccomp.actions).toContain('SCMP_ACT_ERRNO');
    expect(JSON.parse(readFileSync(path.join(directory, 'config.json'), 'utf8'))).toMatchObject({
      ociVersion: features.ociVersionMax,
    });
    expect(JSON.parse(await command.must('explain', '--bundle', directory))).toHaveProperty('operations');
  });

  test('events prints what a container uses', async () => {
    const id = await command.running(['sleep', '1000'], (spec) => {
      spec.linux.resources = { memory: { limit: 2 ** 26 }, pids: { limit: 33 } } as never;
    });
    const event = JSON.parse(await command.must('events', '--stats', id)) as object;

    expect(event).toMatchObject({
      type: 'stats',
      id,
      data: {
        cpu: { usage: { total: expect.any(Number) } },
        memory: { usage: { limit: 2 ** 26, usage: expect.any(Number) } },
        pids: { current: 1, limit: 33 },
      },
    });
  });
});
