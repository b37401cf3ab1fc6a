// Limits in the files of cgroup v2. Numbers of v1 are converted as runc converts them.

import { unknown } from '../../proto/errors';
import type { BlockIoResources, CpuResources, LinuxResources, MemoryResources } from '../spec';
import { readControl, writeControl } from './files';

const DEFAULT_PERIOD_US = 100_000;
const SHARES_MIN = 2;
const SHARES_RANGE = 262_142;
const WEIGHT_RANGE = 9_999;
const BLKIO_WEIGHT_MIN = 10;
const BLKIO_WEIGHT_RANGE = 990;

/** @throws UNKNOWN in runc's words */
export function applyResources(path: string, resources: LinuxResources): void {
  const { memory, cpu, pids, blockIO, hugepageLimits, unified } = resources;
  if (pids && pids.limit !== 0) writeControl(path, 'pids.max', pids.limit > 0 ? String(pids.limit) : 'max');
  if (memory) applyMemory(path, memory);
  if (cpu) applyCpu(path, cpu);
  if (blockIO) applyBlockIo(path, blockIO);
  for (const { pageSize, limit } of hugepageLimits ?? []) {
    writeControl(path, `hugetlb.${pageSize}.max`, count(limit));
  }
  for (const [file, value] of Object.entries(unified ?? {})) {
    if (file.includes('/')) throw unknown(`unified resource "${file}" must be a file name (no slashes)`);
    writeControl(path, file, value);
  }
}

/** Memory and swap together of v1 as swap alone; undefined leaves it. @throws UNKNOWN */
export function swapOnly(memory: MemoryResources): number | undefined {
  const { swap, limit = 0 } = memory;
  if (swap === undefined || swap === 0) return limit === -1 ? -1 : undefined;
  if (swap === -1) return -1;
  if (limit === 0 || limit === -1) throw unknown('unable to set swap limit without memory limit');
  if (swap < limit) throw unknown('memory+swap limit should be >= memory limit');
  return swap - limit;
}

/** cpu.shares 2..262144 as cpu.weight 1..10000. */
export function sharesToWeight(shares: number): number {
  if (shares === 0) return 0;
  return 1 + Math.floor(((shares - SHARES_MIN) * WEIGHT_RANGE) / SHARES_RANGE);
}

/** blkio.weight 10..1000 as io.weight 1..10000. */
export function blkioToIoWeight(weight: number): number {
  return 1 + Math.floor(((weight - BLKIO_WEIGHT_MIN) * WEIGHT_RANGE) / BLKIO_WEIGHT_RANGE);
}

function applyMemory(path: string, memory: MemoryResources): void {
  const swap = swapOnly(memory);
  // Swap may not be accounted for; "none" then holds by itself.
  if (swap !== undefined && (swap > 0 || readControl(path, 'memory.swap.max') !== undefined)) {
    writeControl(path, 'memory.swap.max', count(swap));
  }
  if (memory.limit) writeControl(path, 'memory.max', count(memory.limit));
  if (memory.reservation) writeControl(path, 'memory.low', count(memory.reservation));
}

function applyCpu(path: string, cpu: CpuResources): void {
  if (cpu.idle !== undefined) writeControl(path, 'cpu.idle', String(cpu.idle));
  if (cpu.shares) writeControl(path, 'cpu.weight', String(sharesToWeight(cpu.shares)));
  if (cpu.quota || cpu.period) {
    const quota = cpu.quota !== undefined && cpu.quota > 0 ? String(cpu.quota) : 'max';
    writeControl(path, 'cpu.max', `${quota} ${cpu.period || DEFAULT_PERIOD_US}`);
  }
  if (cpu.burst) writeControl(path, 'cpu.max.burst', String(cpu.burst));
  if (cpu.cpus) writeControl(path, 'cpuset.cpus', cpu.cpus);
  if (cpu.mems) writeControl(path, 'cpuset.mems', cpu.mems);
}

function applyBlockIo(path: string, blockIo: BlockIoResources): void {
  const bfq = readControl(path, 'io.bfq.weight') !== undefined;
  const write = (device: string, weight: number) => {
    if (bfq) writeControl(path, 'io.bfq.weight', `${device}${weight}`);
    else writeControl(path, 'io.weight', `${device === '' ? 'default ' : device}${blkioToIoWeight(weight)}`);
  };
  if (blockIo.weight) write('', blockIo.weight);
  for (const { major, minor, weight } of blockIo.weightDevice ?? []) {
    if (weight) write(`${major}:${minor} `, weight);
  }
  const limits = [
    ['rbps', blockIo.throttleReadBpsDevice],
    ['wbps', blockIo.throttleWriteBpsDevice],
    ['riops', blockIo.throttleReadIOPSDevice],
    ['wiops', blockIo.throttleWriteIOPSDevice],
  ] as const;
  for (const [name, devices] of limits) {
    for (const { major, minor, rate } of devices ?? []) {
      writeControl(path, 'io.max', `${major}:${minor} ${name}=${rate === 0 ? 'max' : count(rate)}`);
    }
  }
}

/** -1 is no limit. */
function count(value: number): string {
  return value < 0 ? 'max' : BigInt(value).toString();
}
