// The C parts for 64-bit ARM: compiled as on such a machine, and init run under qemu's emulation, which has the system
// calls of most operations but not those that make namespaces and containers (clone3, openat2, the new mount API).

import { spawn } from 'node:child_process';
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LaunchedInit } from '../../runtime-native/launch';
import { createMemfd, openPidfd, socketPair } from '../../runtime-native/native';
import { encodePlan } from '../../runtime-native/plan/encode';
import type { Operation, Plan } from '../../runtime-native/plan/operations';
import { PROJECT_ROOT } from '../setup/cache';
import { mustRun } from '../setup/command';
import { describeUnless, needsFile, needsRoot } from '../setup/needs';

const COMPILER = 'aarch64-linux-gnu-gcc';
const EMULATOR = '/usr/bin/qemu-aarch64-static';
const LONG_MS = 300_000;
const USER = 1234;
const RLIMIT_NOFILE = 7;

const missing =
  needsRoot() ??
  needsFile(`/usr/bin/${COMPILER}`, 'package gcc-aarch64-linux-gnu') ??
  needsFile(EMULATOR, 'package qemu-user-static');

describeUnless(missing)('on 64-bit ARM', () => {
  let directory: string;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'gantry-aarch64-'));
    chmodSync(directory, 0o755);
    const files = ['libgantry.so', 'init'].map((name) => join(directory, name));
    await mustRun(['make', '-C', PROJECT_ROOT, `CC=${COMPILER}`, `NATIVE=${directory}`, ...files], {
      timeoutMs: LONG_MS,
    });
  }, LONG_MS);
  afterAll(() => rmSync(directory, { recursive: true }));

  /** Runs a plan without a launcher's part. @returns what the program writes */
  async function run(operations: readonly Operation[]): Promise<string> {
    const plan: Plan = { operations, inherited: [] };
    const output = join(directory, 'output');
    const [own, other] = socketPair();
    const files = [openSync(output, 'w'), other, createMemfd('gantry-plan', encodePlan(plan), false)];
    const [out, control, memfd] = files;
    const child = spawn(EMULATOR, [join(directory, 'init')], { stdio: ['ignore', out, 'inherit', control, memfd] });
    const ended = new Promise((resolve) => child.on('exit', resolve));
    for (const fd of files) closeSync(fd);
    const pidfd = openPidfd(child.pid ?? 0);
    const init = new LaunchedInit({ pid: child.pid ?? 0, pidfd }, own, { plan, inInit: false });
    try {
      for (let message = await init.next(); message.kind !== 'end'; message = await init.next()) init.proceed();
      expect(await ended).toBe(0);
      return readFileSync(output, 'utf8');
    } finally {
      init.hangUp();
      await ended;
      closeSync(pidfd);
    }
  }

  const execute = (args: readonly string[]): Operation[] => [
    { op: 'closeFiles' },
    { op: 'findExecutable', name: args[0] ?? '', path: '/usr/bin:/bin' },
    { op: 'execute', args, env: ['PATH=/usr/bin:/bin', 'NAME=value'], reportToStderr: false },
  ];

  test('the library and init are of that processor', async () => {
    for (const name of ['libgantry.so', 'init']) {
      // ELF header: e_machine is at 18, EM_AARCH64 is 183.
      expect(readFileSync(join(directory, name)).readUInt16LE(18)).toBe(183);
    }
    expect((await mustRun([EMULATOR, '--version'])).startsWith('qemu-aarch64')).toBe(true);
  });

  test('init runs a plan up to its program', async () => {
    const script =
      'pwd; umask; ulimit -Sn; ulimit -Hn; id -u; id -g; id -G; echo $NAME; grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj';
    const written = await run([
      { op: 'writeFile', path: '/proc/self/oom_score_adj', data: '77' },
      { op: 'changeDirectory', path: directory, firstAttempt: false },
      { op: 'umask', mask: 0o027 },
      { op: 'rlimit', type: RLIMIT_NOFILE, soft: '300', hard: '400' },
      { op: 'sync', point: 'ready' },
      { op: 'user', uid: USER, gid: USER + 1, groups: [USER + 2] },
      { op: 'noNewPrivileges' },
      ...execute(['sh', '-c', script]),
    ]);

    expect(written.split('\n')).toEqual([
      directory,
      '0027',
      ...['300', '400', `${USER}`, `${USER + 1}`, `${USER + 1} ${USER + 2}`],
      'value',
      'NoNewPrivs:\t1',
      '77',
      '',
    ]);
  });

  test('init tells what fails', async () => {
    await expect(run(execute(['no-such-program']))).rejects.toThrow(
      'exec: "no-such-program": executable file not found in $PATH',
    );
    await expect(run([{ op: 'changeDirectory', path: '/no/dir', firstAttempt: false }])).rejects.toThrow(
      /\/no\/dir.*no such file or directory/,
    );
  });
});
