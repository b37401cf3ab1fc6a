// The contract of an OCI runtime, seen from inside its containers and from its exit statuses and errors. The cases run
// on gantry's runtime and, to know that they are right, on runc where it is installed.

import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Spec } from '../../runtime-native/spec';
import { type Mutable, makeBundle, makeSpec, type TestBundle } from './runtime-bundle';

export interface RunResult {
  /** The message of a failed create; undefined when the container ran. */
  readonly error: string | undefined;
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RuntimeUnderTest {
  /** create, start, wait, delete. */
  run(options: { id: string; bundle: TestBundle; spec: Spec }): Promise<RunResult>;
}

type Change = (spec: Mutable<Spec>, bundle: TestBundle) => void;

/** Defines the cases for one runtime. */
export function runtimeSuite(runtime: RuntimeUnderTest): void {
  let bundle: TestBundle;
  let counter = 0;
  beforeAll(() => {
    bundle = makeBundle();
  });
  afterAll(() => bundle.remove());

  const run = (args: readonly string[], change: Change = () => {}) => {
    const id = `s${++counter}`;
    const spec = makeSpec(bundle, id, args);
    change(spec, bundle);
    return runtime.run({ id: `${bundle.name}-${id}`, bundle, spec: spec as Spec });
  };
  const sh = (script: string, change?: Change) => run(['sh', '-c', script], change);
  const out = async (script: string, change?: Change) => {
    const result = await sh(script, change);
    expect(result.error).toBeUndefined();
    return result.stdout.trim();
  };

  describe('process', () => {
    processCases({ run, sh, out });
  });
  describe('root filesystem', () => {
    filesystemCases({ run, sh, out });
  });
  describe('isolation', () => {
    isolationCases({ run, sh, out });
  });
  describe('errors of create', () => {
    errorCases({ run, sh, out });
  });
  describe('hooks', () => {
    hookCases({ run, sh, out });
  });
}

interface Tools {
  readonly run: (args: readonly string[], change?: Change) => Promise<RunResult>;
  readonly sh: (script: string, change?: Change) => Promise<RunResult>;
  readonly out: (script: string, change?: Change) => Promise<string>;
}

function processCases({ run, sh, out }: Tools): void {
  test('output and exit status reach the caller', async () => {
    const result = await sh('echo out; echo err >&2; exit 7');

    expect(result).toMatchObject({ error: undefined, code: 7, stdout: 'out\n', stderr: 'err\n' });
  });

  test('a signal shows as 128 and its number', async () => {
    const result = await sh('sh -c "kill -9 \\$\\$"; echo $?');

    expect(result.stdout).toBe('137\n');
  });

  test('user, groups, umask and home are those of the configuration and the image', async () => {
    const text = await out('id -u; id -g; id -G; umask; echo $HOME', (spec) => {
      spec.process.user = { uid: 1000, gid: 1000, umask: 0o027, additionalGids: [5, 44] };
    });

    expect(text.split('\n')).toEqual(['1000', '1000', '1000 5 44', '0027', '/home/user']);
  });

  test('HOME is / for a user that the image does not know, and a given one stays', async () => {
    const setUser: Change = (spec) => {
      spec.process.user = { uid: 4242, gid: 1, umask: 0o022, additionalGids: [] };
    };
    const unknown = await out('echo $HOME', setUser);
    const given = await out('echo $HOME', (spec) => spec.process.env.push('HOME=/given'));

    expect([unknown, given]).toEqual(['/', '/given']);
  });

  test('of an environment variable given twice the last value counts', async () => {
    expect(await out('echo $A', (spec) => spec.process.env.push('A=1', 'A=2'))).toBe('2');
  });

  test('the working directory is made when it is missing', async () => {
    expect(
      await out('pwd; stat -c %a .', (spec) => {
        spec.process.cwd = '/made/for/me';
      }),
    ).toBe('/made/for/me\n755');
  });

  test('capabilities are exactly the given ones, and none is inheritable', async () => {
    const text = await out('grep Cap /proc/self/status', (spec) => {
      const set = ['CAP_CHOWN', 'CAP_KILL'];
      spec.process.capabilities = { ...spec.process.capabilities, bounding: set, effective: set, permitted: set };
    });

    expect(text).toMatch(/CapInh:\s0{16}\nCapPrm:\s0{14}21\nCapEff:\s0{14}21\nCapBnd:\s0{14}21\nCapAmb:\s0{16}/);
  });

  test('no_new_privs is set when asked for', async () => {
    const script = 'grep NoNewPrivs /proc/self/status';

    expect(await out(script)).toMatch(/0$/);
    expect(
      await out(script, (spec) => {
        spec.process.noNewPrivileges = true;
      }),
    ).toMatch(/1$/);
  });

  test('limits are set', async () => {
    expect(
      await out('ulimit -n; ulimit -Hn', (spec) => {
        spec.process.rlimits = [{ type: 'RLIMIT_NOFILE', soft: 100, hard: 200 }];
      }),
    ).toBe('100\n200');
  });

  test('oom_score_adj is set', async () => {
    expect(
      await out('cat /proc/self/oom_score_adj', (spec) => {
        spec.process.oomScoreAdj = 500;
      }),
    ).toBe('500');
  });

  test('no descriptor but 0, 1 and 2 reaches the program, and no signal is blocked or ignored', async () => {
    const files = await run(['ls', '/proc/self/fd']);
    const signals = await run(['grep', '-E', 'SigBlk|SigIgn', '/proc/self/status']);

    // The last one is the directory that ls reads.
    expect(files.stdout).toBe('0\n1\n2\n3\n');
    expect(signals.stdout).toMatch(/^SigBlk:\s0{16}\nSigIgn:\s0{16}\n$/);
  });

  test('a program that cannot be executed ends with status 1 and tells stderr', async () => {
    const result = await run(['/bad-format']);

    expect(result).toMatchObject({ error: undefined, code: 1, stderr: 'exec /bad-format: exec format error\n' });
  });

  test('a seccomp filter refuses with its errno, and what it does not know with ENOSYS', async () => {
    const result = await sh('mkdir /tmp/refused; echo $?; grep Seccomp: /proc/self/status', (spec) => {
      spec.linux.seccomp = {
        defaultAction: 'SCMP_ACT_ALLOW',
        architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
        syscalls: [{ names: ['mkdir', 'mkdirat', 'no_such_call'], action: 'SCMP_ACT_ERRNO', errnoRet: 28 }],
      } as unknown as typeof spec.linux.seccomp;
    });

    expect(result.stdout).toMatch(/^1\nSeccomp:\s2\n$/);
    expect(result.stderr).toMatch(/No space left/);
  });
}

function filesystemCases({ sh, out }: Tools): void {
  test('mounts of the configuration are there with their options', async () => {
    const text = await out('cat /proc/mounts');

    expect(text).toMatch(/^proc \/proc proc rw,nosuid,nodev,noexec,relatime 0 0$/m);
    expect(text).toMatch(/^tmpfs \/dev tmpfs rw,nosuid,size=65536k,mode=755/m);
    expect(text).toMatch(/^devpts \/dev\/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666 0 0$/m);
    expect(text).toMatch(/^sysfs \/sys sysfs ro,nosuid,nodev,noexec,relatime 0 0$/m);
    expect(text).toMatch(/^mqueue \/dev\/mqueue mqueue rw,nosuid,nodev,noexec,relatime 0 0$/m);
    expect(text).toMatch(/ \/sys\/fs\/cgroup(\/memory)? (tmpfs|cgroup2?) ro,/m);
  });

  test('default devices and links are in /dev', async () => {
    const text = await out(
      'cd /dev; for n in null zero full random urandom tty; do stat -c "%n %t:%T %a" $n; done; for n in fd stdin ptmx; do readlink $n; done',
    );

    expect(text).toBe(
      'null 1:3 666\nzero 1:5 666\nfull 1:7 666\nrandom 1:8 666\nurandom 1:9 666\ntty 5:0 666\n/proc/self/fd\n/proc/self/fd/0\npts/ptmx',
    );
  });

  test('devices of the configuration get their owner and mode', async () => {
    expect(
      await out('stat -c "%t:%T %a %u:%g" /dev/sub/fuse', (spec) => {
        spec.linux.devices = [
          { path: '/dev/sub/fuse', type: 'c', major: 10, minor: 229, fileMode: 0o640, uid: 3, gid: 4 },
        ];
      }),
    ).toBe('a:e5 640 3:4');
  });

  test('a bind mount shows the host, read-only when asked for', async () => {
    const bind =
      (options: string[]): Change =>
      (spec, bundle) => {
        const source = join(bundle.path, 'shared');
        mkdirSync(source, { recursive: true });
        writeFileSync(join(source, 'file'), 'from the host');
        spec.mounts.push({ destination: '/mnt/new/place', type: 'bind', source, options } as never);
      };

    expect(await out('cat /mnt/new/place/file', bind(['rbind', 'rprivate']))).toBe('from the host');
    const result = await sh('touch /mnt/new/place/x', bind(['rbind', 'ro']));
    expect(result.stderr).toMatch(/Read-only file system/);
  });

  test('a file can be bound on a file that is missing', async () => {
    expect(
      await out('cat /etc/resolv.conf', (spec, bundle) => {
        const source = join(bundle.path, 'resolv.conf');
        writeFileSync(source, 'nameserver 10.0.0.1');
        spec.mounts.push({ destination: '/etc/resolv.conf', type: 'bind', source, options: ['bind', 'ro'] } as never);
      }),
    ).toBe('nameserver 10.0.0.1');
  });

  test('a mount target behind a link of the image stays inside the image', async () => {
    const text = await out('cat /escape/file; cat /outside/file', (spec, bundle) => {
      const source = join(bundle.path, 'bound');
      mkdirSync(source, { recursive: true });
      writeFileSync(join(source, 'file'), 'inside');
      symlinkSync('../../../../outside', join(bundle.rootfs, 'escape'));
      spec.mounts.push({ destination: '/escape', type: 'bind', source, options: ['bind'] } as never);
    });

    expect(text).toBe('insideinside');
  });

  test('masked paths are empty and read-only paths refuse writes', async () => {
    const result = await sh('cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/hostname');

    expect(result.stdout).toBe('0\n0\n');
    expect(result.stderr).toMatch(/Read-only file system/);
  });

  test('a read-only root refuses writes, but not below its mounts', async () => {
    const result = await sh('touch /file; touch /dev/shm/file && echo ok', (spec) => {
      spec.root.readonly = true;
    });

    expect(result.stdout).toBe('ok\n');
    expect(result.stderr).toMatch(/Read-only file system/);
  });

  test('a tmpfs takes the mode of the directory it covers', async () => {
    const text = await out('stat -c %a /covered', (spec, bundle) => {
      mkdirSync(join(bundle.rootfs, 'covered'), { recursive: true, mode: 0o711 });
      spec.mounts.push({ destination: '/covered', type: 'tmpfs', source: 'tmpfs', options: [] } as never);
    });

    expect(text).toBe('711');
  });

  test('tmpcopyup keeps what the image has there', async () => {
    const text = await out(
      'cat /filled/sub/file; stat -c %a:%u /filled/sub/file; readlink /filled/link',
      (spec, bundle) => {
        mkdirSync(join(bundle.rootfs, 'filled/sub'), { recursive: true });
        writeFileSync(join(bundle.rootfs, 'filled/sub/file'), 'kept\n', { mode: 0o640 });
        symlinkSync('sub/file', join(bundle.rootfs, 'filled/link'));
        spec.mounts.push({ destination: '/filled', type: 'tmpfs', source: 'tmpfs', options: ['tmpcopyup'] } as never);
      },
    );

    expect(text).toBe('kept\n640:0\nsub/file');
  });
}

function isolationCases({ out, sh }: Tools): void {
  test('the program is process 1 of its own pid namespace', async () => {
    expect(await out('echo $$; ps -o pid | wc -l')).toMatch(/^1\n[2-4]$/);
  });

  test('the hostname is its own', async () => {
    expect(await out('hostname')).toBe('box');
  });

  test('a new network namespace has a loopback that is up', async () => {
    expect(await out('ip -o link')).toMatch(/^1: lo: <LOOPBACK,UP/);
  });

  test('a namespace is shared with the host when it is not asked for', async () => {
    const own = readFileSync('/proc/sys/kernel/hostname', 'utf8').trim();
    const text = await out('hostname', (spec) => {
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'uts');
      spec.hostname = '';
    });

    expect(text).toBe(own);
  });

