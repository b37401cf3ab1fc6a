// The container of a rehearsal: what Docker's default specification contains, with the runtime's own init as its program,
// which ends with status 1 when nobody has given it a plan.

/** Exit status of the program. */
export const REHEARSAL_STATUS = 1;

const CAPABILITIES =
  'CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE'
    .split(' ')
    .map((name) => `CAP_${name}`);
const PROTECTED = ['nosuid', 'noexec', 'nodev'];
const TMPFS = ['nosuid', 'strictatime', 'mode=755', 'size=65536k'];
const DEVPTS = ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'];

const mount = (destination: string, type: string, options: readonly string[]) => ({
  destination,
  type,
  source: type,
  options,
});

/** config.json (OCI runtime-spec) for a program `/init` in the directory rootfs of the bundle. */
export function rehearsalSpec(cgroupsPath: string): object {
  return {
    ociVersion: '1.2.0',
    process: {
      user: { uid: 0, gid: 0, additionalGids: [0] },
      args: ['/init'],
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
      cwd: '/',
      capabilities: { bounding: CAPABILITIES, effective: CAPABILITIES, permitted: CAPABILITIES },
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: 1024, hard: 1024 }],
      noNewPrivileges: true,
      oomScoreAdj: 0,
    },
    root: { path: 'rootfs' },
    hostname: 'rehearsal',
    mounts: [
      mount('/proc', 'proc', PROTECTED),
      mount('/dev', 'tmpfs', TMPFS),
      mount('/dev/pts', 'devpts', DEVPTS),
      mount('/dev/shm', 'tmpfs', [...PROTECTED, 'mode=1777', 'size=65536k']),
      mount('/dev/mqueue', 'mqueue', PROTECTED),
      mount('/sys', 'sysfs', [...PROTECTED, 'ro']),
      mount('/sys/fs/cgroup', 'cgroup', [...PROTECTED, 'relatime', 'ro']),
      mount('/run', 'tmpfs', TMPFS),
    ],
    linux: {
      cgroupsPath,
      resources: {
        devices: [
          { allow: false, access: 'rwm' },
          { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
        ],
        memory: { limit: 64 << 20 },
        cpu: { shares: 1024 },
      },
      namespaces: ['pid', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
      maskedPaths: ['/proc/acpi', '/proc/kcore', '/proc/keys', '/proc/timer_list', '/sys/firmware'],
      readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
      seccomp: {
        defaultAction: 'SCMP_ACT_ALLOW',
        architectures: [process.arch === 'arm64' ? 'SCMP_ARCH_AARCH64' : 'SCMP_ARCH_X86_64'],
        syscalls: [{ names: ['swapon', 'reboot'], action: 'SCMP_ACT_ERRNO' }],
      },
    },
  };
}
