// Published attacks on container runtimes (runc's CVEs), tried on this one. Each case says what the attack is.

import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeUnless } from '../setup/needs';
import { type SpecChange, useRuntime } from '../suites/runtime-bench';
import { missingForContainers, mountsBelow } from '../suites/runtime-bundle';
import type { RunResult } from '../suites/runtime-case';
import { runtimeLibrary, waitForExit } from '../suites/runtime-library';

const RACE_MS = Number(process.env['GANTRY_RACE_MS'] ?? 3000);

describeUnless(missingForContainers())('attacks', () => {
  const runtime = useRuntime();
  const run = (args: readonly string[], change?: SpecChange): Promise<RunResult> =>
    runtimeLibrary(runtime.root).run(runtime.specOf(args, change));

  test('CVE-2019-5736: the program of the runtime cannot be reached through /proc/self/exe', async () => {
    const files = [process.execPath, join(__dirname, '../../dist/native/init')];
    const before = files.map(hashOf);

    const itself = await run(['/proc/self/exe']);
    const container = await runtime.create(runtime.optionsFor(['sleep', '100']));
    const exit = waitForExit(container.pid);
    // Even the host's root cannot write to what runs there.
    expect(() => openSync(`/proc/${container.pid}/exe`, 'r+')).toThrow(/ETXTBSY|EPERM|EACCES/);
    expect(lstatSync(`/proc/${container.pid}/exe`).isSymbolicLink()).toBe(true);
    await container.delete();
    await exit;

    expect(itself.stdout).toBe('');
    expect(files.map(hashOf)).toEqual(before);
  });

  test('CVE-2024-21626: a working directory behind an inherited descriptor is refused', async () => {
    const results = [];
    for (let fd = 0; fd <= 64; fd += fd < 12 ? 1 : 13) {
      results.push(
        await run(['pwd'], (spec) => {
          spec.process.cwd = `/proc/self/fd/${fd}`;
        }),
      );
    }

    expect(results.filter(({ error }) => error === undefined)).toEqual([]);
  });

  test('CVE-2024-21626: exec does not enter such a directory either', async () => {
    const container = await runtime.create(runtime.optionsFor(['sleep', '100']));
    const exit = waitForExit(container.pid);
    await container.start();
    const attempts: Promise<unknown>[] = [];
    for (let fd = 3; fd < 12; fd++) {
      const process = { args: ['pwd'], cwd: `/proc/self/fd/${fd}`, env: ['PATH=/bin'], user: { uid: 0, gid: 0 } };
      attempts.push(container.exec({ execId: `e${fd}`, process, io: { stdin: -1, stdout: -1, stderr: -1 } }));
    }
    const outcomes = await Promise.allSettled(attempts);
    await container.delete();
    await exit;

    expect(outcomes.map(({ status }) => status)).toEqual(outcomes.map(() => 'rejected'));
  });

  test.each(['proc', 'sys'])('CVE-2023-27561: /%s is a link in the image', async (name) => {
    rmSync(join(runtime.bundle.rootfs, name), { recursive: true });
    mkdirSync(join(runtime.bundle.rootfs, 'tmp/fake'), { recursive: true });
    symlinkSync('tmp/fake', join(runtime.bundle.rootfs, name));

    const { error } = await run(['true']);

    expect(error).toContain('must be mounted on ordinary directory');
  });

  test('CVE-2025-31133: /dev/null of the image is a link', async () => {
    writeFileSync(join(runtime.bundle.rootfs, 'victim'), 'content');
    symlinkSync('/victim', join(runtime.bundle.rootfs, 'dev/null'));

    const { error } = await run(['true'], (spec) => {
      spec.mounts = spec.mounts.filter(({ destination }) => !destination.startsWith('/dev'));
    });

    expect(error).toMatch(/can't mask path "\/proc\/(kcore|keys)": \/dev\/null is not the null device/);
    expect(readFileSync(join(runtime.bundle.rootfs, 'victim'), 'utf8')).toBe('content');
  });

  test('CVE-2025-52565: /dev/pts/ptmx of the image is not of a devpts', async () => {
    mkdirSync(join(runtime.bundle.rootfs, 'dev/pts'), { recursive: true });
    execFileSync('mknod', [join(runtime.bundle.rootfs, 'dev/pts/ptmx'), 'c', '1', '5']);
    const options = runtime.optionsFor(['true'], (changed) => {
      changed.mounts = changed.mounts.filter(({ destination }) => !destination.startsWith('/dev'));
    });

    const created = runtime.create({ ...options, io: 'terminal' });

    await expect(created).rejects.toThrow('/dev/pts/ptmx is not of a devpts');
  });

  test('CVE-2025-52881: settings are written to the kernel, whatever lies over /proc', async () => {
    const result = await run(['cat', '/proc/sys/net/ipv4/ip_unprivileged_port_start'], (spec) => {
      spec.linux.sysctl = { 'net.ipv4.ip_unprivileged_port_start': '99' };
      spec.linux.readonlyPaths = [];
      spec.mounts.push({ destination: '/proc/sys/net/ipv4', type: 'tmpfs', source: 'tmpfs', options: [] } as never);
    });
    const plain = await run(['cat', '/proc/sys/net/ipv4/ip_unprivileged_port_start'], (spec) => {
      spec.linux.sysctl = { 'net.ipv4.ip_unprivileged_port_start': '99' };
    });

    expect(result.stderr).toMatch(/No such file/);
    expect(plain.stdout).toBe('99\n');
  });

  test('CVE-2023-25809: the cgroup tree cannot be written from inside', async () => {
    const result = await run([
      'sh',
      '-c',
      'for f in $(find /sys/fs/cgroup -name cgroup.procs 2>/dev/null || ls /sys/fs/cgroup/*/cgroup.procs); do echo 0 > $f && echo wrote; done',
    ]);

    expect(result.stdout).not.toContain('wrote');
    expect(result.stderr).toMatch(/Read-only file system/);
  });

  test('CVE-2025-23266: a hook gets no environment but its own', async () => {
    const log = join(runtime.bundle.path, 'environment');
    process.env['LD_PRELOAD_OF_TEST'] = 'leaked';
    const { error } = await run(['true'], (spec) => {
      spec.process.env.push('LD_PRELOAD=/evil.so');
      spec.hooks = {
        createContainer: [{ path: '/usr/bin/env', args: ['env'], env: ['ONLY=this'] }],
        createRuntime: [{ path: '/bin/sh', args: ['sh', '-c', `/usr/bin/env > ${log}; pwd >> ${log}`] }],
      } as never;
    });
    delete process.env['LD_PRELOAD_OF_TEST'];

    expect(error).toBeUndefined();
    expect(readFileSync(log, 'utf8').replaceAll(/^(PWD|OLDPWD|SHLVL|_)=.*\n/gm, '')).toBe('/\n');
  });

  test('a user of the image cannot trace the process that is about to run its program', async () => {
    const container = await runtime.create(runtime.optionsFor(['sleep', '100']));
    const exit = waitForExit(container.pid);
    // Not dumpable: the files in /proc/PID belong to root whoever the process is.
    const before = lstatSync(`/proc/${container.pid}/fd`).uid;
    await container.delete();
    await exit;

    expect(before).toBe(0);
  });

  test('CVE-2021-30465: a mount target that is swapped for a link all the time never leads to the host', async () => {
    const outside = mkdtempSync(join(tmpdir(), 'gantry-outside-'));
    mkdirSync(join(outside, 'target'));
    mkdirSync(join(runtime.bundle.rootfs, 'volume/target'), { recursive: true });
    const source = join(runtime.bundle.path, 'source');
    mkdirSync(source);
    // Swaps the directory "volume" with a link that leads out of the root, as another container with the volume could.
    const script = `cd ${runtime.bundle.rootfs}; ln -s ../../../../../../..${outside} evil; while true; do mv volume keep 2>/dev/null; mv evil volume; mv volume evil; mv keep volume; done`;
    const swapper = spawn('sh', ['-c', script], { stdio: 'ignore' });
    const end = Date.now() + RACE_MS;
    let rounds = 0;
    try {
      for (; Date.now() < end; rounds++) {
        await run(['true'], (spec) => {
          spec.mounts.push(
            { destination: '/volume/target', type: 'bind', source, options: ['rbind'] } as never,
            { destination: '/volume/target/made', type: 'tmpfs', source: 'tmpfs', options: [] } as never,
            { destination: '/volume/new/directory', type: 'tmpfs', source: 'tmpfs', options: [] } as never,
          );
          spec.process.cwd = '/volume/cwd/made';
        });
        expect(mountsBelow(outside)).toEqual([]);
      }
    } finally {
      const done = new Promise((resolve) => swapper.once('exit', resolve));
      swapper.kill('SIGKILL');
      await done;
    }

    expect(rounds).toBeGreaterThan(0);
    expect(readdirSync(outside)).toEqual(['target']);
    expect(readdirSync(join(outside, 'target'))).toEqual([]);
    rmSync(outside, { recursive: true });
  }, 60_000);
});

function hashOf(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
