// Cases about pushing to a registry and pulling from it. `$REGISTRY` is empty at first.

import type { Case, Step } from '../../session';
import { buildkit, classic, context, MADE } from '../builds';
import { quietly, remove, show, sorted, withInput } from '../steps';

const REPOSITORIES = '{{.Repository}}:{{.Tag}} {{.Digest}}';

/** Three layers above those of the image, as `layers`. */
const LAYERS: Step = withInput(
  classic('-q', '-t', 'layers', '-'),
  'FROM test/busybox\nRUN seq 1000 > /one\nRUN seq 2000 > /two; chown worker /two\nRUN rm /one; ln /two /three\n',
);
const LAYERED = [
  'run',
  '--rm',
  '$REGISTRY/layers',
  'sh',
  '-c',
  'ls -l /one /two /three | cut -c1-30; sha256sum < /two',
];

export const registryCases: Case[] = [
  {
    name: 'registry: push, pull, digests',
    steps: [
      ['tag', '$IMAGE', '$REGISTRY/box:1'],
      ['push', '$REGISTRY/box:1'],
      ['push', '-q', '$REGISTRY/box:1'],
      ['images', '--digests', '--format', REPOSITORIES, '$REGISTRY/box'],
      show('$REGISTRY/box:1', 'json .RepoDigests', 'json .RepoTags'),
      ['manifest', 'inspect', '--insecure', '$REGISTRY/box:1'],
      ['rmi', '$REGISTRY/box:1'],
      ['pull', '$REGISTRY/box:1'],
      ['pull', '$REGISTRY/box:1'],
      ['run', '--rm', '$REGISTRY/box:1', 'echo', 'pulled'],
      ['rmi', '$REGISTRY/box:1'],
      async (session) => {
        const digests = await session.quietly(['manifest', 'inspect', '--insecure', '-v', '$REGISTRY/box:1']);
        const digest = /"digest": "(sha256:[0-9a-f]{64})"/.exec(digests)?.[1];
        await session.run(['pull', '-q', `$REGISTRY/box@${digest}`]);
        await session.run(['run', '--rm', `$REGISTRY/box@${digest}`, 'echo', 'by digest']);
        await session.run(['images', '--digests', '--format', REPOSITORIES, '$REGISTRY/box']);
        await session.run(['rmi', `$REGISTRY/box@${digest}`]);
      },
    ],
    // How far it has come at one moment.
    hide: [[/^ID: (Preparing|Waiting)\n/gm, '']],
  },
  {
    name: 'registry: several layers and tags',
    steps: [
      LAYERS,
      ['tag', 'layers', '$REGISTRY/layers'],
      ['tag', 'layers', '$REGISTRY/layers:again'],
      quietly('push', '-q', '--all-tags', '$REGISTRY/layers'),
      ['rmi', '-f', 'layers', '$REGISTRY/layers', '$REGISTRY/layers:again'],
      quietly('image', 'prune', '-f'),
      quietly('pull', '-q', '$REGISTRY/layers'),
      LAYERED,
      quietly('pull', '-q', '--all-tags', '$REGISTRY/layers'),
      sorted('images', '--format', '{{.Repository}}:{{.Tag}}'),
      ['history', '--format', '{{.CreatedBy}}', '$REGISTRY/layers'],
      ['rmi', '$REGISTRY/layers', '$REGISTRY/layers:again'],
      // The client pulls what it has not.
      async (session) => {
        const pulled = LAYERED.map((arg) => arg.replace('layers', 'layers:again'));
        session.note((await session.quietly(pulled)).trim().replaceAll('\n', ', '));
      },
      ['run', '--rm', '--pull', 'never', '$REGISTRY/nothing', 'true'],
      ['create', '--name', 'made', '$REGISTRY/layers:again'],
      ['rmi', '$REGISTRY/layers:again'],
      remove('made'),
      ['rmi', '$REGISTRY/layers:again'],
    ],
    hide: [...MADE, [/(?<=(using its referenced image|is using its referenced image)) \w+/g, ' ID']],
  },
  {
    name: 'registry: errors',
    steps: [
      ['pull', '$REGISTRY/nothing'],
      ['pull', '$REGISTRY/nothing@sha256:0000000000000000000000000000000000000000000000000000000000000000'],
      ['push', '$REGISTRY/nothing'],
      ['pull', '127.0.0.1:1/nothing'],
      ['run', '--rm', '$REGISTRY/nothing', 'true'],
      ['pull', 'UPPER/case'],
    ],
    hide: [[/127\.0\.0\.1:\d{4,}(->\S+)?/g, 'ADDRESS']],
  },
  {
    name: 'registry: build from it, and with its cache',
    steps: [
      ['tag', '$IMAGE', '$REGISTRY/base'],
      quietly('push', '-q', '$REGISTRY/base'),
      ['rmi', '$REGISTRY/base'],
      context('cached', { Dockerfile: 'FROM $REGISTRY/base\nRUN echo made > /made\nCOPY file /\n', file: 'a file\n' }),
      buildkit(['--build-arg', 'BUILDKIT_INLINE_CACHE=1', '-t', '$REGISTRY/built', '$SCRATCH/cached']),
      ['run', '--rm', '$REGISTRY/built', 'cat', '/made', '/file'],
      quietly('push', '-q', '$REGISTRY/built'),
      quietly('rmi', '$REGISTRY/built'),
      quietly('builder', 'prune', '-af'),
      buildkit(['--cache-from', '$REGISTRY/built', '-t', 'again', '$SCRATCH/cached']),
      ['run', '--rm', 'again', 'cat', '/made', '/file'],
      quietly('rmi', 'again'),
      quietly('builder', 'prune', '-af'),
      classic('-q', '--pull', '-t', 'classic', '$SCRATCH/cached'),
      quietly('rmi', 'classic', '$REGISTRY/base'),
    ],
    hide: MADE,
  },
];
