// Limits in the files of cgroup v1, in an order that the kernel accepts. A field that the kernel has nothing for is
// refused; one that only later versions of runc know is written as they do.

import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, unknown } from '../../proto/errors';
import { errorText } from '../failure';
import type { CpuResources, DeviceRule, LinuxResources, MemoryResources } from '../spec';
import { deviceList, ruleText } from './devices';
import { countText, readControl, readNumber, refusal, setControl } from './files';
import { applyRdma, checkUsage, hugepageFiles, retryAfter, swappinessOf } from './resources';
import { applyBlockIo } from './v1-block-io';

const LIMIT = 'memory.limit_in_bytes';
const SWAP_LIMIT = 'memory.memsw.limit_in_bytes';

/** The files of a group in all hierarchies. What stands in front of a file's first dot names its controller. */
export class GroupFiles {
  private readonly paths: ReadonlyMap<string, string>;

  constructor(paths: ReadonlyMap<string, string>) {
    this.paths = paths;
  }

  /** The directory of a controller. @throws UNKNOWN naming the field when it is not mounted */
  directory(field: string, controller: string): string {
    const path = this.paths.get(controller);
    if (path !== undefined) return path;
    throw refusal(field, `cannot set ${controller} limit: container could not join or create cgroup`);
  }

  has(field: string, file: string): boolean {
    return readControl(this.directory(field, controllerOf(file)), file) !== undefined;
  }

  set(field: string, file: string, value: string): void {
    setControl(field, this.directory(field, controllerOf(file)), file, value);
  }
}

function controllerOf(file: string): string {
  return file.slice(0, file.indexOf('.'));
}

/** @throws UNKNOWN in runc's words */
export function applyResources(paths: ReadonlyMap<string, string>, resources: LinuxResources, update: boolean): void {
  const files = new GroupFiles(paths);
  const { memory, cpu, pids, blockIO, hugepageLimits, network, unified } = resources;
  if (Object.keys(unified ?? {}).length > 0) throw unknown('invalid configuration: cannot use unified on cgroup v1');
  if (cpu?.cpus) files.set('cpu.cpus', 'cpuset.cpus', cpu.cpus);
  if (cpu?.mems) files.set('cpu.mems', 'cpuset.mems', cpu.mems);
  if (!update) applyDevices(files.directory('devices', 'devices'), resources.devices ?? []);
  if (memory) applyMemory(files, memory);
  if (cpu) applyCpu(files, cpu);
  if (pids?.limit) files.set('pids.limit', 'pids.max', pids.limit > 0 ? countText(pids.limit) : 'max');
  if (blockIO) applyBlockIo(files, blockIO);
  for (const limit of hugepageLimits ?? []) {
    const directory = files.directory('hugepageLimits', 'hugetlb');
    for (const file of hugepageFiles(directory, limit.pageSize, 'limit_in_bytes')) {
      files.set('hugepageLimits', file, countText(limit.limit));
    }
  }
  if (network?.classID) files.set('network.classID', 'net_cls.classid', String(network.classID));
  for (const { name, priority } of network?.priorities ?? []) {
    files.set('network.priorities', 'net_prio.ifpriomap', `${name} ${priority}`);
  }
  applyRdma(resources, () => files.directory('rdma', 'rdma'));
}

function applyDevices(path: string, rules: readonly DeviceRule[]): void {
  const list = deviceList(rules);
  const allow = openSync(join(path, 'devices.allow'), constants.O_WRONLY);
  try {
    const deny = openSync(join(path, 'devices.deny'), constants.O_WRONLY);
    try {
      writeSync(list.allow ? allow : deny, 'a');
      for (const rule of list.exceptions) writeSync(rule.allow ? allow : deny, ruleText(rule));
    } finally {
      closeSync(deny);
    }
  } catch (error) {
    throw unknown(`unable to apply cgroup configuration: devices in ${path}: ${errorText(error)}`, { cause: error });
  } finally {
    closeSync(allow);
  }
}

function applyMemory(files: GroupFiles, memory: MemoryResources): void {
  if (memory.useHierarchy !== undefined) {
    files.set('memory.useHierarchy', 'memory.use_hierarchy', memory.useHierarchy ? '1' : '0');
  }
  checkUsage(memory, () => readNumber(files.directory('memory.limit', 'memory'), 'memory.usage_in_bytes'));
  applyMemoryAndSwap(files, memory);
  const set = (field: string, file: string, value: number | undefined) => {
    if (value) files.set(`memory.${field}`, file, countText(value));
  };
  set('reservation', 'memory.soft_limit_in_bytes', memory.reservation);
  if (memory.kernel && memory.kernel !== -1) writeKernelLimit(files, memory.kernel);
  set('kernelTCP', 'memory.kmem.tcp.limit_in_bytes', memory.kernelTCP);
  if (memory.disableOOMKiller) files.set('memory.disableOOMKiller', 'memory.oom_control', '1');
  const swappiness = swappinessOf(memory);
  if (swappiness !== undefined) files.set('memory.swappiness', 'memory.swappiness', String(swappiness));
}

