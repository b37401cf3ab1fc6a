// Counters of cgroup v1 as io.containerd.cgroups.v1.Metrics. Files that a kernel does not have leave their fields unset.

import { readdirSync } from 'node:fs';
import type { Input } from '../../proto/codec';
import { type BlkIOEntry, type MemoryEntry, Metrics } from '../../proto/generated/io.containerd.cgroups.v1';
import type { EncodedStats } from './cgroup';
import { readControl, readKeyed, readNumber, toCount } from './files';
import { rdmaStat } from './resources';

type Paths = ReadonlyMap<string, string>;

/** /proc/PID/stat counts in these. */
const TICK_NS = 10_000_000n;

/** For an Any. Loaded by v1.ts when somebody asks. @public */
export function encodeStats(paths: Paths): EncodedStats {
  return { typeUrl: Metrics.name, value: Metrics.encode(collectStats(paths)) };
}

function collectStats(paths: Paths): Input<Metrics> {
  const memory = paths.get('memory');
  return {
    ...collectPids(paths.get('pids')),
    ...collectCpu(paths.get('cpuacct'), paths.get('cpu')),
    ...(memory === undefined ? {} : collectMemory(memory)),
    ...collectBlkio(paths.get('blkio')),
    ...collectHugetlb(paths.get('hugetlb')),
    ...collectRdma(paths.get('rdma')),
  };
}

function collectPids(path: string | undefined): Input<Metrics> {
  if (path === undefined) return {};
  const limit = readControl(path, 'pids.max') ?? 'max';
  return { pids: { current: readNumber(path, 'pids.current'), limit: limit === 'max' ? 0n : toCount(limit) } };
}

function collectCpu(accounting: string | undefined, cpu: string | undefined): Input<Metrics> {
  if (accounting === undefined && cpu === undefined) return {};
  const throttling = cpu === undefined ? undefined : readKeyed(cpu, 'cpu.stat');
  const ticks = accounting === undefined ? new Map<string, bigint>() : readKeyed(accounting, 'cpuacct.stat');
  const perCpu = accounting === undefined ? '' : (readControl(accounting, 'cpuacct.usage_percpu') ?? '');
  return {
    cpu: {
      usage: {
        total: accounting === undefined ? 0n : readNumber(accounting, 'cpuacct.usage'),
        user: (ticks.get('user') ?? 0n) * TICK_NS,
        kernel: (ticks.get('system') ?? 0n) * TICK_NS,
        perCpu: perCpu.split(' ').filter(Boolean).map(toCount),
      },
      throttling: {
        periods: throttling?.get('nr_periods') ?? 0n,
        throttledPeriods: throttling?.get('nr_throttled') ?? 0n,
        throttledTime: throttling?.get('throttled_time') ?? 0n,
      },
    },
  };
}

function collectMemory(path: string): Input<Metrics> {
  const stat = readKeyed(path, 'memory.stat');
  const get = (name: string) => stat.get(name) ?? 0n;
  const oom = readKeyed(path, 'memory.oom_control');
  return {
    memory: {
      cache: get('cache'),
      rss: get('rss'),
      rssHuge: get('rss_huge'),
      mappedFile: get('mapped_file'),
      dirty: get('dirty'),
      writeback: get('writeback'),
      pgPgIn: get('pgpgin'),
      pgPgOut: get('pgpgout'),
      pgFault: get('pgfault'),
      pgMajFault: get('pgmajfault'),
      inactiveAnon: get('inactive_anon'),
      activeAnon: get('active_anon'),
      inactiveFile: get('inactive_file'),
      activeFile: get('active_file'),
      unevictable: get('unevictable'),
      hierarchicalMemoryLimit: get('hierarchical_memory_limit'),
      hierarchicalSwapLimit: get('hierarchical_memsw_limit'),
      totalCache: get('total_cache'),
      totalRss: get('total_rss'),
      totalRssHuge: get('total_rss_huge'),
      totalMappedFile: get('total_mapped_file'),
      totalDirty: get('total_dirty'),
      totalWriteback: get('total_writeback'),
      totalPgPgIn: get('total_pgpgin'),
      totalPgPgOut: get('total_pgpgout'),
      totalPgFault: get('total_pgfault'),
      totalPgMajFault: get('total_pgmajfault'),
      totalInactiveAnon: get('total_inactive_anon'),
      totalActiveAnon: get('total_active_anon'),
      totalInactiveFile: get('total_inactive_file'),
      totalActiveFile: get('total_active_file'),
      totalUnevictable: get('total_unevictable'),
      usage: memoryEntry(path, 'memory'),
      swap: memoryEntry(path, 'memory.memsw'),
      kernel: memoryEntry(path, 'memory.kmem'),
      kernelTcp: memoryEntry(path, 'memory.kmem.tcp'),
    },
    memoryOomControl: {
      oomKillDisable: oom.get('oom_kill_disable') ?? 0n,
      underOom: oom.get('under_oom') ?? 0n,
      oomKill: oom.get('oom_kill') ?? 0n,
    },
  };
}

