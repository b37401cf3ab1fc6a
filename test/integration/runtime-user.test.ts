// User and time namespaces, id-mapped mounts and joined namespaces, on gantry's library.

import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { unreadBytes } from '../../runtime-native/index';
import { waitFor } from '../setup/command';
import { mountsBelow } from '../setup/leftovers';
import { describeUnless } from '../setup/needs';
import { type SpecChange, useRuntime } from '../suites/runtime-bench';
import { CGROUP_PARENT, missingForContainers } from '../suites/runtime-bundle';
import type { RunResult } from '../suites/runtime-case';
import { runtimeLibrary } from '../suites/runtime-library';

const FIRST_ID = 100_000;
const MAPPING = [{ containerID: 0, hostID: FIRST_ID, size: 65_536 }];

describeUnless(missingForContainers())('user namespaces', () => {
  const runtime = useRuntime();
  const withUser =
    (change: SpecChange = () => {}): SpecChange =>
    (spec) => {
      spec.linux.namespaces.push({ type: 'user' } as never);
      Object.assign(spec.linux, { uidMappings: MAPPING, gidMappings: MAPPING });
      chmodSync(runtime.bundle.path, 0o711);
      chownSync(runtime.bundle.rootfs, FIRST_ID, FIRST_ID);
      for (const name of ['tmp', 'mnt', 'root', 'dev'])
        chownSync(join(runtime.bundle.rootfs, name), FIRST_ID, FIRST_ID);
      change(spec);
    };
  const run = (script: string, change?: SpecChange): Promise<RunResult> =>
    runtimeLibrary(runtime.root).run(runtime.specOf(['sh', '-c', script], change));

  test('root of the container is nobody on the host, and has its devices, proc and sys', async () => {
    const result = await run(
      'id -u; cat /proc/self/uid_map | tr -s " "; cat /proc/self/setgroups; head -c 3 /dev/zero | wc -c; ls /sys/kernel | wc -l; cat /proc/mounts; touch /tmp/made',
      withUser(),
    );

    expect(result).toMatchObject({ error: undefined, code: 0 });
    expect(result.stdout).toMatch(/^0\n 0 100000 65536\nallow\n3\n[1-9]/);
    expect(result.stdout).toMatch(/^\S+ \/dev\/null /m);
    expect(result.stdout).toMatch(/^sysfs \/sys sysfs ro,/m);
    expect(result.stdout).toMatch(/^proc \/proc proc /m);
    expect(statSync(join(runtime.bundle.rootfs, 'tmp/made')).uid).toBe(FIRST_ID);
  });

  test('what the container mounts in a shared volume does not come to the host', async () => {
    const volume = join(runtime.bundle.path, 'volume');
    mkdirSync(join(volume, 'place'), { recursive: true });
    execFileSync('mount', ['--bind', volume, volume]);
    try {
      execFileSync('mount', ['--make-shared', volume]);
      const container = await runtime.running(
        ['sleep', '1000'],
        withUser((spec) => {
          const mount = { destination: '/mnt', type: 'bind', source: volume, options: ['rbind'] };
          spec.mounts.push(mount as never);
          const capabilities = ['CAP_SYS_ADMIN'];
          Object.assign(spec.process, {
            capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
          });
        }),
      );

      const mounted = await runtime.exec(container, ['mount', '-t', 'tmpfs', 'x', '/mnt/place']);

      expect(mounted).toMatchObject({ code: 0 });
      expect(mountsBelow(join(volume, 'place'))).toEqual([]);
    } finally {
      execFileSync('umount', ['-R', volume]);
    }
  });

  test('cgroups, a private cgroup namespace and their mounts', async () => {
    const result = await run(
      'cat /proc/self/cgroup; set -- $(ls /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/cgroup.procs); echo $#; echo 0 > $1',
      withUser((spec) => {
        spec.linux.namespaces.push({ type: 'cgroup' } as never);
      }),
    );

    expect(result.error).toBeUndefined();
    expect(result.stdout).not.toContain(CGROUP_PARENT);
    expect(result.stdout).toMatch(/^[1-9]\d*$/m);
    expect(result.stderr).toMatch(/Read-only file system/);
  });

  test('an exec is root of the same namespace, and starts behind the same proc', async () => {
    const container = await runtime.running(['sleep', '1000'], withUser());
    const result = await runtime.exec(container, ['sh', '-c', 'id -u; readlink /proc/self/ns/user; hostname']);

    expect(result.stdout).toBe(`0\n${readlinkSync(`/proc/${container.pid}/ns/user`)}\nbox\n`);
    expect(statSync(`/proc/${container.pid}`).uid).toBe(FIRST_ID);
  });

  test('a namespace of the host is seen as the host sees it', async () => {
    const result = await run(
      'cat /sys/class/net/lo/ifindex; grep " /sys " /proc/mounts; touch /sys/fs/x',
      withUser((spec) => {
        spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'network');
      }),
    );

    expect(result).toMatchObject({ error: undefined });
    expect(result.stdout).toMatch(/^1\nsysfs \/sys sysfs ro,/);
  });

  test('hooks inside the container run in its user namespace', async () => {
    const result = await run(
      'cat /tmp/hook',
      withUser((spec) => {
        const hook = [{ path: '/bin/sh', args: ['sh', '-c', 'cat /proc/self/uid_map > /tmp/hook'] }];
        spec.hooks = { startContainer: hook } as never;
      }),
    );

    expect(result).toMatchObject({ error: undefined });
    expect(result.stdout.trim().split(/\s+/)).toEqual(['0', '100000', '65536']);
  });

  test('bind sources that only the host can reach, and id-mapped ones', async () => {
    const secret = join(runtime.bundle.path, 'secret');
    const source = join(secret, 'volume');
    mkdirSync(source, { recursive: true });
    chmodSync(secret, 0o700);
    chownSync(secret, 7777, 7777);
    writeFileSync(join(source, 'file'), 'content');
    const result = await run(
      'stat -c %u /plain/file /mapped/file /own/file; touch /mapped/new; cat /own/file',
      withUser((spec) => {
        spec.mounts.push(
          { destination: '/plain', type: 'bind', source, options: ['bind'] } as never,
          { destination: '/mapped', type: 'bind', source, options: ['bind', 'idmap'] } as never,
          {
            destination: '/own',
            type: 'bind',
            source,
            options: ['rbind', 'ridmap'],
            uidMappings: [{ containerID: 0, hostID: FIRST_ID + 5, size: 10 }],
            gidMappings: MAPPING,
          } as never,
        );
      }),
    );

    expect(result).toMatchObject({ error: undefined, code: 0, stdout: '65534\n0\n5\ncontent' });
    expect(statSync(join(source, 'new')).uid).toBe(0);
  });

  test('terminals of the container and of a further process', async () => {
    const script = 'tty; test -w /dev/console && stty size; id -u > /tmp/id';
    const options = runtime.optionsFor(
      ['sh', '-c', `${script}; sleep 1000`],
      withUser((spec) => {
        spec.process.consoleSize = { height: 33, width: 77 };
      }),
    );
    const container = await runtime.create({ ...options, io: 'terminal' });
    await container.start();
    const process = { args: ['tty'], cwd: '/', env: ['PATH=/bin'], user: { uid: 3, gid: 3 } };
    const added = await container.exec({ execId: 'e', process, io: 'terminal' });
    const first = await readTerminal(container.terminalFd ?? -1, '77');
    const second = await readTerminal(added.terminalFd ?? -1, 'pts');

    expect(first).toBe('/dev/pts/0\r\n33 77\r\n');
    expect(second).toBe('/dev/pts/1\r\n');
  });

  test('an id-mapped mount without a user namespace', async () => {
    const source = join(runtime.bundle.path, 'volume');
    mkdirSync(source);
    const uidMappings = [{ containerID: 0, hostID: 1234, size: 10 }];
    const result = await run('stat -c %u:%g /v', (spec) => {
      spec.mounts.push({
        destination: '/v',
        type: 'bind',
        source,
        options: ['bind'],
        uidMappings,
        gidMappings: MAPPING,
      } as never);
    });

    expect(result).toMatchObject({ error: undefined, stdout: `1234:${FIRST_ID}\n` });
  });

  test('user ids that have no mapping are refused by their path', async () => {
    const { error } = await run(
      'true',
      withUser((spec) => (spec.process.user.uid = 65_536)),
    );

    expect(error).toContain('runc create failed: process.user.uid: 65536 has no mapping');
  });

  test('clocks of a time namespace', async () => {
    const offset = 1_000_000;
    const change: SpecChange = (spec) => {
      spec.linux.namespaces.push({ type: 'time' } as never);
      spec.linux.timeOffsets = { boottime: { secs: offset }, monotonic: { secs: 5, nanosecs: 7 } } as never;
    };
    const uptime = () => Number(readFileSync('/proc/uptime', 'utf8').split('.')[0]);
    const before = uptime();
    const plain = await run('cut -d. -f1 /proc/uptime; tr -s " " < /proc/self/timens_offsets', change);
    const mapped = await run('cut -d. -f1 /proc/uptime', withUser(change));
    const after = uptime();

    expect(plain.stdout).toMatch(/monotonic 5 7\nboottime 1000000 0/);
    for (const { stdout } of [plain, mapped]) {
      const seen = Number(stdout.split('\n')[0]) - offset;
      expect(seen).toBeGreaterThanOrEqual(before);
      expect(seen).toBeLessThanOrEqual(after);
    }
  });

  test('joins the user, pid and network namespaces of another container', async () => {
    const first = await runtime.running(['sleep', '1000'], withUser());
    const path = (type: string) => `/proc/${first.pid}/ns/${type}`;
    const join: SpecChange = (spec) => {
      for (const namespace of spec.linux.namespaces) {
        const file = { user: 'user', pid: 'pid', network: 'net' }[namespace.type];
        if (file !== undefined) namespace.path = path(file);
      }
    };
    const joined = await run(
      'for n in user net pid; do readlink /proc/self/ns/$n; done; ps -o args | grep -c "[s]leep 1000"; hostname',
      withUser(join),
    );
    const own = await run(
      'readlink /proc/self/ns/user; echo $$; ls /sys/kernel | wc -l',
      withUser((spec) => {
        for (const namespace of spec.linux.namespaces) if (namespace.type === 'user') namespace.path = path('user');
      }),
    );

    const links = ['user', 'net', 'pid'].map((type) => readlinkSync(path(type)));
    expect(joined).toMatchObject({ error: undefined, stdout: `${links.join('\n')}\n1\nbox\n` });
    expect(own.error).toBeUndefined();
    expect(own.stdout).toMatch(new RegExp(`^${links[0]?.replaceAll(/[[\]]/g, '\\$&')}\n1\n[1-9]`));
  });

  test('a new user namespace in the network of the host or of others', async () => {
    execFileSync('ip', ['netns', 'add', `g${runtime.bundle.name}`]);
    try {
      const path = `/run/netns/g${runtime.bundle.name}`;
      const result = await run(
        'ip -o link | wc -l; ls /sys/class/net',
        withUser((spec) => {
          for (const namespace of spec.linux.namespaces) if (namespace.type === 'network') namespace.path = path;
        }),
      );

      expect(result).toMatchObject({ error: undefined });
      expect(result.stdout).toMatch(/^[1-9]/);
    } finally {
      execFileSync('ip', ['netns', 'del', `g${runtime.bundle.name}`]);
    }
  });

  test('joins a mount namespace and leaves it as it is', async () => {
    const first = await runtime.running(['sleep', '1000']);
    const options = runtime.optionsFor(['sh', '-c', 'cat /proc/mounts | wc -l; readlink /proc/self/ns/mnt'], (spec) => {
      for (const namespace of spec.linux.namespaces)
        if (namespace.type === 'mount') namespace.path = `/proc/${first.pid}/ns/mnt`;
      Object.assign(spec, { mounts: [] });
      Object.assign(spec.linux, { maskedPaths: [], readonlyPaths: [] });
    });
    const output = runtime.newOutput();
    const before = readFileSync(`/proc/${first.pid}/mounts`, 'utf8');
    const container = await runtime.create({ ...options, rootfs: '/', io: output.io });
    await container.start();
    await container.delete();

    expect(readFileSync(`/proc/${first.pid}/mounts`, 'utf8')).toBe(before);
  });
});

/** What a terminal has shown when the text is there and its line has ended. */
async function readTerminal(fd: number, text: string): Promise<string> {
  const buffer = Buffer.alloc(1000);
  let seen = '';
  await waitFor(`${text} on a terminal`, () => {
    if (unreadBytes(fd) > 0) seen += buffer.toString('utf8', 0, readSync(fd, buffer));
    return seen.includes(text) && seen.endsWith('\n');
  }).catch(() => undefined); // What is seen is compared.
  closeSync(fd);
  return seen;
}
