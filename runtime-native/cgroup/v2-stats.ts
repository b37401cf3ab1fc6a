// Counters of cgroup v2 as io.containerd.cgroups.v2.Metrics. Files that a kernel does not have leave their fields unset.

import { readdirSync } from 'node:fs';
import type { Input } from '../../proto/codec';
import {
  type IOEntry,
  type MemoryStat,
  Metrics,
  type PSIData,
  type PSIStats,
} from '../../proto/generated/io.containerd.cgroups.v2';
import type { EncodedStats } from './cgroup';
import { readControl, readKeyed, readNumber, toCount } from './files';
import { rdmaStat } from './resources';

/** Fields of MemoryStat by the names that memory.stat has. */
const MEMORY_FIELDS: Readonly<Record<string, keyof MemoryStat>> = Object.fromEntries(
  (
    'anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback anon_thp inactive_anon active_anon ' +
    'inactive_file active_file unevictable slab_reclaimable slab_unreclaimable pgfault pgmajfault ' +
    'workingset_nodereclaim pgrefill pgscan pgsteal pgactivate pgdeactivate pglazyfree pglazyfreed thp_fault_alloc ' +
    'thp_collapse_alloc workingset_refault_anon workingset_refault_file workingset_activate_anon workingset_activate_file'
  )
    .split(' ')
    .map((name) => [
      name,
      name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()) as keyof MemoryStat,
    ]),
);

/** For an Any. Loaded by v2.ts when somebody asks. @public */
export function encodeStats(path: string): EncodedStats {
  return { typeUrl: Metrics.name, value: Metrics.encode(collectStats(path)) };
}

function collectStats(path: string): Input<Metrics> {
  const events = readKeyed(path, 'memory.events');
  return {
    pids: { current: readNumber(path, 'pids.current'), limit: readNumber(path, 'pids.max') },
    cpu: collectCpu(path),
    memory: collectMemory(path),
    memoryEvents: {
      low: events.get('low') ?? 0n,
      high: events.get('high') ?? 0n,
      max: events.get('max') ?? 0n,
      oom: events.get('oom') ?? 0n,
      oomKill: events.get('oom_kill') ?? 0n,
      oomGroupKill: events.get('oom_group_kill') ?? 0n,
    },
    io: { usage: collectIo(path), psi: collectPressure(path, 'io.pressure') },
    hugetlb: collectHugetlb(path),
    rdma: rdmaStat(path),
  };
}

function collectCpu(path: string): Input<Metrics>['cpu'] {
  const stat = readKeyed(path, 'cpu.stat');
  const get = (name: string) => stat.get(name) ?? 0n;
  return {
    usageUsec: get('usage_usec'),
    userUsec: get('user_usec'),
    systemUsec: get('system_usec'),
    nrPeriods: get('nr_periods'),
    nrThrottled: get('nr_throttled'),
    throttledUsec: get('throttled_usec'),
    nrBursts: get('nr_bursts'),
    burstUsec: get('burst_usec'),
    psi: collectPressure(path, 'cpu.pressure'),
  };
}

function collectMemory(path: string): Input<MemoryStat> {
  const stat = readKeyed(path, 'memory.stat');
  const fields: Record<string, bigint> = {};
  for (const [name, value] of stat) {
    const field = MEMORY_FIELDS[name];
    if (field !== undefined) fields[field] = value;
  }
  return {
    ...fields,
    workingsetRefault: (stat.get('workingset_refault_anon') ?? 0n) + (stat.get('workingset_refault_file') ?? 0n),
    workingsetActivate: (stat.get('workingset_activate_anon') ?? 0n) + (stat.get('workingset_activate_file') ?? 0n),
    usage: readNumber(path, 'memory.current'),
    usageLimit: readNumber(path, 'memory.max'),
    maxUsage: readNumber(path, 'memory.peak'),
    swapUsage: readNumber(path, 'memory.swap.current'),
    swapLimit: readNumber(path, 'memory.swap.max'),
    swapMaxUsage: readNumber(path, 'memory.swap.peak'),
    psi: collectPressure(path, 'memory.pressure'),
  };
}

/** Lines "8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...". */
function collectIo(path: string): Input<IOEntry>[] {
  return (readControl(path, 'io.stat') ?? '').split('\n').flatMap((line) => {
    const [device = '', ...pairs] = line.split(' ');
    const [major, minor] = device.split(':');
    if (major === undefined || minor === undefined) return [];
    const values = new Map(pairs.map((pair) => pair.split('=') as [string, string]));
    const get = (name: string) => toCount(values.get(name) ?? '0');
    return [
      {
        major: toCount(major),
        minor: toCount(minor),
        rbytes: get('rbytes'),
        wbytes: get('wbytes'),
        rios: get('rios'),
        wios: get('wios'),
      },
    ];
  });
}

/** Lines "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full ...". */
function collectPressure(path: string, file: string): Input<PSIStats> | undefined {
  const text = tryReadPressure(path, file);
  if (text === undefined) return undefined;
  const lines = new Map(text.split('\n').map((line) => [line.split(' ')[0] ?? '', pressureOf(line)]));
  return { some: lines.get('some'), full: lines.get('full') };
}

function tryReadPressure(path: string, file: string): string | undefined {
  try {
    return readControl(path, file);
  } catch {
    // A kernel that has the file but keeps pressure accounting off.
    return undefined;
  }
}

function pressureOf(line: string): Input<PSIData> {
  const get = (name: string) => new RegExp(`${name}=([\\d.]+)`).exec(line)?.[1] ?? '0';
  return {
    avg10: Number(get('avg10')),
    avg60: Number(get('avg60')),
    avg300: Number(get('avg300')),
    total: toCount(get('total')),
  };
}

function collectHugetlb(path: string): Input<Metrics>['hugetlb'] {
  const sizes = readdirSync(path).flatMap((file) => /^hugetlb\.([^.]+)\.current$/.exec(file)?.[1] ?? []);
  return sizes.map((pagesize) => ({
    pagesize,
    current: readNumber(path, `hugetlb.${pagesize}.current`),
    max: readNumber(path, `hugetlb.${pagesize}.max`),
    failcnt: readKeyed(path, `hugetlb.${pagesize}.events`).get('max') ?? 0n,
  }));
}