function memoryEntry(path: string, prefix: string): Input<MemoryEntry> | undefined {
  if (readControl(path, `${prefix}.usage_in_bytes`) === undefined) return undefined;
  return {
    usage: readNumber(path, `${prefix}.usage_in_bytes`),
    limit: readNumber(path, `${prefix}.limit_in_bytes`),
    max: readNumber(path, `${prefix}.max_usage_in_bytes`),
    failcnt: readNumber(path, `${prefix}.failcnt`),
  };
}

function collectBlkio(path: string | undefined): Input<Metrics> {
  if (path === undefined) return {};
  // The scheduler's own counters where it keeps any, else those of throttling, which always counts.
  const scheduler = blkioEntries(path, 'blkio.bfq.io_serviced_recursive');
  const prefix = scheduler.length > 0 ? 'blkio.bfq' : 'blkio.throttle';
  return {
    blkio: {
      ioServiceBytesRecursive: blkioEntries(path, `${prefix}.io_service_bytes_recursive`),
      ioServicedRecursive: blkioEntries(path, `${prefix}.io_serviced_recursive`),
      ioQueuedRecursive: blkioEntries(path, 'blkio.io_queued_recursive'),
      ioServiceTimeRecursive: blkioEntries(path, 'blkio.io_service_time_recursive'),
      ioWaitTimeRecursive: blkioEntries(path, 'blkio.io_wait_time_recursive'),
      ioMergedRecursive: blkioEntries(path, 'blkio.io_merged_recursive'),
      ioTimeRecursive: blkioEntries(path, 'blkio.time_recursive'),
      sectorsRecursive: blkioEntries(path, 'blkio.sectors_recursive'),
    },
  };
}

/** Lines "8:0 Read 4096" or "8:0 4096"; the line "Total N" belongs to no device. */
function blkioEntries(path: string, file: string): Input<BlkIOEntry>[] {
  return (readControl(path, file) ?? '').split('\n').flatMap((line) => {
    const [device = '', ...rest] = line.split(' ');
    const [major, minor] = device.split(':');
    const value = rest.at(-1);
    if (major === undefined || minor === undefined || value === undefined) return [];
    return [
      {
        op: rest.length > 1 ? (rest[0] ?? '') : '',
        device: deviceNode(device),
        major: toCount(major),
        minor: toCount(minor),
        value: toCount(value),
      },
    ];
  });
}

/** The node that the kernel names for a device's number; empty when the device has gone. */
function deviceNode(device: string): string {
  const name = /^DEVNAME=(.*)$/m.exec(readControl('/sys/dev/block', `${device}/uevent`) ?? '')?.[1];
  return name === undefined ? '' : `/dev/${name}`;
}

function collectRdma(path: string | undefined): Input<Metrics> {
  return path === undefined ? {} : { rdma: rdmaStat(path) };
}

function collectHugetlb(path: string | undefined): Input<Metrics> {
  if (path === undefined) return {};
  const sizes = readdirSync(path).flatMap((file) => /^hugetlb\.([^.]+)\.usage_in_bytes$/.exec(file)?.[1] ?? []);
  return {
    hugetlb: sizes.map((pagesize) => ({
      pagesize,
      usage: readNumber(path, `hugetlb.${pagesize}.usage_in_bytes`),
      max: readNumber(path, `hugetlb.${pagesize}.max_usage_in_bytes`),
      failcnt: readNumber(path, `hugetlb.${pagesize}.failcnt`),
    })),
  };
}
