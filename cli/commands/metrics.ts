// gantry tasks metrics: what containers use, from either cgroup version.

import type { Command } from 'commander';
import type { Metric } from '../../proto/generated/containerd.types';
import { Metrics as MetricsV1 } from '../../proto/generated/io.containerd.cgroups.v1';
import { Metrics as MetricsV2 } from '../../proto/generated/io.containerd.cgroups.v2';
import { getContainer } from '../container/remove';
import { CommandError, EXIT } from '../failure';
import { bytes, isoTime, type ListOptions, printList } from '../output';
import type { Session } from '../session';
import { action, listOptions } from './shared';

/** Limits above this mean "none": cgroup v1 shows the largest number of pages. */
const NO_LIMIT = 2n ** 62n;
const CLOCK_MS = 1_000_000n;

interface Usage {
  readonly cpuNs: bigint;
  readonly memoryBytes: bigint;
  readonly memoryLimitBytes: bigint;
  readonly pids: bigint;
}

export function registerMetrics(tasks: Command): void {
  listOptions(tasks.command('metrics [ids...]').alias('metric').description('CPU time, memory and processes of tasks'))
    .addHelpText('after', '\nWithout ids all tasks of the namespace are shown. --format json has every counter.')
    .action(action(metrics));
}

async function metrics(session: Session, options: ListOptions, ids: string[]): Promise<void> {
  const filters = ids.map((id) => `id==${id}`);
  const { metrics: rows } = await session.connection.tasks.metrics({ filters });
  for (const id of ids) {
    if (rows.some((row) => row.id === id)) continue;
    await getContainer(session, id);
    throw new CommandError(`container "${id}" has no metrics; is it running?`, EXIT.notFound);
  }
  const decoded = rows.map((row) => ({ row, ...decode(row) }));
  printList(options, {
    rows: decoded,
    columns: [
      ['ID', ({ row }) => row.id],
      ['CPU TIME', ({ usage }) => (usage === undefined ? '-' : `${usage.cpuNs / CLOCK_MS} ms`)],
      ['MEMORY', ({ usage }) => (usage === undefined ? '-' : bytes(usage.memoryBytes))],
      ['LIMIT', ({ usage }) => limitText(usage?.memoryLimitBytes)],
      ['PIDS', ({ usage }) => `${usage?.pids ?? '-'}`],
    ],
    name: ({ row }) => row.id,
    json: ({ row, value }) => ({ id: row.id, timestamp: isoTime(row.timestamp), type: row.data?.typeUrl, data: value }),
  });
}

function limitText(limit: bigint | undefined): string {
  return limit === undefined || limit === 0n || limit > NO_LIMIT ? '-' : bytes(limit);
}

function decode({ data }: Metric): { usage: Usage | undefined; value: unknown } {
  if (data?.typeUrl === MetricsV1.name) {
    const value = MetricsV1.decode(data.value);
    return {
      value,
      usage: {
        cpuNs: value.cpu?.usage?.total ?? 0n,
        memoryBytes: value.memory?.usage?.usage ?? 0n,
        memoryLimitBytes: value.memory?.usage?.limit ?? 0n,
        pids: value.pids?.current ?? 0n,
      },
    };
  }
  if (data?.typeUrl === MetricsV2.name) {
    const value = MetricsV2.decode(data.value);
    return {
      value,
      usage: {
        cpuNs: (value.cpu?.usageUsec ?? 0n) * 1000n,
        memoryBytes: value.memory?.usage ?? 0n,
        memoryLimitBytes: value.memory?.usageLimit ?? 0n,
        pids: value.pids?.current ?? 0n,
      },
    };
  }
  return { usage: undefined, value: data };
}
