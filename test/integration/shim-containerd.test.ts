// Our shim under Debian's own containerd, in two releases. ctr plays the cases about running containers twice, with
// runc's shim and with ours in its place, and must see the same.

import { mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { runCases } from '../conformance/cases/run';
import { taskCases } from '../conformance/cases/tasks';
import { ctrSession } from '../conformance/ctr';
import { expectedOf, playAll, replayDifferences } from '../conformance/replay';
import type { Session } from '../conformance/session';
import { BUSYBOX_IMAGE, busyboxImage } from '../images/busybox';
import { PROJECT_ROOT } from '../setup/cache';
import { type ContainerdRelease, installedContainerd, unpackedContainerd } from '../setup/clients';
import { mustRun, runCommand, waitFor } from '../setup/command';
import { startContainerd, type TestDaemon, temporaryDirectory } from '../setup/daemons';
import { processesOf } from '../setup/leftovers';

const OUR_BIN = path.join(PROJECT_ROOT, 'dist', 'bin');
const TIMEOUT_MS = 600_000;
const RUNTIME = 'io.containerd.gantry.v1';
const CASES = [...runCases, ...taskCases];
/** What Resume says after a kill depends on whether the shim has heard of the exit, with runc's shim as with ours. */
const RESUME_AFTER_KILL = /OCI runtime resume failed: container not paused|cannot resume a stopped container/;

describe.each([
  ['1.6.20', installedContainerd],
  ['1.7.24', unpackedContainerd],
])('containerd %s with our shim in place of that of runc', (_version, releaseOf) => {
  let theirs: Map<string, string>;
  let ours: Map<string, string>;
  let leftovers: string[];

  beforeAll(async () => {
    const release = await releaseOf();
    const files = { BUSYBOX: await busyboxImage() };
    const startPeer = async () => {
      const containerd = await startContainerd(release);
      return { session: await sessionOf(containerd, release, files), destroy: () => containerd.destroy() };
    };
    const peer = await startPeer();
    const daemon = await startWithOurShim(release, 'containerd-shim-runc-v2');
    try {
      theirs = await playAll(CASES, peer.session);
      ours = await playAll(CASES, await sessionOf(daemon, release, files));
      leftovers = await daemon.lastingLeftovers();
    } finally {
      await Promise.all([peer.destroy(), daemon.destroy()]);
    }
    const isEqual = (name: string) => ourTranscript(name) === peerTranscript(name);
    await replayDifferences(CASES, theirs, isEqual, startPeer);
  }, 2 * TIMEOUT_MS);

  const ourTranscript = (name: string) => ours.get(name)!.replace(RESUME_AFTER_KILL, 'RACE');
  const peerTranscript = (name: string) => expectedOf(name, theirs.get(name)!).replace(RESUME_AFTER_KILL, 'RACE');

  test.each(CASES.map(({ name }) => name))('%s', (name) => {
    expect(ourTranscript(name)).toBe(peerTranscript(name));
  });

  test('nothing is left behind', () => {
    expect(leftovers).toEqual([]);
  });
});

describe(`containerd 1.6.20 with the runtime ${RUNTIME}`, () => {
  let daemon: TestDaemon;
  const ctr = (...args: string[]) => [
    '/usr/bin/ctr',
    '--address',
    daemon.address,
    '--namespace',
    daemon.namespace,
    ...args,
  ];
  const run = (id: string, ...command: string[]) =>
    ctr('run', '--rm', '--runtime', RUNTIME, BUSYBOX_IMAGE, id, ...command);

  beforeAll(async () => {
    daemon = await startWithOurShim(await installedContainerd(), 'containerd-shim-gantry-v1');
    await mustRun(ctr('images', 'import', await busyboxImage()));
  }, TIMEOUT_MS);

  afterAll(async () => {
    await daemon.destroy();
  }, TIMEOUT_MS);

  test('run prints the output and returns the status', async () => {
    expect(await runCommand(run('r1', 'sh', '-c', 'echo out; echo err >&2; exit 7'))).toEqual({
      exitCode: 7,
      stdout: 'out\n',
      stderr: 'err\n',
    });
  });

  test('kill -9 of the shim makes containerd clean up through the delete action', async () => {
    await mustRun(ctr('run', '-d', '--runtime', RUNTIME, BUSYBOX_IMAGE, 'k1', 'sleep', '1000'));
    const listed = await mustRun(ctr('tasks', 'ls'));
    const taskPid = Number(/^k1\s+(\d+)/m.exec(listed)?.[1]);
    expect(taskPid).toBeGreaterThan(1);
    for (const { pid, commandLine } of processesOf(daemon)) {
      if (commandLine.includes('shim.js')) process.kill(pid, 'SIGKILL');
    }
    await waitFor('the task to be gone', async () => !(await mustRun(ctr('tasks', 'ls'))).includes('k1'));
    await mustRun(ctr('containers', 'rm', 'k1'));

    await waitFor('everything to be cleaned up', () => daemon.leftovers().length === 0);
  });

  test('a container survives a restart of containerd and its exit is known afterwards', async () => {
    await mustRun(ctr('run', '-d', '--runtime', RUNTIME, BUSYBOX_IMAGE, 's1', 'sh', '-c', 'sleep 1; exit 5'));
    await daemon.stop('SIGKILL');
    await daemon.start();
    await waitFor('the exit', async () => /s1\s+\d+\s+STOPPED/.test(await mustRun(ctr('tasks', 'ls'))));
    const removed = await runCommand(ctr('tasks', 'rm', 's1'));

    expect(removed.stderr).toContain('exit with non-zero exit code 5');
    await mustRun(ctr('containers', 'rm', 's1'));
  });
});

/** containerd that finds our shim, and no other, under a name. */
async function startWithOurShim(release: ContainerdRelease, name: string): Promise<TestDaemon> {
  const directory = temporaryDirectory('ourshim');
  const bin = path.join(directory, 'bin');
  mkdirSync(bin);
  symlinkSync(path.join(OUR_BIN, 'gantry-shim'), path.join(bin, name));
  const others = process.env['PATH']?.split(':').filter((each) => each !== release.binDirectory) ?? [];
  return await startContainerd(release, { directory, env: { PATH: [bin, release.binDirectory, ...others].join(':') } });
}

async function sessionOf(
  daemon: TestDaemon,
  release: ContainerdRelease,
  files: Record<string, string>,
): Promise<Session> {
  const session = ctrSession(daemon, release, files);
  await session.quietly(['images', 'import', '$BUSYBOX']);
  return session;
}