  test('sysctls of its own namespaces are set', async () => {
    expect(
      await out('cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax', (spec) => {
        spec.linux.sysctl = { 'net.ipv4.ip_unprivileged_port_start': '77', 'kernel.msgmax': '4096' };
      }),
    ).toBe('77\n4096');
  });

  test('the cgroups are those of the configuration', async () => {
    const text = await out('cat /proc/self/cgroup', (spec) => {
      spec.linux.resources = { ...spec.linux.resources, pids: { limit: 30 } };
    });

    expect(text).toMatch(/:\/gantry-runtime-test\//);
  });

  test('a private cgroup namespace hides where they are', async () => {
    const text = await out('cat /proc/self/cgroup', (spec) => {
      spec.linux.namespaces.push({ type: 'cgroup' } as never);
    });

    expect(text).not.toMatch(/gantry-runtime-test/);
  });

  test('devices that are not allowed cannot be opened', async () => {
    const result = await sh('mknod /dev/disk b 7 0; head -c 1 /dev/disk');

    expect(result.code).not.toBe(0);
    expect(result.stderr).toMatch(/Operation not permitted/);
  });

  test('a process limit holds', async () => {
    const result = await sh('(sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait) 2>&1', (spec) => {
      spec.linux.resources = { ...spec.linux.resources, pids: { limit: 3 } };
    });

    expect(result.stdout + result.stderr).toMatch(/fork/);
  });

  test('memory beyond the limit ends the process', async () => {
    const result = await sh('dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?', (spec) => {
      spec.linux.resources = { ...spec.linux.resources, memory: { limit: 16 << 20, swap: 16 << 20 } } as never;
    });

    expect(result.stdout).toBe('137\n');
  });
}

function errorCases({ run, sh }: Tools): void {
  const failing = async (args: readonly string[], change?: Change) => (await run(args, change)).error ?? 'no error';
  const START = 'unable to start container process: ';
  const INIT = `${START}error during container init: `;

  test.each([
    ['/x', 'exec: "/x": stat /x: no such file or directory'],
    ['x', 'exec: "x": executable file not found in $PATH'],
    ['./x', 'exec: "./x": stat ./x: no such file or directory'],
    ['/etc', 'exec: "/etc": permission denied'],
    ['/not-executable', 'exec: "/not-executable": permission denied'],
    ['', 'exec: "": executable file not found in $PATH'],
  ])('program %j', async (program, words) => {
    expect(await failing([program])).toContain(START + words);
  });

  test('a name without PATH is not found', async () => {
    expect(
      await failing(['sh'], (spec) => {
        spec.process.env = [];
      }),
    ).toContain('exec: "sh": executable file not found in $PATH');
  });

  test('no program at all', async () => {
    expect(await failing([])).toContain('args must not be empty');
  });

  test('a working directory that is a file', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.process.cwd = '/not-executable';
      }),
    ).toContain(`${INIT}mkdir /not-executable: not a directory`);
  });

  test('a relative working directory', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.process.cwd = 'relative';
      }),
    ).toContain('Cwd must be an absolute path');
  });

  test('a bind source that is missing', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.mounts.push({ destination: '/m', type: 'bind', source: '/no/such', options: ['rbind'] } as never);
      }),
    ).toMatch(/error mounting "\/no\/such" to rootfs.*: stat \/no\/such: no such file or directory/);
  });

  test('a filesystem that the kernel does not have', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.mounts.push({ destination: '/m', type: 'nosuchfs', source: 'x', options: [] } as never);
      }),
    ).toMatch(/error mounting "x" to rootfs at "\/m": .*no such device/);
  });

  test('an option that the filesystem does not have', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.mounts.push({ destination: '/m', type: 'tmpfs', source: 'x', options: ['bogus=1'] } as never);
      }),
    ).toMatch(/error mounting "x" to rootfs at "\/m": .*invalid argument/);
  });

  test('a limit above what the caller has', async () => {
    const result = await failing(['true'], (spec) => {
      spec.process.rlimits = [{ type: 'RLIMIT_NOFILE', soft: 2 ** 31, hard: 2 ** 31 }];
    });

    // A caller with CAP_SYS_RESOURCE fails as well: the number is above the kernel's own limit.
    expect(result).toContain(
      `${INIT}error setting rlimits for ready process: error setting rlimit type 7: operation not permitted`,
    );
  });

  test.each<[string, Change, RegExp]>([
    ['namespace', (spec) => spec.linux.namespaces.push({ type: 'foo' } as never), /namespace \{"?\\?"foo/],
    [
      'rlimit',
      (spec) => (spec.process.rlimits = [{ type: 'RLIMIT_FOO', soft: 1, hard: 1 }]),
      /wrong rlimit value: RLIMIT_FOO/,
    ],
    [
      'device type',
      (spec) => (spec.linux.devices = [{ path: '/dev/x', type: 'z' } as never]),
      /invalid device type \\?"z\\?"/,
    ],
    [
      'sysctl of the host',
      (spec) => (spec.linux.sysctl = { 'kernel.panic': '1' }),
      /is not in a separate kernel namespace/,
    ],
    [
      'seccomp action',
      (spec) => (spec.linux.seccomp = { defaultAction: 'SCMP_ACT_NOPE' } as never),
      /string SCMP_ACT_NOPE is not a valid action for seccomp/,
    ],
  ])('unknown %s', async (_what, change, words) => {
    expect(await failing(['true'], change)).toMatch(words);
  });

  test('a user id above 2^31', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.process.user.uid = 2 ** 31;
      }),
    ).toContain('unable to setup user: uids and gids must be in range 0-2147483647');
  });

  test('proc is not mounted through a link of the image', async () => {
    const result = await sh('true', (spec, bundle) => {
      symlinkSync('/tmp', join(bundle.rootfs, 'linked'));
      spec.mounts.push({ destination: '/linked', type: 'proc', source: 'proc', options: [] } as never);
    });

    expect(result.error).toContain('must be mounted on ordinary directory');
  });

  test('nothing is mounted over parts of proc', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.mounts.push({ destination: '/proc/sys', type: 'bind', source: '/tmp', options: ['bind'] } as never);
      }),
    ).toContain('cannot be mounted because it is inside /proc');
  });
}

