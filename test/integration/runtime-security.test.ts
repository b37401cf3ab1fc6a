// Published attacks on container runtimes (runc's CVEs), tried on this one. Each case says what the attack is.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { reopenCgroup } from '../../runtime-native/cgroup/cgroup';
import { Container } from '../../runtime-native/index';
import { describeUnless } from '../setup/needs';
import { type SpecChange, useRuntime } from '../suites/runtime-bench';
import { missingForContainers, mountsBelow } from '../suites/runtime-bundle';
import type { RunResult } from '../suites/runtime-case';
import { runtimeLibrary, waitForExit } from '../suites/runtime-library';

/** open(2); Node does not name it. */
const O_PATH = 0o10000000;
/** With a hook, mounts are made while the host's root is still there. */
const withHook: SpecChange = (spec) => {
  spec.hooks = { createContainer: [{ path: '/bin/true' }] } as never;
};

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

  test('CVE-2019-5736: nor can it be written to when it does not run any more', async () => {
    const container = await runtime.create(runtime.optionsFor(['sleep', '100']));
    const path = openSync(`/proc/${container.pid}/exe`, O_PATH);
    const content = readFileSync(`/proc/self/fd/${path}`);
    await container.start();
    const before = readFileSync(`/proc/${container.pid}/comm`, 'utf8');

    const write = () => {
      const file = openSync(`/proc/self/fd/${path}`, 'r+');
      try {
        writeSync(file, 'broken');
      } finally {
        closeSync(file);
      }
    };

    expect(before).toBe('sleep\n');
    expect(write).toThrow(/EPERM|ETXTBSY/);
    expect(readFileSync(`/proc/self/fd/${path}`).equals(content)).toBe(true);
    closeSync(path);
    expect(await run(['true'])).toMatchObject({ error: undefined, code: 0 });
  });

  test('CVE-2024-21626: a working directory behind an inherited descriptor is refused', async () => {
    const host = openSync('/', 'r');
    const outcomes: string[] = [];
    for (let fd = 0; fd <= 64; fd++) {
      const options = runtime.optionsFor(['pwd'], (spec) => {
        spec.process.cwd = `/proc/self/fd/${fd}`;
      });
      await Container.create({ ...options, files: [host] }).then(
        async (container) => {
          outcomes.push(`fd ${fd}`);
          await container.delete();
        },
        () => {},
      );
    }
    closeSync(host);

    expect(outcomes).toEqual([]);
  });

  test('CVE-2024-21626: the program has no descriptor but 0, 1 and 2', async () => {
    const list = ['sh', '-c', 'ls /proc/self/fd/ | tr "\\n" " "'];
    const init = await run(list);
    const exec = await runtime.exec(await runtime.running(), list);

    // The fourth is the directory that ls reads.
    expect([init.stdout, exec.stdout]).toEqual(['0 1 2 3 ', '0 1 2 3 ']);
  });

  test('CVE-2024-21626: exec does not enter such a directory either', async () => {
    const container = await runtime.running();
    const host = openSync('/', 'r');
    const outcomes: string[] = [];
    for (let fd = 0; fd <= 64; fd++) {
      const process = { args: ['pwd'], cwd: `/proc/self/fd/${fd}`, env: ['PATH=/bin'], user: { uid: 0, gid: 0 } };
      const io = { stdin: -1, stdout: -1, stderr: -1 };
      const started = container.exec({ execId: `e${fd}`, process, io, files: [host] });
      await started.then(
        () => outcomes.push(`fd ${fd}`),
        () => {},
      );
    }
    closeSync(host);

    expect(outcomes).toEqual([]);
  });

  test.each(['proc', 'sys'])('CVE-2023-27561: /%s is a link in the image', async (name) => {
    rmSync(join(runtime.bundle.rootfs, name), { recursive: true });
    mkdirSync(join(runtime.bundle.rootfs, 'tmp/fake'), { recursive: true });
    symlinkSync('tmp/fake', join(runtime.bundle.rootfs, name));

    const { error } = await run(['true']);

    expect(error).toContain('must be mounted on ordinary directory');
  });

  test.each([
    ['before the change of root', withHook],
    ['after it', () => {}],
  ] as [string, SpecChange][])(
    'CVE-2024-45310: links of the image lead nowhere but into the image (%s)',
    async (_when, change) => {
      const outside = mkdtempSync(join(tmpdir(), 'gantry-outside-'));
      const { rootfs } = runtime.bundle;
      rmSync(join(rootfs, 'dev'), { recursive: true });
      for (const name of ['dev', 'absolute']) symlinkSync(outside, join(rootfs, name));
      symlinkSync(`../../../../../..${outside}`, join(rootfs, 'relative'));
      const targets = ['/absolute/tmpfs', '/relative/tmpfs', `/../../..${outside}/dots`, '/absolute/file'];

      const { error, stdout } = await run(['cat', '/proc/self/mountinfo'], (spec) => {
        change(spec);
        spec.process.cwd = '/relative/cwd';
        // Without a /dev of its own there is nothing to mask files with.
        spec.linux.maskedPaths = [];
        for (const destination of targets.slice(0, 3))
          spec.mounts.push({ destination, type: 'tmpfs', source: 'tmpfs' } as never);
        spec.mounts.push({
          destination: '/absolute/file',
          type: 'bind',
          source: '/etc/hostname',
          options: ['bind'],
        } as never);
        spec.linux.devices = [{ path: '/absolute/node', type: 'c', major: 1, minor: 3, fileMode: 0o666 }] as never;
      });

      expect(error).toBeUndefined();
      for (const name of ['tmpfs', 'dots', 'file']) expect(stdout).toContain(` ${outside}/${name} `);
      expect(readdirSync(outside)).toEqual([]);
      expect(mountsBelow(outside)).toEqual([]);
      rmSync(outside, { recursive: true });
    },
  );

  test('CVE-2025-52565: /dev/console of the image is a link', async () => {
    const { rootfs } = runtime.bundle;
    const victim = join(mkdtempSync(join(tmpdir(), 'gantry-outside-')), 'victim');
    writeFileSync(victim, 'content');
    mkdirSync(join(rootfs, 'dev/pts'), { recursive: true });
    symlinkSync(victim, join(rootfs, 'dev/console'));
    const options = runtime.optionsFor(['sleep', '100'], (spec) => {
      withHook(spec);
      spec.mounts = spec.mounts.filter(
        ({ destination }) => destination === '/dev/pts' || !destination.startsWith('/dev'),
      );
    });

    const container = await runtime.create({ ...options, io: 'terminal' });
    const mounts = readFileSync(`/proc/${container.pid}/mountinfo`, 'utf8');
    closeSync(container.terminalFd ?? -1);

    expect(mounts).toContain(` ${victim} `);
    expect(readFileSync(victim, 'utf8')).toBe('content');
    expect(mountsBelow(victim)).toEqual([]);
    rmSync(dirname(victim), { recursive: true });
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

  test('CVE-2019-19921, CVE-2025-52881: a label is not written into what lies over /proc/self/attr', async () => {
    const { error } = await run(['true'], (spec) => {
      spec.process.selinuxLabel = 'system_u:system_r:container_t:s0';
      spec.mounts.push({ destination: '/proc/self/attr', type: 'tmpfs', source: 'tmpfs', options: [] } as never);
    });

    // Of a kernel without SELinux; of the tmpfs it would be ENOENT.
    expect(error).toMatch(/SELinux|label.*invalid argument/);
  });

  test('CVE-2023-25809: the cgroup tree cannot be written from inside', async () => {
    const script =
      'for f in $(find /sys/fs/cgroup -name cgroup.procs 2>/dev/null || ls /sys/fs/cgroup/*/cgroup.procs); do echo 0 > $f && echo wrote; done';

    const readOnly = await run(['sh', '-c', script]);
    const writable = await run(['sh', '-c', script], (spec) => {
      for (const { type, options } of spec.mounts) if (type === 'cgroup') options.splice(options.indexOf('ro'), 1);
    });

    expect(writable.stdout).toContain('wrote');
    expect(readOnly.stdout).not.toContain('wrote');
    expect(readOnly.stderr).toMatch(/Read-only file system/);
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

  test.each([2 ** 31, 2 ** 32, -1, 1.5])('CVE-2024-40635: %s is no id', async (id) => {
    const container = await runtime.running();
    const refused = /must be|range|invalid|not a/i;

    for (const change of [{ uid: id }, { gid: id }, ...(id === 2 ** 31 ? [] : [{ additionalGids: [id] }])]) {
      const user = { uid: 0, gid: 0, ...change };
      const created = await run(['true'], (spec) => {
        spec.process.user = user as never;
      });
      expect(created.error).toMatch(refused);
      await expect(runtime.exec(container, ['true'], { user })).rejects.toThrow(refused);
    }
  });

  test('CVE-2024-25621: what is kept of a container is for its owner, whatever the umask', async () => {
    const mask = process.umask(0);
    const options = { ...runtime.optionsFor(['sleep', '100']), keepsSpec: true, startSocket: true };
    const root = join(runtime.root, 'state');
    const container = await Container.create({ ...options, root });
    process.umask(mask);
    const modeOf = (path: string) => lstatSync(path).mode & 0o077;
    const directory = join(root, options.id);
    const files = readdirSync(directory);
    const modes = [root, directory, ...files.map((name) => join(directory, name))].map(modeOf);
    await container.delete();
    rmdirSync(root);

    expect(files.sort()).toEqual(['config.json', 'start.sock', 'state.json']);
    expect(modes.filter((mode) => mode !== 0)).toEqual([]);
  });

  test('a container in the cgroup of the host does not have the host killed', () => {
    const freezer = '/sys/fs/cgroup/freezer';
    const cgroup = reopenCgroup(existsSync(freezer) ? { freezer } : { '': '/sys/fs/cgroup' }, false);

    // Signal 0 would do no harm.
    expect(() => cgroup.signalAll(0)).toThrow('refusing to signal a cgroup that holds process 1 of the host');
  });

  test.each(['/', '.', '/..', '../..', './'])("the cgroup %s is not a container's own", async (path) => {
    const { error } = await run(['true'], (spec) => {
      spec.linux.cgroupsPath = path;
    });

    expect(error).toContain(`linux.cgroupsPath: "${path}" names no group of the container's own`);
  });

  test('a user of the image cannot trace the process that is about to run its program', async () => {
    const container = await runtime.create(
      runtime.optionsFor(['sleep', '100'], (spec) => {
        spec.process.user = { ...spec.process.user, uid: 1000, gid: 1000 };
      }),
    );
    const ownerOfFiles = () => lstatSync(`/proc/${container.pid}/fd`).uid;

    // Not dumpable: the files in /proc/PID belong to root whoever the process is.
    const before = ownerOfFiles();
    await container.start();

    expect([before, ownerOfFiles()]).toEqual([0, 1000]);
  });
});

function hashOf(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
