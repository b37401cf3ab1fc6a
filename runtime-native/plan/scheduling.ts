// How the kernel shares processors and memory nodes with a process: scheduler, I/O priority, CPU affinity and NUMA policy
// (sched_setattr(2), ioprio_set(2), sched_setaffinity(2), set_mempolicy(2)).

import { parseNumberList } from '../config/checks';
import type { IoPriority, MemoryPolicy, Scheduler } from '../spec';
import type { Operation } from './operations';

export const IO_CLASSES: Readonly<Record<string, number>> = {
  IOPRIO_CLASS_RT: 1,
  IOPRIO_CLASS_BE: 2,
  IOPRIO_CLASS_IDLE: 3,
};
export const SCHEDULER_POLICIES: Readonly<Record<string, number>> = {
  SCHED_OTHER: 0,
  SCHED_FIFO: 1,
  SCHED_RR: 2,
  SCHED_BATCH: 3,
  SCHED_IDLE: 5,
  SCHED_DEADLINE: 6,
};
export const SCHEDULER_FLAGS: Readonly<Record<string, number>> = {
  SCHED_FLAG_RESET_ON_FORK: 0x1,
  SCHED_FLAG_RECLAIM: 0x2,
  SCHED_FLAG_DL_OVERRUN: 0x4,
  SCHED_FLAG_KEEP_POLICY: 0x8,
  SCHED_FLAG_KEEP_PARAMS: 0x10,
  SCHED_FLAG_UTIL_CLAMP_MIN: 0x20,
  SCHED_FLAG_UTIL_CLAMP_MAX: 0x40,
};
export const MEMORY_MODES: Readonly<Record<string, number>> = {
  MPOL_DEFAULT: 0,
  MPOL_PREFERRED: 1,
  MPOL_BIND: 2,
  MPOL_INTERLEAVE: 3,
  MPOL_LOCAL: 4,
  MPOL_PREFERRED_MANY: 5,
  MPOL_WEIGHTED_INTERLEAVE: 6,
};
export const MEMORY_FLAGS: Readonly<Record<string, number>> = {
  MPOL_F_STATIC_NODES: 0x8000,
  MPOL_F_RELATIVE_NODES: 0x4000,
  MPOL_F_NUMA_BALANCING: 0x2000,
};
const IO_CLASS_SHIFT = 13;

export function compileScheduler(scheduler: Scheduler): Operation {
  const { policy, flags, nice = 0, priority = 0, runtime = 0, deadline = 0, period = 0 } = scheduler;
  return {
    op: 'scheduler',
    policy: SCHEDULER_POLICIES[policy] ?? 0,
    flags: sum(flags, SCHEDULER_FLAGS),
    nice,
    priority,
    runtime: String(BigInt(runtime)),
    deadline: String(BigInt(deadline)),
    period: String(BigInt(period)),
  };
}

export function compileIoPriority({ class: name, priority = 0 }: IoPriority): Operation {
  return { op: 'ioPriority', value: ((IO_CLASSES[name] ?? 0) << IO_CLASS_SHIFT) | priority };
}

export function compileMemoryPolicy({ mode, flags, nodes }: MemoryPolicy): Operation {
  return {
    op: 'memoryPolicy',
    mode: (MEMORY_MODES[mode] ?? 0) | sum(flags, MEMORY_FLAGS),
    nodes: parseNumberList(nodes ?? '', 'linux.memoryPolicy.nodes'),
  };
}

/** Nothing for a list that is empty. */
export function compileAffinity(cpus: string | undefined): Operation[] {
  const numbers = parseNumberList(cpus ?? '', 'process.execCPUAffinity');
  return numbers.length > 0 ? [{ op: 'cpuAffinity', cpus: numbers }] : [];
}

function sum(names: readonly string[] | null | undefined, values: Readonly<Record<string, number>>): number {
  return (names ?? []).reduce((bits, name) => bits | (values[name] ?? 0), 0);
}
