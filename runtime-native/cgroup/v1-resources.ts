// Limits in the files of cgroup v1, in an order that the kernel accepts.

import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, unknown } from '../../proto/errors';
import { errorText } from '../failure';
import type { BlockIoResources, CpuResources, DeviceRule, LinuxResources, MemoryResources } from '../spec';
import { effectiveRules, ruleText } from './devices';
import { readControl, readNumber, tryWriteControl, writeControl } from './files';

type Paths = ReadonlyMap<string, string>;

const LIMIT = 'memory.limit_in_bytes';
const SWAP_LIMIT = 'memory.memsw.limit_in_bytes';
const SWAPPINESS_MAX = 100;

/** @throws UNKNOWN in runc's words; a controller that is not mounted is an error only when something is asked of it */
export function applyResources(paths: Paths, resources: LinuxResources, update: boolean): void {
  const at = (controller: string) => {
    const path = paths.get(controller);
    if (path === undefined) throw unknown(`unable to apply cgroup configuration: cgroup ${controller} is not mounted`);
    return path;
  };
  const { memory, cpu, pids, blockIO, hugepageLimits, network } = resources;
  if (!update && paths.has('devices')) applyDevices(at('devices'), resources.devices ?? []);
  if (memory) applyMemory(at('memory'), memory);
  if (cpu) applyCpu(cpu, at);
  if (pids && pids.limit !== 0) writeControl(at('pids'), 'pids.max', pids.limit > 0 ? String(pids.limit) : 'max');
  if (blockIO) applyBlockIo(blockIO, at);
  for (const { pageSize, limit } of paths.has('hugetlb') ? (hugepageLimits ?? []) : []) {
    writeControl(at('hugetlb'), `hugetlb.${pageSize}.limit_in_bytes`, count(limit));
  }
  if (network?.classID !== undefined && paths.has('net_cls')) {
    writeControl(at('net_cls'), 'net_cls.classid', String(network.classID));
  }
  for (const { name, priority } of paths.has('net_prio') ? (network?.priorities ?? []) : []) {
    writeControl(at('net_prio'), 'net_prio.ifpriomap', `${name} ${priority}`);
  }
}

function applyDevices(path: string, rules: readonly DeviceRule[]): void {
  const allow = openSync(join(path, 'devices.allow'), constants.O_WRONLY);
  try {
    const deny = openSync(join(path, 'devices.deny'), constants.O_WRONLY);
    try {
      for (const rule of effectiveRules(rules)) writeSync(rule.allow ? allow : deny, ruleText(rule));
    } finally {
      closeSync(deny);
    }
  } catch (error) {
    throw unknown(`unable to apply cgroup configuration: devices in ${path}: ${errorText(error)}`, { cause: error });
  } finally {
    closeSync(allow);
  }
}

function applyMemory(path: string, memory: MemoryResources): void {
  const limit = memory.limit ?? 0;
  const hasSwap = readControl(path, SWAP_LIMIT) !== undefined;
  // Without a memory limit there is none for memory and swap together.
  const swap = memory.swap ?? (limit === -1 && hasSwap ? -1 : 0);
  const writeLimit = () => {
    if (limit !== 0) writeMemoryLimit(path, limit);
  };
  const writeSwap = () => {
    if (swap !== 0) writeControl(path, SWAP_LIMIT, count(swap));
  };
  // The limit of both is never below that of memory alone, so the one that grows goes first.
  const swapFirst = limit !== 0 && swap !== 0 && (swap === -1 || readNumber(path, LIMIT) < BigInt(swap));
  if (swapFirst) {
    writeSwap();
    writeLimit();
  } else {
    writeLimit();
    writeSwap();
  }
  if (memory.reservation) writeControl(path, 'memory.soft_limit_in_bytes', count(memory.reservation));
  if (memory.kernelTCP) writeControl(path, 'memory.kmem.tcp.limit_in_bytes', count(memory.kernelTCP));
  if (memory.disableOOMKiller) writeControl(path, 'memory.oom_control', '1');
  if (memory.swappiness !== undefined && memory.swappiness >= 0 && memory.swappiness <= SWAPPINESS_MAX) {
    writeControl(path, 'memory.swappiness', String(memory.swappiness));
  } else if (memory.swappiness !== undefined && memory.swappiness > SWAPPINESS_MAX && memory.swappiness < 2 ** 63) {
    throw unknown(`invalid memory swappiness value: ${memory.swappiness} (valid range is 0-100)`);
  }
}