/** Linux 6.1 and newer take a limit and forget it. */
function writeKernelLimit(files: GroupFiles, limit: number): void {
  const [field, file] = ['memory.kernel', 'memory.kmem.limit_in_bytes'] as const;
  files.set(field, file, countText(limit));
  const given = readNumber(files.directory(field, 'memory'), file);
  if (given > BigInt(limit)) throw refusal(field, `failed to set ${file}: the kernel no longer limits it`);
}

function applyMemoryAndSwap(files: GroupFiles, memory: MemoryResources): void {
  const limit = memory.limit ?? 0;
  // Without a memory limit there is none for memory and swap together.
  const swap = memory.swap || (limit === -1 && files.has('memory.limit', SWAP_LIMIT) ? -1 : 0);
  const writeLimit = () => {
    if (limit !== 0) writeMemoryLimit(files, limit);
  };
  const writeSwap = () => {
    if (swap !== 0) files.set('memory.swap', SWAP_LIMIT, countText(swap));
  };
  // The limit of both is never below that of memory alone, so the one that grows goes first.
  const current = () => readNumber(files.directory('memory.limit', 'memory'), LIMIT);
  const swapFirst = limit !== 0 && swap !== 0 && (swap === -1 || current() < BigInt(swap));
  if (swapFirst) {
    writeSwap();
    writeLimit();
  } else {
    writeLimit();
    writeSwap();
  }
}

function writeMemoryLimit(files: GroupFiles, limit: number): void {
  try {
    files.set('memory.limit', LIMIT, countText(limit));
  } catch (error) {
    if (!isErrno((error as Error).cause, 'EBUSY')) throw error;
    const path = files.directory('memory.limit', 'memory');
    const [usage, peak] = ['memory.usage_in_bytes', 'memory.max_usage_in_bytes'].map((file) => readNumber(path, file));
    throw unknown(`unable to set memory limit to ${limit} (current usage: ${usage}, peak usage: ${peak})`, {
      cause: error,
    });
  }
}

function applyCpu(files: GroupFiles, cpu: CpuResources): void {
  const set = (field: keyof CpuResources, file: string) => {
    if (cpu[field]) files.set(`cpu.${field}`, file, countText(cpu[field] as number));
  };
  // An idle group has no shares of its own.
  if (cpu.idle === 0) files.set('cpu.idle', 'cpu.idle', '0');
  if (cpu.shares) {
    set('shares', 'cpu.shares');
    checkShares(cpu.shares, readNumber(files.directory('cpu.shares', 'cpu'), 'cpu.shares'));
  }
  applyQuota(files, cpu, set);
  if (cpu.idle) files.set('cpu.idle', 'cpu.idle', String(cpu.idle));
  retryAfter(
    cpu.realtimeRuntime !== undefined && cpu.realtimeRuntime !== 0,
    () => set('realtimePeriod', 'cpu.rt_period_us'),
    () => set('realtimeRuntime', 'cpu.rt_runtime_us'),
  );
}

/** The kernel corrects a number of shares that it does not like. */
function checkShares(asked: number, given: bigint): void {
  if (BigInt(asked) > given) throw unknown(`the maximum allowed cpu-shares is ${given}`);
  if (BigInt(asked) < given) throw unknown(`the minimum allowed cpu-shares is ${given}`);
}

/** What a period and a burst may be depends on the quota, and the other way round. */
function applyQuota(
  files: GroupFiles,
  cpu: CpuResources,
  set: (field: keyof CpuResources, file: string) => void,
): void {
  const hasQuota = cpu.quota !== undefined && cpu.quota !== 0;
  const setBurst = () => {
    if (cpu.burst !== undefined) files.set('cpu.burst', 'cpu.cfs_burst_us', countText(cpu.burst));
  };
  retryAfter(hasQuota, setBurst, () => {
    retryAfter(
      hasQuota,
      () => set('period', 'cpu.cfs_period_us'),
      () => set('quota', 'cpu.cfs_quota_us'),
    );
  });
}
