// gantry run: streams, options, signals, terminals and exit codes, on a real daemon.

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeUnless } from '../../setup/needs';
import { missingForCli, useDaemon } from './fixture';

const suite = describeUnless(missingForCli());

jest.setTimeout(60_000);

suite('gantry run', () => {
  const { daemon, run, archives } = useDaemon();

  test('passes output, input and the exit status on', async () => {
    const out = await run('run', '--rm', 'busybox', 'r1', 'sh', '-c', 'echo out; echo err >&2; exit 7');
    const cat = await daemon.pipe('hello', 'run', '--rm', '-i', 'busybox', 'r2', 'cat');

    expect(out).toEqual({ code: 7, stdout: 'out\n', stderr: 'err\n' });
    expect(cat).toMatchObject({ code: 0, stdout: 'hello' });
  });

  test('moves a lot of data both ways', async () => {
    const size = 8 * 2 ** 20;

    const out = await run('run', '--rm', 'busybox', 'r3', 'head', '-c', `${size}`, '/dev/zero');
    const back = await daemon.pipe(Buffer.alloc(size), 'run', '--rm', '-i', 'busybox', 'r4', 'wc', '-c');

    expect(out.stdout).toHaveLength(size);
    expect(back.stdout.trim()).toBe(`${size}`);
  });

  test('follows docker in its exit codes when nothing could be run', async () => {
    const missing = await run('run', '--rm', 'busybox', 'r5', 'nosuchcommand');
    const directory = await run('run', '--rm', 'busybox', 'r5', '/etc');
    const image = await run('run', '--rm', 'nosuchimage', 'r5', 'true');
    const usage = await run('run', '--rm', '--cpus', 'x', 'busybox', 'r5', 'true');

    expect(missing.code).toBe(127);
    expect(directory.code).toBe(126);
    expect(image).toMatchObject({
      code: 125,
      stderr: 'gantry: image "nosuchimage" in namespace "default": not found\n',
    });
    expect(usage.code).toBe(125);
    expect((await run('containers', 'ls', '-q')).stdout).not.toContain('r5');
  });

  test('applies environment, user, directory, host name and mounts', async () => {
    const script = 'id -u; id -g; id -G; pwd; hostname; echo $A $FROM_IMAGE; cat /mnt/file; touch /mnt/x 2>&1';
    writeFileSync(join(archives.directory, 'file'), 'mounted\n');
    const options = [
      '--user',
      'alice',
      '--cwd',
      '/tmp',
      '--env',
      'A=1',
      '--mount',
      `src=${archives.directory},dst=/mnt,ro`,
    ];

    const { stdout } = await run('run', '--rm', ...options, 'busybox', 'r6', 'sh', '-c', script);

    expect(stdout.split('\n').slice(0, 7)).toEqual(['1000', '1000', '1000 50', '/tmp', 'r6', '1 yes', 'mounted']);
    expect(stdout).toContain('Read-only file system');
  });

  test('keeps its options from the Node that it runs on', async () => {
    const file = join(archives.directory, 'env');
    writeFileSync(file, 'A=from file\nNODE_OPTIONS=--no-such-option\n');

    const { code, stdout } = await run(
      'run',
      '--rm',
      '--env-file',
      file,
      'busybox',
      'r15',
      'sh',
      '-c',
      'echo $A $NODE_OPTIONS',
    );

    expect({ code, stdout }).toEqual({ code: 0, stdout: 'from file --no-such-option\n' });
  });

  test('keeps pipes for attach with -d and -i', async () => {
    expect((await run('run', '-d', '-i', 'busybox', 'r16', 'cat')).stdout).toBe('r16\n');

    const attached = daemon.spawn(['tasks', 'attach', 'r16'], 'pipe');
    attached.child.stdin?.write('over the pipe\n');
    await attached.prints('over the pipe');
    attached.child.stdin?.end();

    expect((await attached.done).code).toBe(0);
    expect((await run('containers', 'rm', 'r16')).code).toBe(0);
  });

  test('confines by default and less so when told', async () => {
    const status = (...options: string[]) =>
      run(
        'run',
        '--rm',
        ...options,
        'busybox',
        'r7',
        'sh',
        '-c',
        'grep -E "^(CapEff|NoNewPrivs|Seccomp):" /proc/self/status',
      );

    const usual = await status();
    const open = await status('--no-seccomp', '--cap-drop', 'all', '--new-privileges');

    expect(usual.stdout.replaceAll('\t', ' ')).toBe('CapEff: 00000000a80425fb\nNoNewPrivs: 1\nSeccomp: 2\n');
    expect(open.stdout.replaceAll('\t', ' ')).toBe('CapEff: 0000000000000000\nNoNewPrivs: 0\nSeccomp: 0\n');
    expect((await run('run', '--rm', '--read-only', 'busybox', 'r7', 'touch', '/x')).code).toBe(1);
  });

  test('limits memory, CPU and processes', async () => {
    const { stdout } = await run(
      'run',
      '-d',
      '--memory',
      '64m',
      '--cpus',
      '0.5',
      '--pids-limit',
      '20',
      'busybox',
      'r8',
      'sleep',
      '100',
    );

    expect(stdout).toBe('r8\n');
    expect((await run('tasks', 'metrics', 'r8')).stdout).toMatch(/r8 +\d+ ms .* 64\.0 MiB/);
    expect((await run('containers', 'rm', '--force', 'r8')).stdout).toBe('r8\n');
  });

  test('uses a directory as root with --rootfs', async () => {
    const root = join(daemon.directory, 'rootfs');
    execFileSync('sh', ['-c', `mkdir -p ${root}/bin && cp $(command -v busybox) ${root}/bin/sh`]);

    const { code, stdout } = await run('run', '--rm', '--rootfs', root, 'r9', '/bin/sh', '-c', 'echo from a directory');

    expect({ code, stdout }).toEqual({ code: 0, stdout: 'from a directory\n' });
  });

  test('stops on the first signal, kills on the second, removes in both cases', async () => {
    const trap = ['sh', '-c', 'trap "echo stopping; exit 3" TERM; echo up; while :; do sleep 0.1; done'];
    const polite = daemon.spawn(['run', '--rm', 'busybox', 'r10', ...trap]);
    await polite.prints('up');
    polite.child.kill('SIGTERM');
    const stubborn = daemon.spawn([
      'run',
      '--rm',
      'busybox',
      'r11',
      'sh',
      '-c',
      'trap "" INT TERM; echo up; exec sleep 1000',
    ]);
    await stubborn.prints('up');
    stubborn.child.kill('SIGINT');
    setTimeout(() => stubborn.child.kill('SIGINT'), 200);

    expect(await polite.done).toMatchObject({ code: 3, stdout: 'up\nstopping\n' });
    expect(await stubborn.done).toMatchObject({ code: 137 });
    expect((await run('containers', 'ls', '-q')).stdout).not.toMatch(/r1[01]/);
  });

  test('stays in front of its container while the daemon crashes and comes back', async () => {
    const script = 'for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done; exit 6';
    const { done, prints } = daemon.spawn(['run', '--rm', 'busybox', 'r17', 'sh', '-c', script]);
    await prints('2\n');
    await daemon.crash();
    await daemon.start();

    expect(await done).toMatchObject({ code: 6, stdout: '1\n2\n3\n4\n5\n6\n7\n8\n' });
    expect((await run('containers', 'ls', '-q')).stdout).not.toContain('r17');
  });

  test('stops the container when nobody reads its output any more', async () => {
    const { child, done, prints } = daemon.spawn(['run', '--rm', '--stop-timeout', '1s', 'busybox', 'r12', 'yes']);
    await prints('y\n');
    child.stdout?.destroy();

    expect((await done).code).toBeGreaterThan(128);
    expect((await run('containers', 'ls', '-q')).stdout).not.toContain('r12');
  });

  test('gives a terminal and takes it back', async () => {
    const { code, stdout } = await daemon.inTerminal('tty; exit 4\r', 'run', '--rm', '-it', 'busybox', 'r13', 'sh');

    expect(stdout).toContain('/dev/pts/0');
    expect(code).toBe(4);
    expect(await daemon.pipe('', 'run', '--rm', '-it', 'busybox', 'r13', 'sh')).toMatchObject({
      code: 125,
      stderr: expect.stringContaining('needs a terminal'),
    });
  });

  test('detaches by keys and comes back by attach', async () => {
    const first = await daemon.inTerminal(
      { prompt: '# ', input: 'X=42\r\x10\x11' },
      'run',
      '-it',
      'busybox',
      'r14',
      'sh',
    );
    const second = await daemon.inTerminal('echo X is $X; exit 6\r', 'tasks', 'attach', 'r14');

    expect(first).toMatchObject({ code: 0, stdout: expect.stringContaining('detached from "r14"') });
    expect(second).toMatchObject({ code: 6, stdout: expect.stringContaining('X is 42') });
    expect((await run('containers', 'rm', 'r14')).code).toBe(0);
  });

  test('leaves no pipes behind', () => {
    const directory = daemon.env['GANTRY_FIFO_DIR'] ?? '';

    expect(existsSync(directory) ? readdirSync(directory) : []).toEqual([]);
  });
});
