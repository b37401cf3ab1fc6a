// Cases about images and what is made of containers.

import type { Case } from '../../session';
import { classic, MADE } from '../builds';
import { quietly, remove, show, sorted, withInput } from '../steps';

const CONFIG = [
  'json .Config.Env',
  'json .Config.Cmd',
  'json .Config.Entrypoint',
  '.Config.WorkingDir',
  '.Config.User',
];

export const imagesCases: Case[] = [
  {
    name: 'images: ls, inspect, history, tag, rmi',
    steps: [
      ['images', '--digests', '--format', '{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}} {{.Size}}'],
      show('$IMAGE', '.Id', 'json .RootFS', ...CONFIG),
      ['history', '--no-trunc', '--format', '{{.CreatedBy}} {{.Size}}', '$IMAGE'],
      ['tag', '$IMAGE', 'other:1'],
      ['tag', 'nothing', 'other:2'],
      sorted('images', '--format', '{{.Repository}}:{{.Tag}}'),
      ['run', '--rm', 'other:1', 'echo', 'hi'],
      ['rmi', 'other:1'],
      ['rmi', 'other:1'],
      ['image', 'inspect', 'nothing'],
    ],
  },
  {
    name: 'images: commit, export, import, save, load',
    steps: [
      ['run', '--name', 'source', '$IMAGE', 'sh', '-c', 'echo new > /new; rm /etc/group'],
      sorted('diff', 'source'),
      ['commit', '-c', 'CMD ["cat", "/new"]', '-a', 'me', '-m', 'a message', 'source', 'committed'],
      ['run', '--rm', 'committed'],
      ['run', '--rm', 'committed', 'ls', '/etc'],
      ['history', '--format', '{{.Comment}}', 'committed'],
      quietly('export', '-o', '$SCRATCH/exported.tar', 'source'),
      quietly('import', '-c', 'ENV A=b', '$SCRATCH/exported.tar', 'imported'),
      ['run', '--rm', 'imported', '/bin/sh', '-c', 'cat /new; echo $A'],
      quietly('save', '-o', '$SCRATCH/saved.tar', 'committed'),
      ['rmi', '-f', 'imported', 'committed'],
      ['load', '-i', '$SCRATCH/saved.tar'],
      ['run', '--rm', 'committed'],
      remove('source'),
      quietly('rmi', 'committed'),
    ],
    hide: MADE,
  },
  {
    name: 'images: several in one archive, dangling ones, prune',
    steps: [
      withInput(classic('-q', '-t', 'dangling', '-'), 'FROM test/busybox\nLABEL kind=old\n'),
      withInput(classic('-q', '-t', 'dangling', '-'), 'FROM test/busybox\nLABEL kind=new\n'),
      async (session) => {
        const ids = await session.quietly(['images', '-q', '--filter', 'dangling=true']);
        session.note(`dangling: ${ids.trim().split('\n').length}`);
      },
      ['images', '--filter', 'label=kind=new', '--format', '{{.Repository}} {{.Tag}}'],
      ['images', '--filter', 'reference=dang*', '--format', '{{.Repository}} {{.Tag}}'],
      quietly('save', '-o', '$SCRATCH/both.tar', 'dangling', '$IMAGE'),
      ['create', '--name', 'uses', 'dangling'],
      ['rmi', 'dangling'],
      ['image', 'prune', '-a', '-f', '--filter', 'label=kind=new'],
      remove('uses'),
      quietly('image', 'prune', '-f'),
      quietly('image', 'prune', '-a', '-f', '--filter', 'label=kind=new'),
      sorted('images', '-a', '--format', '{{.Repository}}:{{.Tag}}'),
      sorted('load', '-i', '$SCRATCH/both.tar'),
      ['run', '--rm', 'dangling', 'echo', 'loaded'],
      ['rmi', 'dangling'],
      ['load', '-i', '$SCRATCH/nothing.tar'],
      withInput(['load'], 'no archive'),
    ],
    hide: [...MADE, [/(?<=container )\w+(?= is using)/g, 'ID']],
  },
];
