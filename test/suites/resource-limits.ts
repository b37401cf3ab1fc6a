// Limits of linux.resources and the control files that must hold them, for a table that runs on several runtimes.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { hostLayout } from '../../runtime-native/cgroup/layout';
import type { LinuxResources } from '../../runtime-native/spec';

/** File name to content. */
export type Files = Readonly<Record<string, string>>;

export interface Limits {
  readonly name: string;
  readonly resources: LinuxResources;
  readonly v1: Files;
  readonly v2: Files;
  /** Why Debian's runc does something else. */
  readonly notInRunc?: string;
}

export interface Refused {
  readonly name: string;
  readonly resources: LinuxResources;
  /** Within the message of every runtime. */
  readonly v1?: string;
  readonly v2?: string;
  /** The end of our message: the field. */
  readonly field?: string;
  readonly notInRunc?: string;
}

/** Version of the host. */
export const CGROUP_VERSION = hostLayout().version;
/** The whole disk that the machine runs from, "254:0". */
export const DISK = readFileSync('/sys/block/vda/dev', 'utf8').trim();
const [major = 0, minor = 0] = DISK.split(':').map(Number);
const disk = { major, minor };
const MIB = 1024 * 1024;
const MAX_V1 = '9223372036854771712';

/** What limits are made of; counters and lists of processes are not. */
const LIMIT_FILES =
  /^(memory\.(limit_in_bytes|memsw\.limit_in_bytes|soft_limit_in_bytes|swappiness|use_hierarchy|kmem\.tcp\.limit_in_bytes|max|low|high|min|swap\.max|oom\.group)|cpu\.(shares|cfs_.*|rt_.*|idle|weight|max|max\.burst)|cpuset\.(cpus|mems)|pids\.max|blkio\.(bfq\.)?(throttle\..*_device|weight.*|leaf.*)|io\.(max|bfq\.weight|weight)|hugetlb\..*(limit_in_bytes|\.max)|rdma\.max|net_.*)$/;

/** The limits of the group at a path below the root of each hierarchy. */
export function readLimits(path: string): Record<string, string> {
  const layout = hostLayout();
  const mountpoints = layout.version === 2 ? [layout] : layout.hierarchies;
  const limits: Record<string, string> = {};
  for (const { mountpoint } of mountpoints) {
    const directory = join(mountpoint, path);
    for (const file of readdirSync(directory).filter((name) => LIMIT_FILES.test(name))) {
      limits[file] = readFileSync(join(directory, file), 'utf8').trim();
    }
  }
  return limits;
}

export const LIMITS: readonly Limits[] = [
  {
    name: 'memory: all that both versions have, and swap',
    resources: { memory: { limit: 64 * MIB, reservation: 32 * MIB, swap: 96 * MIB } },
    v1: {
      'memory.limit_in_bytes': String(64 * MIB),
      'memory.soft_limit_in_bytes': String(32 * MIB),
      'memory.memsw.limit_in_bytes': String(96 * MIB),
    },
    v2: { 'memory.max': String(64 * MIB), 'memory.low': String(32 * MIB), 'memory.swap.max': String(32 * MIB) },
  },
  {
    name: 'memory: as much swap as memory is none',
    resources: { memory: { limit: 64 * MIB, swap: 64 * MIB } },
    v1: { 'memory.memsw.limit_in_bytes': String(64 * MIB) },
    v2: { 'memory.swap.max': '0' },
  },
  {
    name: 'memory: unlimited, with which swap is too',
    resources: { memory: { limit: -1 } },
    v1: { 'memory.limit_in_bytes': MAX_V1, 'memory.memsw.limit_in_bytes': MAX_V1 },
    v2: { 'memory.max': 'max', 'memory.swap.max': 'max' },
  },
  {
    name: 'memory: unlimited swap, and what is as it is without',
    resources: { memory: { limit: 64 * MIB, swap: -1, kernel: -1, useHierarchy: true, disableOOMKiller: false } },
    v1: { 'memory.limit_in_bytes': String(64 * MIB), 'memory.memsw.limit_in_bytes': MAX_V1 },
    v2: { 'memory.max': String(64 * MIB), 'memory.swap.max': 'max' },
  },
  {
    name: 'cpu: shares, quota, period, processors and nodes; pids',
    resources: {
      cpu: { shares: 512, quota: 150_000, period: 200_000, cpus: '0', mems: '0' },
      pids: { limit: 123 },
    },
    v1: {
      'cpu.shares': '512',
      'cpu.cfs_quota_us': '150000',
      'cpu.cfs_period_us': '200000',
      'cpuset.cpus': '0',
      'cpuset.mems': '0',
      'pids.max': '123',
    },
    v2: { 'cpu.weight': '20', 'cpu.max': '150000 200000', 'cpuset.cpus': '0', 'cpuset.mems': '0', 'pids.max': '123' },
  },
  {
    name: 'cpu: a period alone, pids unlimited',
    resources: { cpu: { period: 50_000, shares: 262_144 }, pids: { limit: -1 } },
    v1: { 'cpu.cfs_period_us': '50000', 'cpu.cfs_quota_us': '-1', 'cpu.shares': '262144', 'pids.max': 'max' },
    v2: { 'cpu.max': 'max 50000', 'cpu.weight': '10000', 'pids.max': 'max' },
  },
  {
    name: 'cpu: a quota alone; no number of pids',
    resources: { cpu: { quota: 20_000, shares: 2 }, pids: { limit: 0 } },
    v1: { 'cpu.cfs_quota_us': '20000', 'cpu.shares': '2', 'pids.max': 'max' },
    v2: { 'cpu.max': '20000 100000', 'cpu.weight': '1', 'pids.max': 'max' },
  },
  {
    name: 'cpu: burst',
    resources: { cpu: { quota: 50_000, period: 100_000, burst: 25_000 } },
    v1: { 'cpu.cfs_quota_us': '50000', 'cpu.cfs_burst_us': '25000' },
    v2: { 'cpu.max': '50000 100000', 'cpu.max.burst': '25000' },
    notInRunc: 'since 1.2',
  },
  {
    name: 'cpu: idle, with shares for later',
    resources: { cpu: { idle: 1, shares: 512 } },
    v1: { 'cpu.idle': '1' },
    v2: { 'cpu.idle': '1' },
    notInRunc: 'since 1.2',
  },
  {
    name: 'block I/O: throttles',
    resources: {
      blockIO: {
        throttleReadBpsDevice: [{ ...disk, rate: MIB }],
        throttleWriteBpsDevice: [{ ...disk, rate: 2 * MIB }],
        throttleReadIOPSDevice: [{ ...disk, rate: 100 }],
        throttleWriteIOPSDevice: [{ ...disk, rate: 200 }],
      },
    },
    v1: {
      'blkio.throttle.read_bps_device': `${DISK} ${MIB}`,
      'blkio.throttle.write_bps_device': `${DISK} ${2 * MIB}`,
      'blkio.throttle.read_iops_device': `${DISK} 100`,
      'blkio.throttle.write_iops_device': `${DISK} 200`,
    },
    v2: { 'io.max': `${DISK} rbps=${MIB} wbps=${2 * MIB} riops=100 wiops=200` },
  },
];

