// Limits in the files of cgroup v2. Numbers of v1 are converted as runc converts them.

import { isErrno, unknown } from '../../proto/errors';
import type { BlockIoResources, CpuResources, LinuxResources, MemoryResources } from '../spec';
import { countText, readControl, readNumber, refusal, setControl, writeControl } from './files';
import { applyRdma, checkUsage, hugepageFiles, retryAfter, swappinessOf } from './resources';

const SHARES_MIN = 2;
const SHARES_RANGE = 262_142;
const WEIGHT_RANGE = 9_999;
const BLKIO_WEIGHT_MIN = 10;
const BLKIO_WEIGHT_RANGE = 990;

/** @throws UNKNOWN in runc's words; naming the field when cgroup v2 has nothing for it */
export function applyResources(path: string, resources: LinuxResources): void {
  refuseOfV1(resources);
  const { memory, cpu, pids, blockIO, hugepageLimits } = resources;
  const set = (field: string, file: string, value: string) => setControl(field, path, file, value);
  if (pids?.limit) set('pids.limit', 'pids.max', pids.limit > 0 ? count(pids.limit) : 'max');
  if (memory) applyMemory(path, memory, set);
  if (blockIO) applyBlockIo(path, blockIO, set);
  if (cpu) applyCpu(path, cpu, set);
  for (const { pageSize, limit } of hugepageLimits ?? []) {
    for (const file of hugepageFiles(path, pageSize, 'max')) set('hugepageLimits', file, count(limit));
  }
  applyRdma(resources, () => path);
  applyUnified(path, resources.unified ?? {});
}

function refuseOfV1({ memory, cpu, blockIO, network }: LinuxResources): void {
  const fields: readonly (readonly [string, unknown])[] = [
    ['memory.kernel', memory?.kernel !== -1 && memory?.kernel],
    ['memory.kernelTCP', memory?.kernelTCP !== -1 && memory?.kernelTCP],
    ['memory.swappiness', memory !== undefined && swappinessOf(memory) !== undefined],
    ['memory.disableOOMKiller', memory?.disableOOMKiller],
    ['memory.useHierarchy', memory?.useHierarchy === false],
    ['cpu.realtimePeriod', cpu?.realtimePeriod],
    ['cpu.realtimeRuntime', cpu?.realtimeRuntime],
    ['blockIO.leafWeight', blockIO?.leafWeight],
    ['blockIO.weightDevice', blockIO?.weightDevice?.some(({ leafWeight }) => leafWeight)],
    ['network.classID', network?.classID],
    ['network.priorities', network?.priorities?.length],
  ];
  const refused = fields.find(([, isAsked]) => Boolean(isAsked));
  if (refused !== undefined) throw refusal(refused[0], 'cgroup v2 has no such limit');
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

type SetFile = (field: string, file: string, value: string) => void;

function applyMemory(path: string, memory: MemoryResources, set: SetFile): void {
  checkUsage(memory, () => readNumber(path, 'memory.current'));
  const swap = swapOnly({ ...memory, limit: memory.limit || currentLimit(path) });
  // Swap may not be accounted for; "none" then holds by itself.
  if (swap !== undefined && (swap > 0 || readControl(path, 'memory.swap.max') !== undefined)) {
    set('memory.swap', 'memory.swap.max', count(swap));
  }
  if (memory.limit) set('memory.limit', 'memory.max', count(memory.limit));
  if (memory.reservation) set('memory.reservation', 'memory.low', count(memory.reservation));
}

/** Of a group that has one. */
function currentLimit(path: string): number {
  const limit = readControl(path, 'memory.max') ?? 'max';
  return limit === 'max' ? 0 : Number(limit);
}

function applyCpu(path: string, cpu: CpuResources, set: SetFile): void {
  // An idle group has no weight of its own.
  if (cpu.idle === 0) set('cpu.idle', 'cpu.idle', '0');
  if (cpu.shares) set('cpu.shares', 'cpu.weight', String(sharesToWeight(cpu.shares)));
  if (cpu.idle) set('cpu.idle', 'cpu.idle', String(cpu.idle));
  const setBurst = () => {
    if (cpu.burst !== undefined) set('cpu.burst', 'cpu.max.burst', count(cpu.burst));
  };
  retryAfter(Boolean(cpu.quota), setBurst, () => {
    const max = cpuMax(path, cpu);
    if (max !== undefined) set(cpu.quota ? 'cpu.quota' : 'cpu.period', 'cpu.max', max);
  });
  if (cpu.cpus) set('cpu.cpus', 'cpuset.cpus', cpu.cpus);
  if (cpu.mems) set('cpu.mems', 'cpuset.mems', cpu.mems);
}

/** A period that is not given stays by itself, a quota has to be repeated. */
function cpuMax(path: string, { quota, period }: CpuResources): string | undefined {
  if (!quota) return period ? `${readControl(path, 'cpu.max')?.split(' ')[0] || 'max'} ${period}` : undefined;
  return period ? `${count(quota)} ${period}` : count(quota);
}

function applyBlockIo(path: string, blockIo: BlockIoResources, set: SetFile): void {
  const bfq = readControl(path, 'io.bfq.weight') !== undefined;
  const write = (field: string, device: string, weight: number) => {
    if (bfq) set(field, 'io.bfq.weight', `${device}${weight}`);
    else set(field, 'io.weight', `${device === '' ? 'default ' : device}${blkioToIoWeight(weight)}`);
  };
  if (blockIo.weight) write('blockIO.weight', '', blockIo.weight);
  for (const { major, minor, weight } of blockIo.weightDevice ?? []) {
    if (weight) write('blockIO.weightDevice', `${major}:${minor} `, weight);
  }
  const limits = [
    ['throttleReadBpsDevice', 'rbps'],
    ['throttleWriteBpsDevice', 'wbps'],
    ['throttleReadIOPSDevice', 'riops'],
    ['throttleWriteIOPSDevice', 'wiops'],
  ] as const;
  for (const [field, name] of limits) {
    for (const { major, minor, rate } of blockIo[field] ?? []) {
      // None is zero in v1.
      set(`blockIO.${field}`, 'io.max', `${major}:${minor} ${name}=${rate ? count(rate) : 'max'}`);
    }
  }
}

function applyUnified(path: string, unified: Readonly<Record<string, string>>): void {
  for (const [file, value] of Object.entries(unified)) {
    const name = JSON.stringify(file);
    if (file.includes('/')) throw unknown(`unified resource ${name} must be a file name (no slashes)`);
    try {
      writeControl(path, file, value);
    } catch (error) {
      throw unifiedError(path, name, error as Error);
    }
  }
}

/** That a file is not there may have two reasons. */
function unifiedError(path: string, name: string, error: Error): Error {
  const [, controller, parameter] = /^"([^.]*)(\..*)?"$/.exec(name) ?? [];
  if (isErrno(error.cause, 'ENOENT', 'EPERM', 'EACCES')) {
    if (parameter === undefined) return unknown(`unified resource ${name} must be in the form CONTROLLER.PARAMETER`);
    const controllers = (readControl(path, 'cgroup.controllers') ?? '').split(' ');
    if (controller !== 'cgroup' && !controllers.includes(controller ?? '')) {
      return unknown(`unified resource ${name} can't be set: controller "${controller}" not available`);
    }
  }
  return unknown(`unable to set unified resource ${name}: ${error.message}`, { cause: error });
}

/** -1 is no limit. */
function count(value: number): string {
  return value < 0 ? 'max' : countText(value);
}