function writeMemoryLimit(path: string, limit: number): void {
  try {
    tryWriteControl(join(path, LIMIT), count(limit));
  } catch (error) {
    if (!isErrno(error, 'EBUSY')) {
      throw unknown(`failed to write "${count(limit)}": write ${path}/${LIMIT}: ${errorText(error)}`, { cause: error });
    }
    const [usage, peak] = ['memory.usage_in_bytes', 'memory.max_usage_in_bytes'].map((file) => readNumber(path, file));
    throw unknown(`unable to set memory limit to ${limit} (current usage: ${usage}, peak usage: ${peak})`, {
      cause: error,
    });
  }
}

function applyCpu(cpu: CpuResources, at: (controller: string) => string): void {
  const set = (file: string, value: number | undefined) => {
    if (value) writeControl(at('cpu'), file, count(value));
  };
  if (cpu.idle !== undefined) writeControl(at('cpu'), 'cpu.idle', String(cpu.idle));
  set('cpu.shares', cpu.shares);
  applyQuota(cpu, set);
  set('cpu.cfs_burst_us', cpu.burst);
  set('cpu.rt_period_us', cpu.realtimePeriod);
  set('cpu.rt_runtime_us', cpu.realtimeRuntime);
  if (cpu.cpus) writeControl(at('cpuset'), 'cpuset.cpus', cpu.cpus);
  if (cpu.mems) writeControl(at('cpuset'), 'cpuset.mems', cpu.mems);
}

/** A shorter period with the old quota may be more than the parent has: then the quota goes first. */
function applyQuota(cpu: CpuResources, set: (file: string, value: number | undefined) => void): void {
  try {
    set('cpu.cfs_period_us', cpu.period);
    set('cpu.cfs_quota_us', cpu.quota);
  } catch (error) {
    if (!cpu.period || !cpu.quota) throw error;
    set('cpu.cfs_quota_us', cpu.quota);
    set('cpu.cfs_period_us', cpu.period);
  }
}

function applyBlockIo(blockIo: BlockIoResources, at: (controller: string) => string): void {
  const path = () => at('blkio');
  // BFQ has its own names; kernels without a proportional scheduler have none, and runc goes on then.
  const write = (files: readonly string[], value: string) => {
    const file = files.find((name) => readControl(path(), name) !== undefined);
    if (file !== undefined) writeControl(path(), file, value);
  };
  if (blockIo.weight) write(['blkio.weight', 'blkio.bfq.weight'], String(blockIo.weight));
  if (blockIo.leafWeight) write(['blkio.leaf_weight'], String(blockIo.leafWeight));
  for (const { major, minor, weight, leafWeight } of blockIo.weightDevice ?? []) {
    if (weight) write(['blkio.weight_device', 'blkio.bfq.weight_device'], `${major}:${minor} ${weight}`);
    if (leafWeight) write(['blkio.leaf_weight_device'], `${major}:${minor} ${leafWeight}`);
  }
  const throttles = [
    ['read_bps', blockIo.throttleReadBpsDevice],
    ['write_bps', blockIo.throttleWriteBpsDevice],
    ['read_iops', blockIo.throttleReadIOPSDevice],
    ['write_iops', blockIo.throttleWriteIOPSDevice],
  ] as const;
  for (const [name, devices] of throttles) {
    for (const { major, minor, rate } of devices ?? []) {
      writeControl(path(), `blkio.throttle.${name}_device`, `${major}:${minor} ${count(rate)}`);
    }
  }
}

/** Numbers beyond 2^53 without an exponent. */
function count(value: number): string {
  return BigInt(value).toString();
}
