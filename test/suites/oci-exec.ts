// The contract of an OCI runtime's command line: further processes in a container.

import { closeSync, mkdirSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '../../proto/errors';
import { hostLayout } from '../../runtime-native/cgroup/layout';
import { ConsoleSocket } from '../../runtime-native/console-socket';
import { runCommand, waitFor } from '../setup/command';
import type { OciCommand } from './oci-command';
import type { KnownDeviations } from './oci-command.suite';
import { pidsOf } from './oci-lifecycle';

export function execCases(command: () => OciCommand, known: KnownDeviations): void {
  test('passes input, output and the exit code through', async () => {
    const id = await command().running();
    const argv = command().argv('exec', id, 'sh', '-c', 'cat; echo err >&2; exit 9');

    expect(await runCommand(argv, { stdin: 'in' })).toEqual({ exitCode: 9, stdout: 'in', stderr: 'err\n' });
  });

  test('takes flags of ours before the id only', async () => {
    const id = await command().running();

    expect(await command().must('exec', id, 'echo', '--detach', '-t', '--')).toBe('--detach -t --\n');
  });

  test('is in the namespaces and the root of the container', async () => {
    const id = await command().running();
    const own = await command().must(
      'exec',
      id,
      'sh',
      '-c',
      'for n in pid mnt net ipc uts; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done; hostname; ls -d /not-executable',
    );
    const links = own.trim().split('\n');

    expect(links.slice(-2)).toEqual(['box', '/not-executable']);
    for (let at = 0; at < 10; at += 2) expect(links[at]).toBe(links[at + 1]);
  });

  test('--user, --cwd and --env say what they say', async () => {
    const id = await command().running();
    const script = 'echo $(id -u) $(id -g) $(pwd) $ONE $TWO';
    const flags = ['--user', '1000:2000', '--cwd', '/tmp', '--env', 'PATH=/bin', '--env', 'ONE=1', '--env', 'TWO=2'];

    expect(await command().must('exec', ...flags, id, 'sh', '-c', script)).toBe('1000 2000 /tmp 1 2\n');
  });

  test('--process takes the process from a file', async () => {
    const id = await command().running();
    const path = processFile({
      args: ['sh', '-c', 'echo $(id -u):$(id -g):$(id -G) $A $(pwd)'],
      env: ['PATH=/bin', 'A=b'],
      cwd: '/var',
      user: { uid: 5, gid: 6, additionalGids: [7, 8] },
    });

    expect(await command().must('exec', '--process', path, id)).toBe('5:6:6 7 8 b /var\n');
  });

  test('--detach leaves the process in the container and its pid in the file', async () => {
    const id = await command().running();
    const file = join(command().directory, 'pid');
    expect((await command().detached('exec', '--detach', '--pid-file', file, id, 'sleep', '500')).code).toBe(0);

    const pid = Number(readFileSync(file, 'utf8'));
    expect(await pidsOf(command(), id)).toContain(pid);
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toContain('500');
  });

  test('one that ends at once still has its exit code', async () => {
    const id = await command().running();
    const results = await Promise.all(
      Array.from({ length: 8 }, () => command().call('exec', id, 'sh', '-c', 'exit 9')),
    );

    expect(results).toEqual(results.map(() => ({ exitCode: 9, stdout: '', stderr: '' })));
  });

  if (!known.isCrun) groupCases(command);

  test('a program that is not there is a failure of its own', async () => {
    const id = await command().running();
    const { exitCode, stderr } = await command().call('exec', id, 'no-such-program');

    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(/no-such-program/);
    expect((await command().state(id)).status).toBe('running');
  });

  test('nothing can be executed in a paused container', async () => {
    const id = await command().running();
    await command().must('pause', id);

    expect((await command().call('exec', id, 'true')).exitCode).not.toBe(0);
  });

  test('ends with the container', async () => {
    const id = await command().running();
    const file = join(command().directory, 'pid');
    await command().detached('exec', '--detach', '--pid-file', file, id, 'sleep', '500');
    await command().must('kill', id, 'KILL');

    await command().waitForStatus(id, 'stopped');
    await waitFor('the end of the exec', () => !isAlive(Number(readFileSync(file, 'utf8'))));
  });

  test('--console-socket gets a terminal', async () => {
    const id = await command().running();
    const path = processFile({
      terminal: true,
      args: ['sh', '-c', 'tty; test -t 0 -a -t 2 && echo terminal'],
      env: ['PATH=/bin'],
      cwd: '/',
      user: { uid: 0, gid: 0 },
    });

    const output = await withTerminal((socket) =>
      command().detached('exec', '--detach', '--console-socket', socket, '--process', path, id),
    );
    expect(output).toMatch(/^\/dev\/(pts\/\d+|console)\r\nterminal\r\n$/);
  });

  test('--preserve-fds passes descriptors', async () => {
    const id = await command().running();
    const argv = command().argv('exec', '--preserve-fds', '1', id, 'sh', '-c', 'cat <&3; ls /proc/self/fd | wc -l');
    const script = `exec 3<<EOF\npassed\nEOF\nexec "$@"`;

    // The fourth is that of ls itself.
    expect((await runCommand(['sh', '-c', script, 'sh', ...argv])).stdout).toBe('passed\n5\n');
  });

  describe('of a container with a terminal', () => {
    test('create hands it over', async () => {
      const { id, path } = command().prepare(
        ['sh', '-c', 'tty; test -t 0 -a -t 1 -a -t 2 && echo terminal'],
        (spec) => {
          spec.process.terminal = true;
          spec.process.consoleSize = { height: 33, width: 99 };
        },
      );

      const output = await withTerminal(async (socket) => {
        const created = await command().detached('create', '--bundle', path, '--console-socket', socket, id);
        await command().must('start', id);
        return created;
      });
      expect(output).toMatch(/^\/dev\/(pts\/0|console)\r\nterminal\r\n$/);
    });
  });

  function processFile(process: object): string {
    const path = join(command().directory, 'process.json');
    writeFileSync(path, JSON.stringify(process));
    return path;
  }
}

/** Further processes in groups of their own below that of the container. */
function groupCases(command: () => OciCommand): void {
  describe('--cgroup', () => {
    const { version } = hostLayout();
    const below = (path: string, file: string) =>
      version === 2 ? join('/sys/fs/cgroup', path, file) : join('/sys/fs/cgroup/memory', path, file);
    const argument = (path: string) => (version === 2 ? path : `memory:${path}`);
    const withGroup = async () => {
      let path = '';
      const id = await command().running(['sleep', '1000'], (spec) => {
        path = spec.linux.cgroupsPath;
      });
      mkdirSync(below(path, 'sub'));
      return { id, path };
    };
    test('runs the process in a group below that of the container', async () => {
      const { id, path } = await withGroup();
      const file = join(command().directory, 'pid');
      const flags = ['--cgroup', argument('/sub'), '--detach', '--pid-file', file];
      expect(await command().detached('exec', ...flags, id, 'sleep', '500')).toMatchObject({ code: 0 });

      const pid = readFileSync(file, 'utf8');
      expect(readFileSync(below(path, 'sub/cgroup.procs'), 'utf8')).toBe(`${pid}\n`);
      expect(await pidsOf(command(), id)).toContain(Number(pid));
    });

    test.each(['none', '../none', '../../..'])('is refused for %j', async (place) => {
      const { id } = await withGroup();
      const { exitCode, stderr } = await command().call('exec', '--cgroup', argument(place), id, 'true');

      expect(exitCode).not.toBe(0);
      expect(stderr).toMatch(/no such file or directory|is not a sub cgroup path/i);
    });
  });
}

/** Everything that comes out of the terminal that a call sends to its console socket. */
async function withTerminal(call: (socket: string) => Promise<{ code: number; log: string }>): Promise<string> {
  const socket = new ConsoleSocket();
  let isOver = false;
  try {
    const called = call(socket.path).finally(() => {
      isOver = true;
    });
    const [master, { code, log }] = await Promise.all([socket.terminal(() => isOver), called]);
    expect({ code, log }).toMatchObject({ code: 0 });
    try {
      return await readTerminal(master);
    } finally {
      closeSync(master);
    }
  } finally {
    socket.close();
  }
}

/** Up to the end, which a master tells as EIO. */
async function readTerminal(master: number): Promise<string> {
  const buffer = Buffer.alloc(4096);
  let text = '';
  for (;;) {
    try {
      const size = readSync(master, buffer);
      if (size === 0) return text;
      text += buffer.toString('utf8', 0, size);
    } catch (error) {
      if (isErrno(error, 'EIO')) return text;
      if (!isErrno(error, 'EAGAIN')) throw error;
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
