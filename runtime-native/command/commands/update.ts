// update: changes the limits of a running container.

import { unknown } from '../../../proto/errors';
import { intelRdtSchema } from '../../config/linux-schema';
import type { Schemata } from '../../launcher/resource-control';
import type { LinuxResources } from '../../spec';
import { readJson } from '../bundle';
import { type Command, withContainer } from '../context';
import type { Flags } from '../flags';

const STDIN = 0;

export const update: Command = {
  usage: '<container-id>',
  help: 'change the limits of a container',
  flags: {
    resources: {
      type: 'string',
      short: 'r',
      help: 'file with linux.resources as config.json has them, "-" is stdin; other flags are ignored',
    },
    'blkio-weight': { type: 'string', help: 'weight of block I/O, 10 to 1000' },
    'cpu-period': { type: 'string', help: 'CFS period, microseconds' },
    'cpu-quota': { type: 'string', help: 'CPU time per period, microseconds' },
    'cpu-burst': { type: 'string', help: 'CPU time that can be saved up, microseconds' },
    'cpu-share': { type: 'string', help: 'relative weight among containers' },
    'cpu-rt-period': { type: 'string', help: 'real-time period, microseconds' },
    'cpu-rt-runtime': { type: 'string', help: 'real-time CPU time per period, microseconds' },
    'cpu-idle': { type: 'string', help: '1: only what nobody else wants' },
    'cpuset-cpus': { type: 'string', help: 'processors to use' },
    'cpuset-mems': { type: 'string', help: 'memory nodes to use' },
    memory: { type: 'string', help: 'limit, bytes with an optional suffix b, k, m or g; -1 is none' },
    'memory-reservation': { type: 'string', help: 'soft limit, as memory' },
    'memory-swap': { type: 'string', help: 'limit of memory and swap together, as memory' },
    'kernel-memory': { type: 'string', help: 'accepted; kernels have no such limit any more' },
    'kernel-memory-tcp': { type: 'string', help: 'accepted; kernels have no such limit any more' },
    'l3-cache-schema': { type: 'string', help: 'share of the cache as resctrl has it: "L3:0=f"' },
    'mem-bw-schema': { type: 'string', help: 'memory bandwidth as resctrl has it: "MB:0=50"' },
    'pids-limit': { type: 'string', help: 'number of processes' },
  },
  words: [1, 1],
  run: async (context) => {
    const { flags } = context;
    const path = flags.text('resources');
    const schemata =
      given({ l3CacheSchema: flags.text('l3-cache-schema'), memBwSchema: flags.text('mem-bw-schema') }) ?? {};
    intelRdtSchema(schemata, 'linux.intelRdt');
    const resources = path === undefined ? fromFlags(flags) : (readJson(path === '-' ? STDIN : path) as LinuxResources);
    await withContainer(context, async (container) => {
      if (container.status() === 'stopped') throw unknown('container not running');
      await container.update(resources, schemata as Schemata);
    });
    return 0;
  },
};

function fromFlags(flags: Flags): LinuxResources {
  const text = (name: string) => flags.text(name);
  const cpu = given({
    period: flags.count('cpu-period'),
    quota: flags.count('cpu-quota'),
    burst: flags.count('cpu-burst'),
    shares: flags.count('cpu-share'),
    realtimePeriod: flags.count('cpu-rt-period'),
    realtimeRuntime: flags.count('cpu-rt-runtime'),
    idle: flags.count('cpu-idle'),
    cpus: text('cpuset-cpus'),
    mems: text('cpuset-mems'),
  });
  const memory = given({
    limit: bytes(flags, 'memory'),
    reservation: bytes(flags, 'memory-reservation'),
    swap: bytes(flags, 'memory-swap'),
  });
  const pids = given({ limit: flags.count('pids-limit') });
  const blockIO = given({ weight: flags.count('blkio-weight') });
  return given({ cpu, memory, pids, blockIO }) as LinuxResources;
}

/** Without what has not been given; undefined when that is everything. */
function given<T extends object>(values: T): Partial<T> | undefined {
  const entries = Object.entries(values).filter(([, value]) => value !== undefined);
  return entries.length === 0 ? undefined : (Object.fromEntries(entries) as Partial<T>);
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
  p: 2 ** 50,
};

function bytes(flags: Flags, name: string): number | undefined {
  const text = flags.text(name);
  if (text === undefined) return undefined;
  if (text === '-1') return -1;
  const match = /^(\d+(?:\.\d+)?) ?([bkmgtp]?)(?:i?b)?$/i.exec(text);
  if (match === null) throw unknown(`invalid value for ${name}: ${text}`);
  return Math.floor(Number(match[1]) * (UNITS[(match[2] ?? '').toLowerCase()] ?? 1));
}
