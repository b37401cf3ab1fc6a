// Cases about images: records, import, export, and mounting them.

import fs from 'node:fs';
import path from 'node:path';
import { runCommand } from '../../setup/command';
import type { Case, Session } from '../session';
import { collected, IMAGE, quietly, withInput } from './steps';

export const imageCases: Case[] = [
  {
    name: 'images import',
    steps: [
      ['images', 'import', '$BUSYBOX'],
      ['images', 'import', '$BUSYBOX'],
      ['images', 'ls'],
      ['images', 'ls', '-q'],
    ],
  },
  {
    name: 'images import: what it leaves',
    // Two ingests that cases about content have left; they come in any order.
    hide: [[/ref-c\d/g, 'ref']],
    steps: [collected(), ['content', 'ls'], ['snapshots', 'ls'], ['content', 'active'], ['leases', 'ls', '-q']],
  },
  {
    name: 'images import --no-unpack into another namespace',
    steps: [
      ['-n', '$NS-images', 'images', 'import', '--no-unpack', '$BUSYBOX'],
      ['-n', '$NS-images', 'images', 'ls'],
      ['-n', '$NS-images', 'snapshots', 'ls'],
      ['-n', '$NS-images', 'images', 'check'],
      collected(),
      ['-n', '$NS-images', 'content', 'ls', '-q'],
      ['-n', '$NS-images', 'images', 'rm', '--sync', IMAGE],
      ['-n', '$NS-images', 'content', 'ls', '-q'],
      ['namespaces', 'remove', '$NS-images'],
    ],
  },
  {
    name: 'images import --base-name --digests',
    steps: [
      ['-n', '$NS-digests', 'images', 'import', '--base-name', 'base/name', '--digests', '$BUSYBOX'],
      ['-n', '$NS-digests', 'images', 'ls', '-q'],
      ['-n', '$NS-digests', 'images', 'ls', `name==${IMAGE}`],
    ],
  },
  {
    name: 'images import --snapshotter native',
    steps: [
      ['-n', '$NS-native', 'images', 'import', '--snapshotter', 'native', '$BUSYBOX'],
      ['-n', '$NS-native', 'snapshots', '--snapshotter', 'native', 'ls'],
      ['-n', '$NS-native', 'snapshots', '--snapshotter', 'native', 'usage'],
      ['-n', '$NS-native', 'snapshots', 'ls'],
    ],
  },
  {
    name: 'images import: bad files',
    steps: [
      withInput(['images', 'import', '-'], 'this is not a tar file'),
      withInput(['images', 'import', '-'], ''),
      async (session) => {
        const whole = fs.readFileSync(session.fill('$BUSYBOX'));
        await session.run(['images', 'import', '-'], { stdin: whole.subarray(0, 500_000) });
      },
      ['images', 'import', '$SCRATCH/none.tar'],
      ['images', 'ls', '-q'],
    ],
  },
  {
    name: 'images ls: filters',
    steps: [
      ['images', 'ls', `name==${IMAGE}`],
      ['images', 'ls', '-q', 'name~=^test/'],
      ['images', 'ls', '-q', 'name==none'],
    ],
  },
  {
    name: 'images tag',
    steps: [
      ['images', 'tag', IMAGE, 'test/other:1', 'test/other:2'],
      ['images', 'ls', '-q'],
      ['images', 'tag', IMAGE, 'test/other:1'],
      ['images', 'tag', '--force', IMAGE, 'test/other:1'],
      ['images', 'tag', 'test/none:1', 'test/other:3'],
      ['images', 'rm', 'test/other:1', 'test/other:2'],
      ['images', 'rm', 'test/other:1'],
      ['images', 'ls', '-q'],
    ],
  },
  {
    name: 'images label',
    steps: [
      ['images', 'label', IMAGE, 'colour=red', 'size=small'],
      ['images', 'ls', 'labels.colour==red'],
      ['images', 'label', IMAGE, 'colour='],
      ['images', 'ls'],
      ['images', 'label', '--replace-all', IMAGE, 'only=this'],
      ['images', 'ls'],
      ['images', 'label', 'test/none:1', 'a=b'],
    ],
  },
  {
    name: 'images check',
    steps: [
      ['images', 'check'],
      ['images', 'check', '-q'],
      ['images', 'check', 'name==none'],
    ],
  },
  {
    name: 'images export',
    steps: [exported(), exported('--all-platforms'), ['images', 'export', '$SCRATCH/none.tar', 'test/none:1']],
  },
  {
    name: 'images export and import again',
    steps: [
      quietly('images', 'export', '$SCRATCH/again.tar', IMAGE),
      ['-n', '$NS-again', 'images', 'import', '$SCRATCH/again.tar'],
      ['-n', '$NS-again', 'images', 'ls'],
      ['-n', '$NS-again', 'run', '--rm', IMAGE, 'again', 'echo', 'from the exported image'],
    ],
  },
  {
    name: 'images convert --uncompress',
    steps: [
      ['images', 'convert', '--uncompress', '--oci', IMAGE, 'test/plain:latest'],
      ['images', 'ls', 'name==test/plain:latest'],
      ['images', 'rm', '--sync', 'test/plain:latest'],
    ],
  },
  {
    name: 'images mount and unmount',
    steps: [
      folder('mnt'),
      ['images', 'mount', IMAGE, '$SCRATCH/mnt'],
      listing('mnt'),
      async (session) => session.note(`writable: ${isWritable(session, 'mnt')}`),
      ['snapshots', 'ls'],
      ['images', 'unmount', '--rm', '$SCRATCH/mnt'],
      listing('mnt'),
      ['snapshots', 'ls'],
    ],
  },
  {
    name: 'images mount --rw',
    steps: [
      folder('rw'),
      ['images', 'mount', '--rw', IMAGE, '$SCRATCH/rw'],
      async (session) => session.note(`writable: ${isWritable(session, 'rw')}`),
      ['images', 'mount', '--rw', IMAGE, '$SCRATCH/rw'],
      ['images', 'unmount', '--rm', '$SCRATCH/rw'],
      ['images', 'mount', 'test/none:1', '$SCRATCH/rw'],
    ],
  },
  {
    name: 'images rm --sync collects what nothing needs',
    steps: [
      quietly('-n', '$NS-collect', 'images', 'import', '$BUSYBOX'),
      ['-n', '$NS-collect', 'images', 'rm', '--sync', IMAGE],
      ['-n', '$NS-collect', 'content', 'ls', '-q'],
      ['-n', '$NS-collect', 'snapshots', 'ls'],
      ['-n', '$NS-collect', 'images', 'rm', IMAGE],
      ['namespaces', 'rm', '$NS-collect'],
    ],
  },
];

function folder(name: string) {
  return async (session: Session) => void fs.mkdirSync(path.join(session.scratch, name), { recursive: true });
}

function listing(name: string) {
  return async (session: Session) => {
    const directory = path.join(session.scratch, name);
    session.note(`${name}: ${fs.readdirSync(directory).sort().join(' ')}`);
  };
}

function isWritable(session: Session, name: string): boolean {
  try {
    fs.writeFileSync(path.join(session.scratch, name, 'new'), '');
    return true;
  } catch {
    return false;
  }
}

function exported(...flags: readonly string[]) {
  return async (session: Session) => {
    const target = path.join(session.scratch, 'export.tar');
    await session.run(['images', 'export', ...flags, '$SCRATCH/export.tar', IMAGE]);
    session.note((await runCommand(['tar', '-tf', target])).stdout.split('\n').sort().join(' '));
    session.note((await runCommand(['tar', '-xOf', target, 'index.json'])).stdout);
    fs.rmSync(target, { force: true });
  };
}
