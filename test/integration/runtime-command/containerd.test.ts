// Debian's containerd and its runc shim with gantry-runtime in the place of runc (BinaryName).

import { BUSYBOX_IMAGE, busyboxImage } from '../../images/busybox';
import { installedContainerd } from '../../setup/clients';
import { type CommandResult, mustRun, runCommand, waitFor } from '../../setup/command';
import { startContainerd, type TestDaemon } from '../../setup/daemons';
import { describeUnless } from '../../setup/needs';
import { GANTRY_RUNTIME, missingForEngine } from './engine';

const TIMEOUT_MS = 300_000;
const MEGABYTE = 2 ** 20;

describeUnless(missingForEngine('/usr/bin/containerd', 'package containerd'))("containerd with runc's shim", () => {
  let daemon: TestDaemon;
  const ctr = (...args: readonly string[]) => [
    '/usr/bin/ctr',
    ...['--address', daemon.address, '--namespace', daemon.namespace],
    ...args,
  ];
  const call = (...args: readonly string[]): Promise<CommandResult> => runCommand(ctr(...args));
  const must = (...args: readonly string[]): Promise<string> => mustRun(ctr(...args));
  const run = (id: string, ...command: readonly string[]) =>
    call('run', '--rm', '--runc-binary', GANTRY_RUNTIME, BUSYBOX_IMAGE, id, ...command);

  beforeAll(async () => {
    daemon = await startContainerd(await installedContainerd());
    await must('images', 'import', await busyboxImage());
  }, TIMEOUT_MS);

  afterAll(async () => {
    await daemon.destroy();
  }, TIMEOUT_MS);

  test(
    'runs a container and gives its output and exit code',
    async () => {
      const { exitCode, stdout } = await run('one', 'sh', '-c', 'echo out; exit 7');

      expect({ exitCode, stdout }).toEqual({ exitCode: 7, stdout: 'out\n' });
    },
    TIMEOUT_MS,
  );

  test(
    'reads the error from the log',
    async () => {
      const { exitCode, stderr } = await run('missing', 'nothing');

      expect(exitCode).toBe(1);
      expect(stderr).toContain(
        'OCI runtime create failed: runc create failed: unable to start container process: exec: "nothing": executable file not found in $PATH',
      );
    },
    TIMEOUT_MS,
  );

  test(
    'executes in, limits, pauses and kills a container',
    async () => {
      const limit = ['--memory-limit', String(64 * MEGABYTE)];
      await must('run', '--detach', '--runc-binary', GANTRY_RUNTIME, ...limit, BUSYBOX_IMAGE, 'two', 'sleep', '1000');

      const exec = await call('tasks', 'exec', '--exec-id', 'e', 'two', 'sh', '-c', 'echo in; exit 4');
      expect({ exitCode: exec.exitCode, stdout: exec.stdout }).toEqual({ exitCode: 4, stdout: 'in\n' });
      const failed = await call('tasks', 'exec', '--exec-id', 'f', 'two', 'nothing');
      expect(failed.stderr).toContain(
        'OCI runtime exec failed: exec failed: unable to start container process: exec: "nothing"',
      );
      expect(await must('tasks', 'metrics', '--format', 'json', 'two')).toMatch(`${64 * MEGABYTE}`);
      await must('tasks', 'pause', 'two');
      expect(await must('tasks', 'ls')).toMatch(/two +\d+ +PAUSED/);
      await must('tasks', 'resume', 'two');
      await must('tasks', 'kill', '--signal', 'KILL', 'two');
      await waitFor('its end', async () => /two +\d+ +STOPPED/.test(await must('tasks', 'ls')));
      expect((await call('tasks', 'delete', 'two')).stderr).toContain('137');
      await must('containers', 'delete', 'two');
    },
    TIMEOUT_MS,
  );

  test(
    'nothing is left behind',
    async () => {
      await waitFor('the end of the shims', () => daemon.leftovers().length === 0);
    },
    TIMEOUT_MS,
  );
});