function hookCases({ run, sh }: Tools): void {
  test('each kind runs at its time and reads the state', async () => {
    const log = (kind: string, bundle: TestBundle) => ({
      path: '/bin/sh',
      args: ['sh', '-c', `echo "${kind} $(cat)" >> ${join(bundle.path, 'hooks.log')}`],
      env: ['PATH=/usr/bin:/bin'],
    });
    let path = '';
    const result = await sh('echo ran', (spec, bundle) => {
      path = join(bundle.path, 'hooks.log');
      const inside = {
        path: '/bin/sh',
        args: ['sh', '-c', 'echo startContainer >> /tmp/hooks.log; cat >> /tmp/hooks.log'],
      };
      spec.hooks = {
        prestart: [log('prestart', bundle)],
        createRuntime: [log('createRuntime', bundle)],
        createContainer: [log('createContainer', bundle)],
        startContainer: [inside],
        poststart: [log('poststart', bundle)],
        poststop: [log('poststop', bundle)],
      } as never;
    });

    expect(result).toMatchObject({ error: undefined, code: 0, stdout: 'ran\n' });
    const lines = readFileSync(path, 'utf8').trim().split('\n');
    expect(lines.map((line) => line.split(' ')[0])).toEqual([
      'prestart',
      'createRuntime',
      'createContainer',
      'poststart',
      'poststop',
    ]);
    expect(lines[0]).toMatch(/"status":"creating"/);
    expect(lines[4]).toMatch(/"status":"stopped"/);
    const state = JSON.parse(lines[0]?.slice('prestart '.length) ?? '') as { pid: number; bundle: string };
    expect(state.pid).toBeGreaterThan(1);
    expect(readFileSync(join(path, '../rootfs/tmp/hooks.log'), 'utf8')).toMatch(/^startContainer\n\{.*\}/);
  });

  test('one that fails ends create and tells its output', async () => {
    const { error } = await run(['true'], (spec) => {
      spec.hooks = { prestart: [{ path: '/bin/sh', args: ['sh', '-c', 'echo out; echo err >&2; exit 3'] }] } as never;
    });

    expect(error).toContain('error running hook: exit status 3, stdout: out\\n, stderr: err\\n');
  });

  test('one that is missing ends create', async () => {
    const { error } = await run(['true'], (spec) => {
      spec.hooks = { createRuntime: [{ path: '/no/such' }] } as never;
    });

    expect(error).toContain('error running hook #0: fork/exec /no/such: no such file or directory');
  });

  test('one that takes too long is killed', async () => {
    const { error } = await run(['true'], (spec) => {
      spec.hooks = { prestart: [{ path: '/bin/sleep', args: ['sleep', '20'], timeout: 1 }] } as never;
    });

    expect(error).toContain('hook ran past specified timeout of 1.0s');
  });
}