/** What one version alone has. */
export const LIMITS_OF_V1: readonly Limits[] = [
  {
    name: 'block I/O: weights',
    resources: { blockIO: { weight: 300 } },
    v1: { 'blkio.bfq.weight': '300' },
    v2: {},
  },
  {
    name: 'memory: swappiness, the out-of-memory killer',
    resources: { memory: { limit: 64 * MIB, swappiness: 7, disableOOMKiller: true } },
    v1: { 'memory.swappiness': '7' },
    v2: {},
  },
  {
    name: 'memory: buffers of TCP',
    resources: { memory: { kernelTCP: 16 * MIB } },
    v1: { 'memory.kmem.tcp.limit_in_bytes': String(16 * MIB) },
    v2: {},
    notInRunc: 'no longer written',
  },
];

export const LIMITS_OF_V2: readonly Limits[] = [
  {
    name: 'files by name, after all others',
    resources: {
      memory: { limit: 64 * MIB },
      unified: { 'memory.high': String(48 * MIB), 'memory.max': String(80 * MIB), 'memory.oom.group': '1' },
    },
    v1: {},
    v2: { 'memory.high': String(48 * MIB), 'memory.max': String(80 * MIB), 'memory.oom.group': '1' },
  },
  {
    name: 'huge pages',
    resources: { hugepageLimits: [{ pageSize: '2MB', limit: 4 * MIB }] },
    v1: {},
    v2: { 'hugetlb.2MB.max': String(4 * MIB), 'hugetlb.2MB.rsvd.max': String(4 * MIB) },
    notInRunc: 'reservations since 1.2',
  },
];

