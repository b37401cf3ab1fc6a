// Where containers of dockerd deliberately look otherwise on gantryd than on Debian's containerd with runc, and why.

import type { MeantDifference } from '../differences';

export const DOCKER_DIFFERENCES: readonly MeantDifference[] = [
  {
    case: 'run: --read-only, --tmpfs, --ulimit, --sysctl, --oom-score-adj',
    reason: 'next to v1, the v2 hierarchy has no controllers: to join it would cost time and bring nothing',
    peer: '| ::/$NS/ID',
    gantryd: '| ::/',
  },
  {
    case: 'run: --read-only, --tmpfs, --ulimit, --sysctl, --oom-score-adj',
    reason: 'the folder of the cgroups is as read-only as the mount that asks for it',
    peer: '| /sys/fs/cgroup tmpfs rw,',
    gantryd: '| /sys/fs/cgroup tmpfs ro,',
  },
  {
    case: 'resources: limits of run',
    reason: 'an error names the field of the specification',
    peer: 'no such device: unknown',
    gantryd: 'no such device (linux.resources.blockIO.throttleReadBpsDevice): unknown',
  },
];
