// The counters of a container in the document that runc's events prints (runc: types.Stats).

import { type MemoryEntry, Metrics as MetricsV1 } from '../../proto/generated/io.containerd.cgroups.v1';
import { Metrics as MetricsV2 } from '../../proto/generated/io.containerd.cgroups.v2';
import type { EncodedStats } from '../cgroup/cgroup';

const NS_PER_US = 1000n;
/** What cgroup v2 shows for "no limit", in runc's document. */
const UNLIMITED = 2n ** 64n - 1n;

type Counters = Readonly<Record<string, unknown>>;

export function statsOf({ typeUrl, value }: EncodedStats): Counters {
  return typeUrl === MetricsV1.name ? fromV1(MetricsV1.decode(value)) : fromV2(MetricsV2.decode(value));
}

function fromV1({ cpu, memory, pids, blkio, hugetlb }: MetricsV1): Counters {
  return {
    cpu: {
      usage: {
        total: number(cpu?.usage?.total),
        percpu: (cpu?.usage?.perCpu ?? []).map(number),
        kernel: number(cpu?.usage?.kernel),
        user: number(cpu?.usage?.user),
      },
      throttling: {
        periods: number(cpu?.throttling?.periods),
        throttledPeriods: number(cpu?.throttling?.throttledPeriods),
        throttledTime: number(cpu?.throttling?.throttledTime),
      },
    },
    memory: {
      cache: number(memory?.cache),
      usage: entry(memory?.usage),
      swap: entry(memory?.swap),
      kernel: entry(memory?.kernel),
      kernelTCP: entry(memory?.kernelTcp),
      raw: rawOf(memory),
    },
    pids: pidsOf(pids),
    blkio: blkioOf(blkio),
    hugetlb: Object.fromEntries(
      hugetlb.map(({ pagesize, usage, max, failcnt }) => [
        pagesize,
        { usage: number(usage), max: number(max), failcnt: number(failcnt) },
      ]),
    ),
    intel_rdt: {},
    network_interfaces: null,
  };
}

function fromV2({ cpu, memory, pids, io, hugetlb }: MetricsV2): Counters {
  return {
    cpu: {
      usage: {
        total: number((cpu?.usageUsec ?? 0n) * NS_PER_US),
        kernel: number((cpu?.systemUsec ?? 0n) * NS_PER_US),
        user: number((cpu?.userUsec ?? 0n) * NS_PER_US),
      },
      throttling: {
        periods: number(cpu?.nrPeriods),
        throttledPeriods: number(cpu?.nrThrottled),
        throttledTime: number((cpu?.throttledUsec ?? 0n) * NS_PER_US),
      },
    },
    memory: {
      cache: number(memory?.file),
      usage: { limit: number(memory?.usageLimit), usage: number(memory?.usage), failcnt: 0 },
      swap: { limit: number(memory?.swapLimit), usage: number(memory?.swapUsage), failcnt: 0 },
      kernel: { failcnt: 0 },
      kernelTCP: { failcnt: 0 },
      raw: rawOf(memory),
    },
    pids: pidsOf(pids),
    blkio: {
      ioServiceBytesRecursive: (io?.usage ?? []).flatMap(({ major, minor, rbytes, wbytes }) => [
        { major: number(major), minor: number(minor), op: 'Read', value: number(rbytes) },
        { major: number(major), minor: number(minor), op: 'Write', value: number(wbytes) },
      ]),
    },
    hugetlb: Object.fromEntries(
      hugetlb.map(({ pagesize, current, max }) => [pagesize, { usage: number(current), max: number(max), failcnt: 0 }]),
    ),
    intel_rdt: {},
    network_interfaces: null,
  };
}

function pidsOf(pids: { readonly current: bigint; readonly limit: bigint } | undefined): Counters {
  const limit = pids?.limit ?? 0n;
  return { current: number(pids?.current), ...(limit === 0n || limit === UNLIMITED ? {} : { limit: number(limit) }) };
}

/** Counters of memory.stat under the kernel's names. */
function rawOf(memory: object | undefined): Counters {
  const counters = Object.entries(memory ?? {}).filter((pair): pair is [string, bigint] => typeof pair[1] === 'bigint');
  return Object.fromEntries(
    counters.map(([name, value]) => [name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), number(value)]),
  );
}

function blkioOf(blkio: MetricsV1['blkio']): Counters {
  const lists = Object.entries(blkio ?? {}).filter(([, entries]) => Array.isArray(entries) && entries.length > 0);
  return Object.fromEntries(
    lists.map(([name, entries]) => [
      name,
      (entries as { op: string; major: bigint; minor: bigint; value: bigint }[]).map(({ op, major, minor, value }) => ({
        major: number(major),
        minor: number(minor),
        op,
        value: number(value),
      })),
    ]),
  );
}

function entry(memory: MemoryEntry | undefined): Counters {
  return {
    limit: number(memory?.limit),
    usage: number(memory?.usage),
    max: number(memory?.max),
    failcnt: number(memory?.failcnt),
  };
}

/** Counters above 2^53 lose their last digits: only "unlimited" ones are that large. */
function number(count: bigint | undefined): number {
  return Number(count ?? 0n);
}
