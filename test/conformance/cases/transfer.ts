// Cases about transfers: what ctr has the daemon do instead of doing it itself (--local=false, ctr 1.7 and later; ctr 1.6
// refuses the flag, everywhere alike).

import path from 'node:path';
import { runCommand } from '../../setup/command';
import type { Case, Session } from '../session';
import { collected, IMAGE, withInput } from './steps';

/** The picture of the progress changes with time, so its lines are left out. */
const PROGRESS: Case['hide'] = [
  [/^.* elapsed: .*\n?/gm, ''],
  [/^(layer|manifest|config|index) \(.*\n?/gm, ''],
  [/^.* saved\n?/gm, ''],
];

export const transferCases: Case[] = [
  {
    name: 'images import --local=false',
    hide: PROGRESS,
    steps: [
      ['-n', '$NS-transfer', 'images', 'import', '--local=false', '$BUSYBOX'],
      ['-n', '$NS-transfer', 'images', 'import', '--local=false', '$BUSYBOX'],
      ['-n', '$NS-transfer', 'images', 'ls'],
      ['-n', '$NS-transfer', 'images', 'check'],
      collected(),
      ['-n', '$NS-transfer', 'content', 'ls'],
      ['-n', '$NS-transfer', 'snapshots', 'ls'],
      ['-n', '$NS-transfer', 'leases', 'ls'],
    ],
  },
  {
    name: 'images import --local=false: names',
    hide: PROGRESS,
    steps: [
      ['-n', '$NS-names', 'images', 'import', '--local=false', '--base-name', 'base/name', '--digests', '$BUSYBOX'],
      ['-n', '$NS-names', 'images', 'import', '--local=false', '--digests', '--index-name', 'test/index:1', '$BUSYBOX'],
      ['-n', '$NS-names', 'images', 'import', '--local=false', '--base-name', 'test/busybox', '$BUSYBOX'],
      ['-n', '$NS-names', 'images', 'ls'],
    ],
  },
  {
    name: 'images import --local=false: an archive of docker with layers that are here, compressed',
    hide: PROGRESS,
    steps: [
      ['-n', '$NS-docker', 'images', 'import', '--local=false', '$BUSYBOX'],
      ['-n', '$NS-docker', 'images', 'import', '--local=false', '$ARCHIVE'],
      ['-n', '$NS-docker', 'images', 'ls'],
      collected(),
      ['-n', '$NS-docker', 'content', 'ls'],
      ['-n', '$NS-docker-alone', 'images', 'import', '--local=false', '$ARCHIVE'],
      ['-n', '$NS-docker-alone', 'images', 'import', '--local=false', '$BUSYBOX'],
      ['-n', '$NS-docker-alone', 'images', 'ls'],
    ],
  },
  {
    name: 'images tag --local=false',
    steps: [
      ['images', 'tag', '--local=false', IMAGE, 'test/transfer:1', 'test/transfer:2'],
      ['images', 'tag', '--local=false', IMAGE, 'test/transfer:1'],
      ['images', 'ls', '-q'],
      ['images', 'tag', '--local=false', 'test/none:1', 'test/transfer:3'],
      ['images', 'rm', 'test/transfer:1', 'test/transfer:2'],
    ],
  },
  {
    name: 'images export --local=false',
    hide: PROGRESS,
    steps: [
      exported(),
      exported('--all-platforms'),
      exported('--skip-manifest-json'),
      ['images', 'export', '--local=false', '$SCRATCH/none.tar', 'test/none:1'],
    ],
  },
  {
    name: 'images import --local=false: bad files',
    hide: [...PROGRESS, [/code = .*/g, 'refused']],
    steps: [
      withInput(['images', 'import', '--local=false', '-'], 'this is not a tar file'),
      withInput(['images', 'import', '--local=false', '-'], ''),
      ['images', 'import', '--local=false', '$SCRATCH/none.tar'],
      ['leases', 'ls'],
    ],
  },
];

function exported(...flags: readonly string[]) {
  return async (session: Session) => {
    const target = path.join(session.scratch, 'transfer.tar');
    await session.run(['images', 'export', '--local=false', ...flags, '$SCRATCH/transfer.tar', IMAGE]);
    session.note((await runCommand(['tar', '-tf', target])).stdout);
    session.note((await runCommand(['tar', '-xOf', target, 'index.json'])).stdout);
    session.note((await runCommand(['tar', '-xOf', target, 'manifest.json'])).stdout);
  };
}