/** In this order on one container: each with those before it. */
export const UPDATES: readonly Limits[] = [
  {
    name: 'memory grows beyond the old limit of both',
    resources: { memory: { limit: 128 * MIB, swap: 256 * MIB } },
    v1: { 'memory.limit_in_bytes': String(128 * MIB), 'memory.memsw.limit_in_bytes': String(256 * MIB) },
    v2: { 'memory.max': String(128 * MIB), 'memory.swap.max': String(128 * MIB) },
  },
  {
    name: 'memory shrinks below the old limit',
    resources: { memory: { limit: 32 * MIB, swap: 48 * MIB } },
    v1: { 'memory.limit_in_bytes': String(32 * MIB), 'memory.memsw.limit_in_bytes': String(48 * MIB) },
    v2: { 'memory.max': String(32 * MIB), 'memory.swap.max': String(16 * MIB) },
  },
  {
    name: 'unlimited memory and swap',
    resources: { memory: { limit: -1, swap: -1 } },
    v1: { 'memory.limit_in_bytes': MAX_V1, 'memory.memsw.limit_in_bytes': MAX_V1 },
    v2: { 'memory.max': 'max', 'memory.swap.max': 'max' },
  },
  {
    name: 'a quota and a shorter period',
    resources: { cpu: { quota: 9_000, period: 10_000, shares: 100 }, pids: { limit: 20 } },
    v1: { 'cpu.cfs_quota_us': '9000', 'cpu.cfs_period_us': '10000', 'cpu.shares': '100', 'pids.max': '20' },
    v2: { 'cpu.max': '9000 10000', 'cpu.weight': '4', 'pids.max': '20' },
  },
  {
    name: 'a period alone',
    resources: { cpu: { period: 20_000 } },
    v1: { 'cpu.cfs_quota_us': '9000', 'cpu.cfs_period_us': '20000' },
    v2: { 'cpu.max': '9000 20000' },
  },
  {
    name: 'no quota, and other processors',
    resources: { cpu: { quota: -1, cpus: '0', mems: '0' } },
    v1: { 'cpu.cfs_quota_us': '-1', 'cpuset.cpus': '0' },
    v2: { 'cpu.max': 'max 20000', 'cpuset.cpus': '0' },
  },
];

export const REFUSED: readonly Refused[] = [
  {
    name: 'processors that are not there',
    resources: { cpu: { cpus: '4000' } },
    v1: 'cpuset.cpus: ',
    v2: 'cpuset.cpus: ',
  },
  { name: 'too few shares', resources: { cpu: { shares: 1 } }, v1: 'the minimum allowed cpu-shares is 2' },
  { name: 'too many shares', resources: { cpu: { shares: 300_000 } }, v1: 'the maximum allowed cpu-shares is 262144' },
  {
    name: 'a quota below what the kernel takes',
    resources: { cpu: { quota: 10 } },
    v1: 'failed to write "10',
    v2: 'failed to write "10',
  },
  {
    name: 'a disk that is not there',
    resources: { blockIO: { throttleReadBpsDevice: [{ major: 99, minor: 0, rate: 5 }] } },
    v1: 'no such device',
    v2: 'no such device',
    field: 'blockIO.throttleReadBpsDevice',
  },
  {
    name: 'files of v2 on v1',
    resources: { unified: { 'memory.max': '1' } },
    v1: 'invalid configuration: cannot use unified on cgroup v1',
  },
  {
    name: 'files of a controller that is not there',
    resources: { unified: { 'nonsense.max': '1' } },
    v2: `unified resource "nonsense.max" can't be set: controller "nonsense" not available`,
  },
  {
    name: 'remote memory',
    resources: { rdma: { mlx5_1: { hcaHandles: 3, hcaObjects: 100 } } },
    v1: 'cannot set rdma limit: container could not join or create cgroup',
    v2: 'rdma.max',
    field: 'rdma',
  },
  {
    name: 'a class of network packets',
    resources: { network: { classID: 0x100001 } },
    v1: 'cannot set net_cls limit: container could not join or create cgroup',
    field: 'network.classID',
  },
  {
    name: 'priorities of network packets',
    resources: { network: { priorities: [{ name: 'lo', priority: 1 }] } },
    v1: 'cannot set net_prio limit: container could not join or create cgroup',
    field: 'network.priorities',
  },
  {
    name: 'huge pages without their controller',
    resources: { hugepageLimits: [{ pageSize: '2MB', limit: 4 * MIB }] },
    v1: 'cannot set hugetlb limit: container could not join or create cgroup',
    field: 'hugepageLimits',
  },
  {
    name: 'leaf weights',
    resources: { blockIO: { leafWeight: 300 } },
    v1: 'blkio.leaf_weight: no such file or directory',
    v2: '',
    field: 'blockIO.leafWeight',
    notInRunc: 'ignored on v2',
  },
  {
    name: 'the weight of a disk whose scheduler has none',
    resources: { blockIO: { weightDevice: [{ ...disk, weight: 500 }] } },
    v1: 'blkio.bfq.weight_device: operation not supported',
    field: 'blockIO.weightDevice',
  },
  {
    name: "the kernel's memory",
    resources: { memory: { kernel: 16 * MIB } },
    v1: 'the kernel no longer limits it',
    v2: 'cgroup v2 has no such limit',
    field: 'memory.kernel',
    notInRunc: 'ignored',
  },
  {
    name: 'no hierarchy',
    resources: { memory: { useHierarchy: false } },
    v1: 'memory.use_hierarchy: invalid argument',
    v2: 'cgroup v2 has no such limit',
    notInRunc: 'ignored',
  },
  {
    name: 'swappiness on v2',
    resources: { memory: { swappiness: 7 } },
    v2: 'cgroup v2 has no such limit',
    field: 'memory.swappiness',
    notInRunc: 'ignored',
  },
];
