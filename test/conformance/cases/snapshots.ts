// Cases about snapshots.

import fs from 'node:fs';
import path from 'node:path';
import { mustRun } from '../../setup/command';
import type { Case, Session, Step } from '../session';
import { collected, IMAGE, quietly } from './steps';

export const snapshotCases: Case[] = ['overlayfs', 'native']
  .flatMap((snapshotter): Case[] => {
    const snapshots = (...args: string[]) => ['snapshots', '--snapshotter', snapshotter, ...args];
    return [
      {
        name: `snapshots (${snapshotter}): prepare, write, commit, stack`,
        steps: [
          collected(),
          snapshots('prepare', 'one'),
          snapshots('mounts', '$SCRATCH/mnt', 'one'),
          written(snapshots('prepare', '--target', '$SCRATCH/mnt', 'one2'), 'one2', 'first\n'),
          snapshots('commit', 'base', 'one2'),
          snapshots('info', 'base'),
          snapshots('ls'),
          snapshots('prepare', 'two', 'base'),
          snapshots('mounts', '$SCRATCH/mnt', 'two'),
          snapshots('commit', 'middle', 'two'),
          snapshots('prepare', 'three', 'middle'),
          snapshots('mounts', '$SCRATCH/mnt', 'three'),
          snapshots('view', 'look', 'middle'),
          kept(snapshotter, 'look'),
          snapshots('mounts', '$SCRATCH/mnt', 'look'),
          snapshots('view', 'look1', 'base'),
          kept(snapshotter, 'look1'),
          snapshots('mounts', '$SCRATCH/mnt', 'look1'),
          snapshots('tree'),
          snapshots('usage'),
          snapshots('usage', '-b', 'base'),
          snapshots('rm', 'base'),
          snapshots('rm', 'three'),
          snapshots('rm', 'look'),
          snapshots('rm', 'look1'),
          snapshots('rm', 'middle'),
          snapshots('rm', 'base'),
          snapshots('rm', 'one'),
          snapshots('ls'),
        ],
        // containerd's tree walks a map: children come in any order.
        hide: [[/^ (\\_ |[ ]*)/gm, ' ']],
      },
      {
        name: `snapshots (${snapshotter}): labels and info`,
        steps: [
          collected(),
          snapshots('prepare', 'lab'),
          snapshots('label', 'lab', 'a=b', 'containerd.io/gc.root=now'),
          snapshots('info', 'lab'),
          snapshots('label', 'lab', 'a='),
          snapshots('info', 'lab'),
          snapshots('commit', 'lab-done', 'lab'),
          snapshots('info', 'lab-done'),
          snapshots('rm', 'lab-done'),
        ],
      },
      {
        name: `snapshots (${snapshotter}): errors`,
        steps: [
          collected(),
          snapshots('prepare', 'dup'),
          snapshots('prepare', 'dup'),
          snapshots('view', 'dup'),
          snapshots('prepare', 'child', 'dup'),
          snapshots('prepare', 'child', 'none'),
          snapshots('commit', 'done', 'none'),
          snapshots('commit', 'dup', 'dup'),
          snapshots('view', 'seen'),
          kept(snapshotter, 'seen'),
          snapshots('commit', 'done', 'seen'),
          snapshots('info', 'none'),
          snapshots('usage', 'none'),
          snapshots('mounts', '$SCRATCH/mnt', 'none'),
          snapshots('label', 'none', 'a=b'),
          snapshots('rm', 'none'),
          snapshots('commit', 'done', 'dup'),
          snapshots('mounts', '$SCRATCH/mnt', 'done'),
          snapshots('commit', 'again', 'done'),
          snapshots('prepare', 'done'),
          snapshots('rm', 'seen'),
          snapshots('rm', 'done'),
        ],
      },
    ];
  })
  .concat([
    {
      name: 'snapshots: an unknown snapshotter',
      steps: [
        ['snapshots', '--snapshotter', 'nope', 'ls'],
        ['snapshots', '--snapshotter', 'nope', 'prepare', 'x'],
      ],
    },
    {
      name: 'snapshots: keys with odd characters',
      steps: [
        ['snapshots', 'prepare', 'key with spaces/and slashes'],
        ['snapshots', 'info', 'key with spaces/and slashes'],
        ['snapshots', 'rm', 'key with spaces/and slashes'],
      ],
    },
    {
      name: 'snapshots unpack',
      steps: [
        async (session) => {
          const digest = await manifestDigest(session);
          await session.run(['-n', '$NS-unpack', 'images', 'import', '--no-unpack', '$BUSYBOX']);
          await session.run(['-n', '$NS-unpack', 'snapshots', 'unpack', digest]);
          await session.run(['-n', '$NS-unpack', 'snapshots', 'ls']);
          await session.run(['-n', '$NS-unpack', 'snapshots', 'usage']);
        },
      ],
    },
  ]);

/** Keeps a view from collection: ctr gives the root label only to what it prepares. */
function kept(snapshotter: string, key: string): Step {
  return quietly('snapshots', '--snapshotter', snapshotter, 'label', key, 'containerd.io/gc.root=now');
}

/** Prepares, mounts, writes a file into it and unmounts: what `snapshots mounts` prints is for the client to mount. */
function written(prepare: readonly string[], key: string, text: string) {
  return async (session: Session) => {
    await session.run(prepare);
    const target = path.join(session.scratch, 'mnt');
    fs.mkdirSync(target, { recursive: true });
    const snapshotter = prepare[2]!;
    const command = await session.quietly(['snapshots', '--snapshotter', snapshotter, 'mounts', target, key]);
    await mustRun(['sh', '-c', command]);
    fs.writeFileSync(path.join(target, 'file'), text);
    fs.mkdirSync(path.join(target, 'folder'));
    await mustRun(['umount', target]);
  };
}

async function manifestDigest(session: Session): Promise<string> {
  const row = (await session.quietly(['images', 'ls', `name==${IMAGE}`])).split('\n')[1] ?? '';
  return /sha256:[0-9a-f]{64}/.exec(row)?.[0] ?? '';
}
