// linux.resources as properties of a systemd unit (systemd.resource-control(5)), so that systemd does not undo the limits
// when it writes control files itself. What it has no property for is in the control files alone.

import { unknown } from '../../proto/errors';
import type { CpuResources, DeviceRule, LinuxResources } from '../spec';
import type { Value, Variant } from './dbus-message';
import { deviceList } from './devices';
import { sharesToWeight, swapOnly } from './v2-resources';

export type Property = readonly [string, Variant];

const UNLIMITED = (1n << 64n) - 1n;
const DEFAULT_PERIOD_US = 100_000n;
const SECOND_US = 1_000_000n;
/** systemd keeps whole percents. */
const PERCENT_US = 10_000n;
const UNIFIED_SIZES: Readonly<Record<string, string>> = {
  'memory.high': 'MemoryHigh',
  'memory.low': 'MemoryLow',
  'memory.min': 'MemoryMin',
  'memory.max': 'MemoryMax',
  'memory.swap.max': 'MemorySwapMax',
  'pids.max': 'TasksMax',
  'cpu.weight': 'CPUWeight',
};
const BITS_PER_BYTE = 8;
const PROCESSORS_MAX = 65_536;

export function property(name: string, type: string, value: Value): Property {
  return [name, { type, value }];
}

/** @param version - of the host's cgroups @throws UNKNOWN in runc's words */
export function resourceProperties(version: 1 | 2, resources: LinuxResources): Property[] {
  const { memory = {}, cpu = {}, pids, blockIO, unified } = resources;
  const number = (name: string, value: number | undefined) => (value ? [property(name, 't', countOf(value))] : []);
  const common = [
    ...quotaProperties(cpu),
    ...number('TasksMax', pids?.limit),
    ...cpusetProperty('AllowedCPUs', 'resources.CPU.Cpus', cpu.cpus),
    ...cpusetProperty('AllowedMemoryNodes', 'resources.CPU.Mems', cpu.mems),
  ];
  if (version === 1) {
    return [
      ...number('MemoryLimit', memory.limit),
      ...number('CPUShares', cpu.shares),
      ...number('BlockIOWeight', blockIO?.weight),
      ...common,
    ];
  }
  const swap = swapOnly(memory);
  const weight = cpu.idle === 1 ? 0 : cpu.shares ? sharesToWeight(cpu.shares) : undefined;
  return [
    ...number('MemoryMax', memory.limit),
    ...number('MemoryLow', memory.reservation),
    ...(swap === undefined ? [] : [property('MemorySwapMax', 't', countOf(swap))]),
    // To systemd a weight of zero is an idle group.
    ...(weight === undefined ? [] : [property('CPUWeight', 't', BigInt(weight))]),
    ...common,
    ...unifiedProperties(unified ?? {}),
  ];
}

/** The same rules as in the control files; without them systemd would open all devices again. */
export function deviceProperties(rules: readonly DeviceRule[]): Property[] {
  const { allow, exceptions } = deviceList(rules);
  if (allow) return [property('DevicePolicy', 's', 'auto'), property('DeviceAllow', 'a(ss)', [])];
  const entries = exceptions.map(({ type, major, minor, access }) => [deviceName(type, major, minor), access]);
  return [property('DevicePolicy', 's', 'strict'), property('DeviceAllow', 'a(ss)', entries)];
}

/** systemd takes paths of nodes, which it does not look up below these, or groups of them by the driver's name. */
function deviceName(type: string, major: number, minor: number): string {
  const kind = type === 'b' ? 'block' : 'char';
  if (major >= 0 && minor >= 0) return `/dev/${kind}/${major}:${minor}`;
  return major < 0 ? `${kind}-*` : `${kind}-${major}`;
}

function quotaProperties({ quota = 0, period = 0 }: CpuResources): Property[] {
  if (quota === 0 && period === 0) return [];
  const periodUs = period === 0 ? DEFAULT_PERIOD_US : BigInt(period);
  const perSecond = quota > 0 ? roundUp((BigInt(quota) * SECOND_US) / periodUs) : UNLIMITED;
  return [
    ...(period === 0 ? [] : [property('CPUQuotaPeriodUSec', 't', periodUs)]),
    property('CPUQuotaPerSecUSec', 't', perSecond),
  ];
}

function roundUp(perSecond: bigint): bigint {
  return ((perSecond + PERCENT_US - 1n) / PERCENT_US) * PERCENT_US;
}

function cpusetProperty(name: string, source: string, list: string | undefined): Property[] {
  return list ? [property(name, 'ay', bitsOf(list, `${source}=${JSON.stringify(list)}`))] : [];
}

/** "0-2,8" as bytes of bits, the lowest first. @throws UNKNOWN */
function bitsOf(list: string, name: string): number[] {
  const bytes: number[] = [];
  for (const range of list.trim().split(',')) {
    const [, first = '', last = first] = /^(\d+)(?:-(\d+))?$/.exec(range.trim()) ?? [];
    const [from, to] = [Number(first), Number(last)];
    if (first === '' || from > to || to >= PROCESSORS_MAX) throw unknown(`${name} conversion error: invalid range`);
    for (let bit = from; bit <= to; bit++) {
      const index = Math.floor(bit / BITS_PER_BYTE);
      while (bytes.length <= index) bytes.push(0);
      bytes[index] = (bytes[index] ?? 0) | (1 << (bit % BITS_PER_BYTE));
    }
  }
  return bytes;
}

function unifiedProperties(unified: Readonly<Record<string, string>>): Property[] {
  const isIdle = unified['cpu.idle']?.trim() === '1';
  return [
    ...(isIdle ? [property('CPUWeight', 't', 0n)] : []),
    ...Object.entries(unified)
      .filter(([file]) => file !== 'cpu.weight' || !isIdle)
      .flatMap(([file, text]) => unifiedProperty(file, text.trim())),
  ];
}

function unifiedProperty(file: string, value: string): Property[] {
  if (file === 'cpu.max') {
    const [quota = '', period = '0'] = value.split(/\s+/);
    return quotaProperties({ quota: quota === 'max' ? -1 : Number(quota), period: Number(period) });
  }
  const resource = `unified resource "${file}"`;
  if (file === 'cpuset.cpus') return cpusetProperty('AllowedCPUs', resource, value);
  if (file === 'cpuset.mems') return cpusetProperty('AllowedMemoryNodes', resource, value);
  const name = UNIFIED_SIZES[file];
  if (name === undefined) return [];
  if (!/^(max|\d+)$/.test(value)) throw unknown(`${resource} value conversion error: "${value}"`);
  return [property(name, 't', value === 'max' ? UNLIMITED : BigInt(value))];
}

/** -1 is no limit. */
function countOf(value: number): bigint {
  return value < 0 || value >= 2 ** 64 ? UNLIMITED : BigInt(value);
}
