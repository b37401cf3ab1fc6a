// Cases about what `docker run` allows a container, and about what it sees of the machine.

import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Case } from '../../session';
import { sh } from '../steps';

/** Everything is allowed but these calls. */
const PROFILE = {
  defaultAction: 'SCMP_ACT_ALLOW',
  architectures: ['SCMP_ARCH_X86_64'],
  syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO' }],
};

export const securityCases: Case[] = [
  {
    name: 'run: --privileged, --cap-add, --cap-drop, --security-opt, --device',
    steps: [
      sh('grep -E "Cap|NoNewPrivs|Seccomp:" /proc/self/status'),
      sh('grep -E "Cap|NoNewPrivs|Seccomp:" /proc/self/status', '--cap-drop', 'ALL', '--cap-add', 'NET_ADMIN'),
      sh('grep -E "Cap" /proc/self/status', '--cap-add', 'ALL', '--cap-drop', 'CHOWN'),
      sh('grep -E "Cap" /proc/self/status', '-u', 'worker'),
      sh('grep -E "Cap|NoNewPrivs|Seccomp:" /proc/self/status; ls /dev | sort | head -20', '--privileged'),
      sh('grep NoNewPrivs /proc/self/status', '--security-opt', 'no-new-privileges'),
      sh(
        'grep Seccomp: /proc/self/status; unshare -m true && echo allowed',
        '--security-opt',
        'seccomp=unconfined',
        '--cap-add',
        'SYS_ADMIN',
      ),
      sh('unshare -U true; echo $?'),
      sh(
        'ls -l /dev/fuse-2 | cut -c1-10; cat /sys/fs/cgroup/devices/devices.list | grep "1:5"',
        '--device',
        '/dev/zero:/dev/fuse-2:r',
      ),
    ],
  },
  {
    name: 'run: --read-only, --tmpfs, --ulimit, --sysctl, --oom-score-adj',
    steps: [
      sh(
        'touch /x; touch /tmp/x && echo written; grep " /tmp " /proc/mounts',
        '--read-only',
        '--tmpfs',
        '/tmp:size=1m,mode=1777',
      ),
      sh('ulimit -n; ulimit -Hn; ulimit -c', '--ulimit', 'nofile=100:200', '--ulimit', 'core=0'),
      sh(
        'cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax',
        '--sysctl',
        'net.ipv4.ip_unprivileged_port_start=99',
        '--sysctl',
        'kernel.msgmax=4096',
      ),
      sh('cat /proc/self/oom_score_adj', '--oom-score-adj', '500'),
      sh('grep -v "^overlay" /proc/self/mounts | cut -d" " -f2- | sort'),
      sh('cat /proc/self/cgroup | sed "s/^[0-9]*//" | sort'),
      sh('cat /etc/hosts | sed "s/\\t/ /"', '--add-host', 'friend:10.9.8.7', '--hostname', 'me'),
      sh('cat /etc/resolv.conf', '--dns', '10.1.1.1', '--dns-search', 'example.test', '--dns-option', 'ndots:3'),
    ],
  },
  {
    name: 'run: --security-opt with a profile and with all of /proc, --device-cgroup-rule, --cgroup-parent',
    steps: [
      async (session) => writeFileSync(path.join(session.scratch, 'profile.json'), JSON.stringify(PROFILE)),
      sh('mkdir /x; touch /y && echo touched', '--security-opt', 'seccomp=$SCRATCH/profile.json'),
      sh('true', '--security-opt', 'seccomp=$SCRATCH/nothing.json'),
      sh('true', '--security-opt', 'nothing=here'),
      sh('grep -c " /proc/" /proc/self/mounts'),
      sh('grep -c " /proc/" /proc/self/mounts', '--security-opt', 'systempaths=unconfined'),
      sh('grep "b 7:" /sys/fs/cgroup/devices/devices.list', '--device-cgroup-rule', 'b 7:* rmw'),
      sh('grep memory /proc/self/cgroup | cut -d: -f3', '--cgroup-parent', '/$NS-parent'),
    ],
  },
];
