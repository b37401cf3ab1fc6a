// Which OCI runtime a task gets: the one of its options, else the one of the configuration, else our own.

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { packAny } from '../../proto/any';
import { Options } from '../../proto/generated/containerd.runc.v1';
import { tryRemoveCgroup } from '../setup/leftovers';
import { describeUnless, needsFile } from '../setup/needs';
import { missingForTasks, TestDaemon } from './tasks-daemon';

const RUNC = '/usr/sbin/runc';

describeUnless(missingForTasks() ?? needsFile(RUNC, 'package runc'))('the runtime of a task', () => {
  let daemon: TestDaemon;
  const recorder = () => join(daemon.directory, 'recorder');
  const calls = () => readFileSync(join(daemon.directory, 'calls'), 'utf8');

  beforeAll(async () => {
    daemon = await TestDaemon.start({ start: 'spawn' });
    writeFileSync(join(daemon.directory, 'calls'), '');
    const script = `#!/bin/sh\necho "$@" >> ${daemon.directory}/calls\nexec ${RUNC} "$@"\n`;
    writeFileSync(recorder(), script, { mode: 0o755 });
  });

  beforeEach(() => writeFileSync(join(daemon.directory, 'calls'), ''));
  afterAll(() => daemon.stop(), 30_000);

  async function run(id: string, binaryName: string): Promise<number> {
    await daemon.container(id, ['/bin/sh', '-c', 'exit 5']);
    await daemon.tasks.create({ containerId: id, options: packAny(Options, { binaryName }) });
    await daemon.tasks.start({ containerId: id });
    const { exitStatus } = await daemon.tasks.wait({ containerId: id });
    await daemon.destroy(id);
    return exitStatus;
  }

  test('that of the options', async () => {
    expect(await run('chosen', recorder())).toBe(5);

    expect(calls()).toMatch(/ create .*chosen\n.* start chosen\n.* delete --force chosen\n$/s);
    await daemon.untilClean();
  });

  test('our own for "runc", which clients send unasked', async () => {
    expect(await run('own', 'runc')).toBe(5);

    expect(calls()).toBe('');
  });

  test('the cgroup of the options is that of the shim, not of the container', async () => {
    const cgroup = `/${basename(daemon.directory)}/shim`;
    await daemon.container('grouped', ['/bin/sleep', '100']);
    const options = packAny(Options, { shimCgroup: cgroup });
    const { pid } = await daemon.tasks.create({ containerId: 'grouped', options });
    const ofProcess = (process: number) => readFileSync(`/proc/${process}/cgroup`, 'utf8');

    expect(ofProcess(daemon.shimPid('grouped'))).toContain(`:memory:${cgroup}\n`);
    expect(ofProcess(pid)).not.toContain(cgroup);
    await daemon.destroy('grouped');
    for (const hierarchy of ['.', ...readdirSync('/sys/fs/cgroup')]) {
      const path = join('/sys/fs/cgroup', hierarchy, cgroup);
      if (existsSync(path)) await daemon.until(() => tryRemoveCgroup(path));
    }
    await daemon.untilClean();
  });

  test('one that is not there is an error that names it', async () => {
    await expect(run('missing', '/nonexistent/runtime')).rejects.toThrow(
      'OCI runtime create failed: exec: "/nonexistent/runtime": executable file not found',
    );
    await daemon.destroy('missing');
    await daemon.untilClean();
  });

  test('that of the configuration, unless the options name another', async () => {
    await daemon.kill('SIGTERM');
    daemon.configure({ start: 'spawn', runtime: recorder() });
    await daemon.boot();

    expect(await run('configured', 'runc')).toBe(5);
    expect(calls()).toContain(' start configured');
    writeFileSync(join(daemon.directory, 'calls'), '');
    expect(await run('named', RUNC)).toBe(5);
    expect(calls()).toBe('');
  });
});
