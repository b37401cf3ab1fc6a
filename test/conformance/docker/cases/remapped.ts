// Cases for a dockerd whose containers have user namespaces: see REMAPPED in setups.ts.

import { statSync } from 'node:fs';
import type { Case } from '../../session';
import { idle, remove, sh, show } from '../steps';

const MAPS = "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map";

export const remappedCases: Case[] = [
  {
    name: 'remapped: ids inside and outside',
    steps: [
      sh(`${MAPS}; id; stat -c '%u %g' /etc/passwd /proc/self /dev/null /dev/shm`),
      sh(MAPS, '-u', 'worker'),
      sh(MAPS, '--userns', 'host'),
      // From outside.
      sh('echo mine > /v/file; chown worker /v/file; stat -c "%u %g" /v /v/file', '-v', 'kept:/v'),
      sh('stat -c "%u %g" /v /v/file', '-v', 'kept:/v', '--userns', 'host'),
      ...idle('base'),
      async (session) => {
        const pid = (await session.quietly(show('base', '.State.Pid'))).trim();
        const { uid, gid } = statSync(`/proc/${pid}`);
        session.note(`its process: ${uid} ${gid}`);
      },
      ['exec', 'base', 'sh', '-c', `${MAPS}; id`],
      ['exec', '-u', '7:8', 'base', 'id'],
      remove('base'),
      ['volume', 'rm', 'kept'],
    ],
  },
  {
    name: 'remapped: what it does not allow',
    steps: [
      sh('true', '--privileged'),
      sh('true', '--pid', 'host'),
      sh('true', '--network', 'host'),
      sh('grep Cap /proc/self/status; mount -t tmpfs none /tmp && echo mounted', '--cap-add', 'SYS_ADMIN'),
      sh('echo 1 > /proc/sys/kernel/msgmax'),
      sh('mknod /x b 7 0', '--cap-add', 'MKNOD'),
      sh('cat /proc/self/oom_score_adj', '--oom-score-adj', '300'),
      sh('ls -ln /dev/zero | cut -c1-30', '--device', '/dev/zero'),
      sh('cat /proc/sys/net/ipv4/ip_unprivileged_port_start', '--sysctl', 'net.ipv4.ip_unprivileged_port_start=99'),
      sh('touch /x; touch /t/x && echo written', '--read-only', '--tmpfs', '/t'),
    ],
  },
];
