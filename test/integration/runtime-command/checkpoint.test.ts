// gantry-runtime's checkpoint and restore, with the criu of Debian 13: that of Debian 12 does not work on newer kernels.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { unpackedCriu } from '../../setup/clients';
import { mustRun, waitFor } from '../../setup/command';
import { describeUnless } from '../../setup/needs';
import { OciCommand } from '../../suites/oci-command';
import { GANTRY_RUNTIME, missingForEngine } from './engine';

const TIMEOUT_MS = 300_000;
const COUNT = ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo $i >> /count; echo $i; sleep 0.05; done'];

describeUnless(missingForEngine(GANTRY_RUNTIME, 'make build'))('checkpoint and restore', () => {
  let command: OciCommand;
  let criu: readonly string[];
  let image: string;

  beforeEach(async () => {
    command = new OciCommand(GANTRY_RUNTIME);
    image = path.join(command.directory, 'image');
    criu = ['--criu', criuProgram(command.directory, await unpackedCriu())];
  });
  afterEach(() => command.clean());

  /** The last number, zero while there is none. */
  const count = () => {
    const file = path.join(command.bundle.rootfs, 'count');
    const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n') : [];
    return Number(lines.at(-2) ?? 0);
  };
  const counting = () => {
    const before = count();
    return waitFor('the count to go on', () => count() > before + 1);
  };
  const checkpoint = (id: string, ...flags: readonly string[]) =>
    command.must(...criu, 'checkpoint', '--image-path', image, ...flags, id);

  test(
    'an image goes on where the container was, under another id',
    async () => {
      const id = await command.running(COUNT);
      await counting();
      await checkpoint(id);
      expect(await command.must('list', '--quiet')).toBe('');
      const reached = count();

      const other = command.prepare(COUNT);
      const pidFile = path.join(command.directory, 'pid');
      const flags = ['--detach', '--image-path', image, '--bundle', other.path, '--pid-file', pidFile];
      expect(await command.detached(...criu, 'restore', ...flags, other.id)).toMatchObject({ code: 0 });
      await counting();
      expect(count()).toBeGreaterThan(reached);
      const pid = Number(readFileSync(pidFile, 'utf8'));
      expect(await command.state(other.id)).toMatchObject({ status: 'running', pid });
      expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toContain(`/${other.id}\n`);
      expect(await command.must('exec', other.id, 'hostname')).toBe('box\n');
      await command.must('kill', other.id, 'KILL');
      await command.waitForStatus(other.id, 'stopped');
      await command.must('delete', other.id);
    },
    TIMEOUT_MS,
  );

  test(
    '--leave-running leaves it running',
    async () => {
      const id = await command.running(COUNT);
      await checkpoint(id, '--leave-running');

      expect((await command.state(id)).status).toBe('running');
      await counting();
    },
    TIMEOUT_MS,
  );

  test(
    'restore in the foreground takes the place of the pipes',
    async () => {
      const { id, path: bundle } = command.prepare(COUNT);
      const first = inForeground(command.argv('run', '--bundle', bundle, id));
      await waitFor('output', () => first.output() !== '');
      await checkpoint(id);
      expect(await first.ended).toBe('exit code 137');

      const flags = ['--image-path', image, '--bundle', bundle];
      const second = inForeground(command.argv(...criu, 'restore', ...flags, id));
      await waitFor('output', () => /^\d+\n/m.test(second.output()));
      expect(Number.parseInt(second.output(), 10)).toBeGreaterThan(1);
      await command.must('kill', id, 'KILL');
      expect(await second.ended).toBe('exit code 137');
      expect(await command.must('list', '--quiet')).toBe('');
    },
    TIMEOUT_MS,
  );

  test('without a criu that works, both say so and change nothing', async () => {
    const id = await command.running();
    const other = command.prepare(['true']);
    for (const [program, words] of [
      ['/no/criu', 'cannot be run: no such file or directory'],
      ['/bin/false', 'criu does not work on this kernel'],
    ] as const) {
      const dumped = await command.call('--criu', program, 'checkpoint', '--image-path', image, id);
      expect(dumped).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(words) });
      const restored = await command.call('--criu', program, 'restore', '--bundle', other.path, other.id);
      expect(restored).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(words) });
    }

    expect((await command.state(id)).status).toBe('running');
    expect(await command.must('list', '--quiet')).toBe(`${id}\n`);
  });

  test(
    'an image that is none leaves nothing behind',
    async () => {
      const { id, path: bundle } = command.prepare(['true']);
      await mustRun(['mkdir', image]);
      const { exitCode, stderr } = await command.call(
        ...criu,
        'restore',
        '--image-path',
        image,
        '--bundle',
        bundle,
        id,
      );

      expect(exitCode).toBe(1);
      expect(stderr).toContain('runc restore failed: criu failed');
      expect(await command.must('list', '--quiet')).toBe('');
    },
    TIMEOUT_MS,
  );
});

/** criu with the C library that it was built for. */
function criuProgram(directory: string, tree: string): string {
  const program = path.join(directory, 'criu');
  const libraries = `${tree}/usr/lib/x86_64-linux-gnu`;
  const loader = `${libraries}/ld-linux-x86-64.so.2`;
  writeFileSync(program, `#!/bin/sh\nexec ${loader} --library-path ${libraries} ${tree}/usr/sbin/criu "$@"\n`, {
    mode: 0o755,
  });
  return program;
}

/** With pipes, as a shell makes them: Node's are sockets. The last line of the output is the exit code. */
function inForeground(argv: readonly string[]): { output: () => string; ended: Promise<string> } {
  const script = '{ "$@"; echo "exit code $?"; } 2>&1 | cat';
  const child = spawn('sh', ['-c', script, 'sh', ...argv], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const ended = new Promise<string>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve(text.trimEnd().split('\n').at(-1) ?? ''));
  });
  return { output: () => text, ended };
}
