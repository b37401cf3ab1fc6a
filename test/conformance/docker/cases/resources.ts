// Cases about limits, and about what a container uses.

import type { Case } from '../../session';
import { greedy, idle, inState, remove, sh, show } from '../steps';

const CGROUP = '/sys/fs/cgroup';
const values = (...files: readonly string[]) => `cd ${CGROUP}; for f in ${files.join(' ')}; do echo $f $(cat $f); done`;
const MEMORY = [
  'memory/memory.limit_in_bytes',
  'memory/memory.soft_limit_in_bytes',
  'memory/memory.memsw.limit_in_bytes',
];
const CPU = [
  'cpu/cpu.shares',
  'cpu/cpu.cfs_quota_us',
  'cpu/cpu.cfs_period_us',
  'cpuset/cpuset.cpus',
  'cpuset/cpuset.mems',
];

export const resourcesCases: Case[] = [
  {
    name: 'resources: limits of run',
    steps: [
      sh(values(...MEMORY), '-m', '64m', '--memory-reservation', '32m', '--memory-swap', '128m'),
      sh(values(...MEMORY, 'memory/memory.swappiness'), '-m', '64m', '--memory-swappiness', '7'),
      sh(values('memory/memory.oom_control'), '-m', '64m', '--oom-kill-disable'),
      sh(values(...CPU), '--cpus', '0.5', '--cpu-shares', '77', '--cpuset-cpus', '0', '--cpuset-mems', '0'),
      sh(values(...CPU), '--cpu-period', '50000', '--cpu-quota', '20000'),
      sh(values('pids/pids.max'), '--pids-limit', '33'),
      sh(values('pids/pids.max'), '--pids-limit', '-1'),
      sh('for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait', '--pids-limit', '3'),
      sh('true', '--blkio-weight', '300'),
      sh(
        values('blkio/blkio.throttle.read_bps_device', 'blkio/blkio.throttle.write_iops_device'),
        ...['--device-read-bps', '/dev/zero:1mb', '--device-write-iops', '/dev/zero:100'],
      ),
      sh('true', '--cpuset-cpus', '4000'),
      sh('true', '-m', '64m', '--memory-swap', '32m'),
    ],
    hide: [[/Resource temporarily unavailable/g, 'EAGAIN']],
  },
  {
    name: 'resources: update',
    steps: [
      ...idle('updated', '-m', '64m', '--memory-swap', '128m'),
      ['update', '-m', '32m', '--memory-swap', '64m', '--memory-reservation', '16m', 'updated'],
      ['update', '--cpus', '0.7', '--cpuset-cpus', '0', '--cpu-shares', '99', '--pids-limit', '44', 'updated'],
      ['exec', 'updated', 'sh', '-c', values(...MEMORY, ...CPU, 'pids/pids.max')],
      show('updated', '.HostConfig.Memory', '.HostConfig.NanoCpus', '.HostConfig.PidsLimit'),
      ['update', '--memory', '1k', 'updated'],
      ['update', '--cpuset-cpus', '4000', 'updated'],
      ['stop', 'updated'],
      ['update', '-m', '48m', 'updated'],
      ['start', 'updated'],
      ['exec', 'updated', 'sh', '-c', values(...MEMORY)],
      remove('updated'),
    ],
  },
  {
    name: 'resources: out of memory',
    steps: [
      greedy('greedy'),
      show('greedy', '.State.OOMKilled', '.State.ExitCode', '.State.Status'),
      remove('greedy'),
      [
        'run',
        '-d',
        '--name',
        'child',
        '-m',
        '16m',
        '--memory-swap',
        '16m',
        '$IMAGE',
        'sh',
        '-c',
        'sh -c "x=a; while :; do x=\\$x\\$x; done"; echo survived $?',
      ],
      inState('child', 'exited'),
      ['logs', 'child'],
      show('child', '.State.OOMKilled', '.State.ExitCode'),
      remove('child'),
    ],
  },
  {
    name: 'resources: stats and top',
    steps: [
      ...idle('seen', '-m', '64m'),
      ['stats', '--no-stream', '--format', '{{.Name}} {{.MemUsage}}', 'seen'],
      ['stats', '--no-stream', '--format', '{{.Name}}', 'nobody'],
      ['top', 'seen', '-o', 'args'],
      ['top', 'nobody'],
      ['stop', 'seen'],
      ['top', 'seen'],
      ['stats', '--no-stream', '--format', '{{.Name}} {{.PIDs}} {{.MemUsage}}', 'seen'],
      remove('seen'),
    ],
    hide: [[/[\d.]+[kMK]i?B \//g, 'USED /']],
  },
];
