// The contract of an OCI runtime's command line: that a container is as its configuration says (runtime-spec config.md,
// config-linux.md). What is seen from inside in more depth has a suite of its own, runtime.suite.ts.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { OciCommand, SpecChange } from './oci-command';

export function configurationCases(command: () => OciCommand): void {
  const out = async (script: string, change?: SpecChange) => {
    const { exitCode, stdout, stderr } = await command().run(['sh', '-c', script], change);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    return stdout.trim();
  };

  test('process: arguments, environment, directory, user and groups', async () => {
    const script = 'echo $A $(pwd) $(id -u) $(id -g) $(id -G) $(umask)';
    const change: SpecChange = (spec) => {
      Object.assign(spec.process, {
        env: ['PATH=/bin', 'A=b'],
        cwd: '/tmp',
        user: { uid: 10, gid: 20, additionalGids: [30, 40], umask: 0o27 },
      });
    };

    expect(await out(script, change)).toBe('b /tmp 10 20 20 30 40 0027');
  });

  test('process: a directory that is missing is made', async () => {
    expect(
      await out('pwd', (spec) => {
        spec.process.cwd = '/made/for/this';
      }),
    ).toBe('/made/for/this');
  });

  test('process: limits', async () => {
    const change: SpecChange = (spec) => {
      spec.process.rlimits = [
        { type: 'RLIMIT_NOFILE', soft: 100, hard: 200 },
        { type: 'RLIMIT_CORE', soft: 0, hard: 1024 },
      ];
    };

    expect(await out("grep -E 'open files|core file' /proc/self/limits | tr -s ' '", change)).toBe(
      'Max core file size 0 1024 bytes \nMax open files 100 200 files'.replace(' \n', ' \n'),
    );
  });

  test('process: a limit that does not exist is refused', async () => {
    const { exitCode } = await command().run(['true'], (spec) => {
      spec.process.rlimits = [{ type: 'RLIMIT_NONSENSE', soft: 1, hard: 1 }];
    });

    expect(exitCode).not.toBe(0);
  });

  test('process: capabilities, no new privileges, score for the out-of-memory killer', async () => {
    const change: SpecChange = (spec) => {
      const sets = ['CAP_KILL', 'CAP_AUDIT_WRITE'];
      Object.assign(spec.process, {
        capabilities: { bounding: sets, effective: sets, permitted: sets },
        noNewPrivileges: true,
        oomScoreAdj: 321,
      });
    };
    const script = "grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs' /proc/self/status | cut -f 2; cat /proc/self/oom_score_adj";

    expect(await out(script, change)).toBe('0000000020000020\n0000000020000020\n0000000020000020\n1\n321');
  });

  test('process: without arguments, or with a program that is missing, the container does not run', async () => {
    expect((await command().run([])).exitCode).not.toBe(0);
    expect((await command().run(['/no/such/program'])).exitCode).not.toBe(0);
    expect(await command().must('list', '--quiet')).toBe('');
  });

  test('root: read-only', async () => {
    const change: SpecChange = (spec) => {
      spec.root.readonly = true;
    };

    expect(await out('touch /file 2>/dev/null || echo refused', change)).toBe('refused');
  });

  test('hostname', async () => {
    expect(await out('hostname')).toBe('box');
  });

  test('mounts: in their order, with their options', async () => {
    const source = join(command().directory, 'source');
    mkdirSync(source);
    writeFileSync(join(source, 'file'), 'content');
    const change: SpecChange = (spec) => {
      spec.mounts = [
        ...spec.mounts,
        { destination: '/mnt/one', type: 'bind', source, options: ['rbind', 'ro'] },
        { destination: '/mnt/two', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'noexec', 'size=64k'] },
        { destination: '/mnt/two/in', type: 'bind', source, options: ['bind'] },
      ] as never;
    };
    const script =
      'cat /mnt/one/file /mnt/two/in/file; touch /mnt/one/x 2>/dev/null || echo " refused"; ' +
      "grep ' /mnt/two ' /proc/mounts | grep -o 'rw,nosuid,noexec'";

    expect(await out(script, change)).toBe('contentcontent refused\nrw,nosuid,noexec');
  });

  test('masked paths: files are empty, directories too', async () => {
    const change: SpecChange = (spec, bundle) => {
      mkdirSync(join(bundle.rootfs, 'secret'));
      writeFileSync(join(bundle.rootfs, 'secret/file'), 'x');
      writeFileSync(join(bundle.rootfs, 'file'), 'x');
      spec.linux.maskedPaths = ['/secret', '/file', '/not/there'];
    };

    expect(await out('ls /secret; cat /file; touch /secret/new 2>/dev/null || echo refused', change)).toBe('refused');
  });

  test('read-only paths', async () => {
    const change: SpecChange = (spec, bundle) => {
      mkdirSync(join(bundle.rootfs, 'fixed'));
      spec.linux.readonlyPaths = ['/fixed', '/not/there'];
    };

    expect(await out('touch /fixed/new 2>/dev/null || echo refused; touch /tmp/new && echo made', change)).toBe(
      'refused\nmade',
    );
  });

  test('devices: the usual ones, and those of the configuration', async () => {
    const change: SpecChange = (spec) => {
      spec.linux.devices = [
        { path: '/dev/mine', type: 'c', major: 1, minor: 5, fileMode: 0o640, uid: 3, gid: 4 },
      ] as never;
      spec.linux.resources = { devices: [{ allow: true, access: 'rwm' }] } as never;
    };
    const script =
      'for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; ' +
      "stat -c '%F %t %T %a %u %g' /dev/mine; for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done";

    expect((await out(script, change)).split('\n').map((line) => line.replace('/dev/pts', 'pts'))).toEqual([
      'character special file 1 5 640 3 4',
      '/proc/self/fd',
      '/proc/self/fd/0',
      '/proc/self/fd/1',
      '/proc/self/fd/2',
      'pts/ptmx',
    ]);
  });

  test('sysctl, and one that belongs to no namespace of the container is refused', async () => {
    expect(
      await out('cat /proc/sys/net/ipv4/ip_forward', (spec) => {
        spec.linux.sysctl = { 'net.ipv4.ip_forward': '1' };
      }),
    ).toBe('1');
    const { exitCode } = await command().run(['true'], (spec) => {
      spec.linux.sysctl = { 'vm.swappiness': '1' };
    });
    expect(exitCode).not.toBe(0);
  });

  test("namespaces: new ones, the runtime's own, and one by its path", async () => {
    const other = await command().running();
    const { pid } = await command().state(other);
    const link = (type: string) => `readlink /proc/self/ns/${type}`;
    const theirs = (await command().must('exec', other, 'sh', '-c', `${link('net')}; ${link('ipc')}`)).trim();

    const change: SpecChange = (spec) => {
      spec.linux.namespaces = [
        { type: 'mount' },
        { type: 'pid' },
        { type: 'uts' },
        { type: 'network', path: `/proc/${pid}/ns/net` },
        { type: 'ipc', path: `/proc/${pid}/ns/ipc` },
      ] as never;
    };
    expect(await out(`${link('net')}; ${link('ipc')}`, change)).toBe(theirs);
  });

  test('seccomp', async () => {
    const change: SpecChange = (spec) => {
      spec.linux.seccomp = {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 95 }],
      } as never;
    };

    expect(await out('mkdir /tmp/x 2>&1 || true', change)).toContain('not supported');
  });
}
