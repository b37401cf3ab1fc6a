// Cases about the daemon itself: version, plugins, namespaces and leases.

import type { Case } from '../session';
import { quietly } from './steps';

/** Plugins that some client looks for by type and id; more may be there. */
const LOOKED_FOR = [
  'io.containerd.content.v1 content',
  'io.containerd.snapshotter.v1 native',
  'io.containerd.snapshotter.v1 overlayfs',
  'io.containerd.metadata.v1 bolt',
  'io.containerd.differ.v1 walking',
  'io.containerd.gc.v1 scheduler',
  'io.containerd.runtime.v2 task',
  'io.containerd.grpc.v1 containers',
  'io.containerd.grpc.v1 content',
  'io.containerd.grpc.v1 diff',
  'io.containerd.grpc.v1 events',
  'io.containerd.grpc.v1 healthcheck',
  'io.containerd.grpc.v1 images',
  'io.containerd.grpc.v1 leases',
  'io.containerd.grpc.v1 namespaces',
  'io.containerd.grpc.v1 snapshots',
  'io.containerd.grpc.v1 tasks',
  'io.containerd.grpc.v1 version',
  'io.containerd.grpc.v1 introspection',
];

export const serverCases: Case[] = [
  {
    name: 'version',
    steps: [['version']],
    hide: [
      [/(Version|Revision|Go version|UUID):.*/g, '$1: X'],
      [/! WARNING: .* mismatch\n?/g, ''],
      [/^WARNING: .* mismatch\n?/gm, ''],
    ],
  },
  {
    name: 'plugins ls',
    steps: [
      async (session) => {
        const rows = (await session.quietly(['plugins', 'ls'])).split('\n').map((line) => line.trim().split(/ +/));
        for (const wanted of LOOKED_FOR) {
          const row = rows.find(([type, id]) => `${type} ${id}` === wanted);
          session.note(`${wanted}: ${row?.at(-1) ?? 'missing'}`);
        }
        const snapshotter = rows.find(([, id]) => id === 'overlayfs');
        session.note(`platforms of overlayfs: ${snapshotter?.[2]}`);
      },
    ],
  },
  {
    name: 'plugins ls with a filter',
    steps: [
      ['plugins', 'ls', 'type==io.containerd.snapshotter.v1,id==overlayfs'],
      ['plugins', 'ls', '-d', 'id==overlayfs'],
    ],
  },
  {
    name: 'namespaces: create, label, list, remove',
    steps: [
      ['namespaces', 'create', '$NS-one', 'a=b'],
      ['namespaces', 'ls'],
      ['namespaces', 'create', '$NS-one'],
      ['namespaces', 'label', '$NS-one', 'c=d', 'e=f'],
      ['namespaces', 'ls'],
      ['namespaces', 'label', '$NS-one', 'a='],
      ['namespaces', 'ls'],
      ['namespaces', 'ls', '-q'],
      ['namespaces', 'remove', '$NS-one'],
      ['namespaces', 'ls', '-q'],
    ],
  },
  {
    name: 'namespaces: errors',
    steps: [
      ['namespaces', 'create', 'not/valid'],
      ['namespaces', 'create', ''],
      ['namespaces', 'create', 'n'.repeat(77)],
      ['namespaces', 'create', '-dash'],
      ['namespaces', 'remove', '$NS-none'],
      ['namespaces', 'label', '$NS-none', 'a=b'],
      ['namespaces', 'ls', '-q'],
      ['namespaces', 'remove', '$NS-none'],
      ['namespaces', 'create', '$NS-long', `key=${'v'.repeat(4100)}`],
    ],
  },
  {
    name: 'namespaces: a used one is not removed',
    steps: [
      ['-n', '$NS-used', 'snapshots', 'prepare', 'work'],
      ['namespaces', 'ls', '-q'],
      ['namespaces', 'remove', '$NS-used'],
      ['-n', '$NS-used', 'snapshots', 'rm', 'work'],
      ['namespaces', 'remove', '$NS-used'],
    ],
  },
  {
    name: 'leases: create, list, remove',
    steps: [
      ['leases', 'create', '--id', 'lease-a', 'x=y'],
      ['leases', 'create', '--id', 'lease-a'],
      ['leases', 'create', '--id', 'lease-b', '--expires', '1h'],
      ['leases', 'ls'],
      ['leases', 'ls', '-q'],
      ['leases', 'ls', 'id==lease-a'],
      ['leases', 'ls', 'labels.x==y'],
      ['leases', 'rm', 'lease-a'],
      ['leases', 'rm', '--sync', 'lease-b'],
      ['leases', 'rm', 'lease-a'],
      ['leases', 'ls', '-q'],
    ],
  },
  {
    name: 'leases: a generated id',
    steps: [
      ['leases', 'create'],
      async (session) => {
        const id = (await session.quietly(['leases', 'ls', '-q'])).trim();
        session.note(`form of the id: ${id.replace(/^\d+-[\w-]{4}$/, 'NUMBER-WORD')}`);
        await session.quietly(['leases', 'rm', id]);
      },
    ],
    hide: [[/\d+-[\w-]{4}$/gm, 'LEASE']],
  },
  {
    name: 'an invalid namespace in a call',
    steps: [
      ['-n', 'in valid', 'containers', 'ls'],
      ['-n', 'x'.repeat(77), 'images', 'ls'],
      ['-n', '$NS-empty', 'containers', 'ls'],
      ['-n', '$NS-empty', 'images', 'ls', '-q'],
    ],
  },
  {
    name: 'a bad filter',
    steps: [
      ['containers', 'ls', 'id=='],
      ['images', 'ls', 'name===x'],
      ['leases', 'ls', '!!'],
    ],
  },
  {
    name: 'unused namespaces leave no record',
    steps: [quietly('-n', '$NS-read', 'containers', 'ls'), ['namespaces', 'ls', '-q']],
  },
];
