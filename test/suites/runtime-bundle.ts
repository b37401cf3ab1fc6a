// A bundle with a small root filesystem of the host's static busybox, for tests that run real containers.

import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Spec } from '../../runtime-native/spec';
import { needsFile, needsRoot } from '../setup/needs';

const BUSYBOX = ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path));
const APPLETS = (
  'sh echo cat ls true false sleep id env pwd stat mount umount mkdir touch hostname kill ps grep head dd rm ln chmod ' +
  'readlink stty tty mknod ip wc tr cut ulimit sync dmesg test tail seq trap date nc yes mkfifo find'
).split(' ');
const DIRECTORIES = ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp', 'root', 'home', 'mnt', 'run', 'var'];
const CAPABILITIES =
  'CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE'
    .split(' ')
    .map((name) => `CAP_${name}`);

/** Why real containers cannot run here; undefined when they can. */
export function missingForContainers(): string | undefined {
  if (BUSYBOX === undefined) return 'needs a static busybox (package busybox-static)';
  return needsRoot() ?? needsFile('/sys/fs/cgroup', 'a kernel with cgroups');
}

/** Directory of the groups of all containers: one for each process, so that no test removes that of another. */
export const CGROUP_PARENT = `gantry-runtime-test-${process.pid}`;

export interface TestBundle {
  readonly path: string;
  readonly rootfs: string;
  /** Unique per bundle: use it in ids and cgroup paths. */
  readonly name: string;
  remove(): void;
}

/** @param parent - directory to make it in */
export function makeBundle(parent = tmpdir()): TestBundle {
  const path = mkdtempSync(join(parent, 'gantry-runtime-'));
  const rootfs = join(path, 'rootfs');
  for (const directory of DIRECTORIES) mkdirSync(join(rootfs, directory), { recursive: true });
  copyFileSync(BUSYBOX ?? '', join(rootfs, 'bin/busybox'));
  for (const applet of APPLETS) symlinkSync('busybox', join(rootfs, 'bin', applet));
  writeFileSync(join(rootfs, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n');
  writeFileSync(join(rootfs, 'not-executable'), 'text', { mode: 0o644 });
  writeFileSync(join(rootfs, 'bad-format'), 'garbage', { mode: 0o755 });
  const name = path.slice(path.lastIndexOf('-') + 1);
  return { path, rootfs, name, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Makes a symbolic link, also where another try of a case has made it before. */
export function placeLink(target: string, path: string): void {
  rmSync(path, { force: true });
  symlinkSync(target, path);
}

/** What dockerd and ctr send, cut down to what matters, for a command. */
export function makeSpec(bundle: TestBundle, id: string, args: readonly string[]): Mutable<Spec> {
  return structuredClone({
    ociVersion: '1.0.2',
    process: {
      user: { uid: 0, gid: 0 },
      args,
      env: ['PATH=/usr/bin:/bin', 'TERM=xterm'],
      cwd: '/',
      capabilities: { bounding: CAPABILITIES, effective: CAPABILITIES, permitted: CAPABILITIES },
      noNewPrivileges: false,
    },
    root: { path: bundle.rootfs },
    hostname: 'box',
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      {
        destination: '/dev',
        type: 'tmpfs',
        source: 'tmpfs',
        options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
      },
      {
        destination: '/dev/pts',
        type: 'devpts',
        source: 'devpts',
        options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
      },
      { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777'] },
      { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
      {
        destination: '/sys/fs/cgroup',
        type: 'cgroup',
        source: 'cgroup',
        options: ['ro', 'nosuid', 'noexec', 'nodev'],
      },
    ],
    linux: {
      cgroupsPath: `/${CGROUP_PARENT}/${bundle.name}-${id}`,
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      namespaces: [{ type: 'pid' }, { type: 'ipc' }, { type: 'uts' }, { type: 'mount' }, { type: 'network' }],
      maskedPaths: ['/proc/kcore', '/proc/keys', '/proc/timer_list', '/proc/scsi', '/sys/firmware'],
      readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    },
  }) as Mutable<Spec>;
}

/** A spec that tests change in place. */
export type Mutable<T> = T extends readonly (infer E)[]
  ? Mutable<E>[]
  : T extends object
    ? { -readonly [K in keyof T]-?: Mutable<NonNullable<T[K]>> }
    : T;

/** Removes the parents of the test containers' cgroups. */
export function removeCgroupParents(): void {
  for (const hierarchy of ['.', ...readdirSync('/sys/fs/cgroup')]) {
    try {
      rmdirSync(join('/sys/fs/cgroup', hierarchy, CGROUP_PARENT));
    } catch {
      // Not there, or in use.
    }
  }
}

/** Mount points of the host below a path, for checks that nothing is left. */
export function mountsBelow(path: string): string[] {
  return execFileSync('cat', ['/proc/self/mountinfo'], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.includes(path));
}
