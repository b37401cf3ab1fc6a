// gantry on containers that run in the background: logs, exec, tasks and the records, on a real daemon.

import { describeUnless } from '../../setup/needs';
import { missingForCli, useDaemon } from './fixture';

const suite = describeUnless(missingForCli());

jest.setTimeout(60_000);

suite('gantry with containers', () => {
  const { daemon, run } = useDaemon();

  test('logs prints, tails and follows what a detached container writes', async () => {
    const script = 'for i in 1 2 3; do echo line $i; sleep 0.2; done; exit 4';
    await run('run', '-d', 'busybox', 'l1', 'sh', '-c', script);

    const followed = await run('logs', '--follow', 'l1');

    expect(followed).toMatchObject({ code: 0, stdout: 'line 1\nline 2\nline 3\n' });
    expect((await run('logs', '--tail', '1', 'l1')).stdout).toBe('line 3\n');
    expect((await run('tasks', 'ls')).stdout).toMatch(/l1 +\d+ +stopped +4/);
    expect((await run('tasks', 'rm', 'l1')).code).toBe(4);
    expect((await run('logs', 'l1')).code).toBe(0);
    await run('containers', 'rm', 'l1');
    expect((await run('logs', 'l1')).code).toBe(4);
  });

  test('exec runs in a container that runs', async () => {
    await run('run', '-d', 'busybox', 'e1', 'sleep', '1000');

    expect(await run('exec', 'e1', 'sh', '-c', 'echo hi; exit 9')).toEqual({ code: 9, stdout: 'hi\n', stderr: '' });
    expect((await daemon.pipe('in', 'exec', '-i', 'e1', 'cat')).stdout).toBe('in');
    expect(
      (
        await run(
          'exec',
          '-u',
          'alice:staff',
          '-w',
          '/tmp',
          '-e',
          'A=b',
          'e1',
          'sh',
          '-c',
          'id -u; id -g; pwd; echo $A',
        )
      ).stdout,
    ).toBe('1000\n50\n/tmp\nb\n');
    expect((await run('exec', 'e1', 'nosuchcommand')).code).toBe(127);
    expect((await daemon.inTerminal('exit 2\r', 'exec', '-it', 'e1', 'sh')).code).toBe(2);
    const detached = await run('exec', '-d', 'e1', 'sleep', '1000');
    expect((await run('tasks', 'ps', 'e1')).stdout).toContain(detached.stdout.trim());
    await run('tasks', 'kill', '-s', 'KILL', 'e1');
    expect((await run('containers', 'rm', '--force', 'e1')).code).toBe(0);
    expect((await run('exec', 'e1', 'true')).code).toBe(125);
  });

  test('containers and tasks: create, start, info, label, pause, resume, kill, rm', async () => {
    expect((await run('containers', 'create', '-l', 'app=web', 'busybox', 'c1', 'sleep', '1000')).stdout).toBe('c1\n');
    const info = JSON.parse((await run('containers', 'info', 'c1')).stdout);
    expect(info).toMatchObject({ id: 'c1', snapshotKey: 'c1', labels: { app: 'web', kept: 'yes' } });
    expect(info.labels).not.toHaveProperty('containerd.io/x');
    expect(info.spec.process.args).toEqual(['sleep', '1000']);
    expect((await run('tasks', 'start', '-d', 'c1')).code).toBe(0);
    await run('containers', 'label', 'c1', 'b=c', 'app=');
    expect((await run('containers', 'ls', '-q', 'labels.b==c')).stdout).toBe('c1\n');
    await run('tasks', 'pause', 'c1');
    expect((await run('tasks', 'ls')).stdout).toMatch(/c1 +\d+ +paused/);
    await run('tasks', 'resume', 'c1');
    expect((await run('containers', 'rm', 'c1')).code).toBe(5);
    expect((await run('tasks', 'rm', '-f', 'c1')).code).toBe(0);
    expect((await run('containers', 'rm', 'c1')).code).toBe(0);
    expect((await run('containers', 'info', 'c1')).code).toBe(4);
  });
});
