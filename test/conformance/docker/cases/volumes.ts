// Cases about volumes and mounts.

import type { Case } from '../../session';
import { idle, remove, sh, show, sorted } from '../steps';

export const volumesCases: Case[] = [
  {
    name: 'volumes: named and anonymous',
    steps: [
      ['volume', 'create', '--label', 'a=b', 'named'],
      sh('echo kept > /v/file', '-v', 'named:/v'),
      sh('cat /v/file; touch /v/x', '-v', 'named:/v:ro'),
      // What the image has there is copied into an empty volume.
      sh('ls /v', '-v', 'copied:/v', '--workdir', '/etc'),
      sh('ls /etc', '-v', 'copied:/etc'),
      sorted('volume', 'ls', '--format', '{{.Name}} {{.Driver}}'),
      ['volume', 'inspect', '--format', '{{.Name}} {{.Driver}} {{json .Labels}}', 'named'],
      ...idle('user', '-v', 'named:/v', '-v', '/anonymous'),
      show('user', 'len .Mounts'),
      sh('cat /v/file; ls -d /anonymous', '--volumes-from', 'user'),
      ['volume', 'rm', 'named'],
      remove('user'),
      ['volume', 'rm', 'named', 'copied', 'nothing'],
      ['volume', 'ls', '-q'],
    ],
    hide: [[/in use - \[\w+\]/g, 'in use']],
  },
  {
    name: 'volumes: bind and tmpfs mounts',
    steps: [
      sh('echo from inside > /b/file; ls /b', '-v', '$SCRATCH/bind:/b'),
      sh('cat /b/file; echo x > /b/file', '--mount', 'type=bind,src=$SCRATCH/bind,dst=/b,readonly'),
      sh('cat /one', '-v', '$SCRATCH/bind/file:/one:ro'),
      sh(
        'grep " /b " /proc/self/mountinfo | cut -d" " -f5,7',
        '--mount',
        'type=bind,src=$SCRATCH/bind,dst=/b,bind-propagation=rslave',
      ),
      sh('grep " /b " /proc/self/mountinfo | grep -c shared', '-v', '$SCRATCH/bind:/b:rshared'),
      sh('grep " /t " /proc/mounts; stat -c %a /t', '--mount', 'type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700'),
      sh('echo x', '--mount', 'type=volume,dst=/t,bind-propagation=shared'),
      sh('ls /a/b; cat /a/b/c/file', '--tmpfs', '/a', '-v', '$SCRATCH/bind:/a/b/c'),
      sh('ls /etc/hosts /hosts', '-v', '/etc/hosts:/hosts'),
    ],
    hide: [[/master:\d+|shared:\d+/g, 'propagation']],
  },
];
