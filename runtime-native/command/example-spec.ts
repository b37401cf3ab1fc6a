// The configurations that `spec` writes: a shell in a root filesystem that the user provides.

import { SPEC_VERSION } from '../spec';

const CAPABILITIES = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'];
const NAMESPACES = ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup'];
const NAMESPACES_ROOTLESS = ['pid', 'ipc', 'uts', 'mount', 'cgroup', 'user'];
const TERMINAL_GROUP = 'gid=5';

export function exampleSpec() {
  return {
    ociVersion: SPEC_VERSION,
    process: {
      terminal: true,
      user: { uid: 0, gid: 0 },
      args: ['sh'],
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TERM=xterm'],
      cwd: '/',
      capabilities: { bounding: CAPABILITIES, effective: CAPABILITIES, permitted: CAPABILITIES },
      rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: 'rootfs', readonly: true },
    hostname: 'gantry',
    mounts: mounts(),
    linux: {
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      namespaces: NAMESPACES.map((type) => ({ type })),
      maskedPaths: [
        '/proc/acpi',
        '/proc/asound',
        '/proc/kcore',
        '/proc/keys',
        '/proc/latency_stats',
        '/proc/timer_list',
        '/proc/timer_stats',
        '/proc/sched_debug',
        '/sys/firmware',
        '/proc/scsi',
      ],
      readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    },
  };
}

/** For one user, who becomes root in a user namespace: without limits, the host's network, groups that are not mapped. */
export function rootlessSpec(uid: number, gid: number) {
  const { linux, mounts: all, ...rest } = exampleSpec();
  const { resources: _, ...linuxRest } = linux;
  return {
    ...rest,
    mounts: all.map((mount) =>
      mount.destination === '/sys'
        ? { ...mount, type: 'none', source: '/sys', options: ['rbind', ...mount.options] }
        : { ...mount, ...(mount.options ? { options: mount.options.filter((text) => text !== TERMINAL_GROUP) } : {}) },
    ),
    linux: {
      uidMappings: [{ containerID: 0, hostID: uid, size: 1 }],
      gidMappings: [{ containerID: 0, hostID: gid, size: 1 }],
      ...linuxRest,
      namespaces: NAMESPACES_ROOTLESS.map((type) => ({ type })),
    },
  };
}

function mounts() {
  const safe = ['nosuid', 'noexec', 'nodev'];
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: safe },
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
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', TERMINAL_GROUP],
    },
    { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: [...safe, 'mode=1777', 'size=65536k'] },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: safe },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...safe, 'ro'] },
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: [...safe, 'relatime', 'ro'] },
  ];
}
