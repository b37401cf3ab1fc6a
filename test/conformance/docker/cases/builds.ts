// Cases about building images, with the classic builder and with BuildKit.

import type { Case, Step } from '../../session';
import { buildkit, classic, context, MADE } from '../builds';
import { quietly, remove, sh, show, withInput } from '../steps';

const DOCKERFILE = `FROM $IMAGE AS first
ARG WHAT=default
RUN echo "built with $WHAT" > /made && id -u > /user
FROM $IMAGE
LABEL kind=test
ENV NAME=value
COPY --from=first /made /user /from/
COPY --chown=1000:2000 file folder/ /copied/
ADD file /added/
ADD tree.tar /tree/
WORKDIR /copied
VOLUME /data
EXPOSE 80/tcp
USER worker
RUN id -un; pwd; test ! -w / && echo refused
ENTRYPOINT ["cat"]
CMD ["/from/made"]
`;

const FILES = {
  Dockerfile: DOCKERFILE,
  file: 'a file\n',
  'folder/inner': 'inner\n',
  '.dockerignore': 'ignored\n',
  ignored: '',
};

const MADE_WITH_TIMES: typeof MADE = [...MADE, [/[A-Z][a-z]{2} +\d+ \d\d:\d\d/g, 'TIME']];

/** The context of DOCKERFILE, with the archive that it adds. */
const INPUT: readonly Step[] = [
  context('build', FILES),
  ['create', '--name', 'tree', '$IMAGE'],
  quietly('export', '-o', '$SCRATCH/build/tree.tar', 'tree'),
  remove('tree'),
];

/** What DOCKERFILE has made. */
const LOOK: readonly Step[] = [
  ['run', '--rm', 'built'],
  ['run', '--rm', 'built', '/from/user', '/added/file', 'inner', '/tree/etc/passwd'],
  ['run', '--rm', '--entrypoint', 'ls', 'built', '-ln', '/copied', '/data'],
  show(
    'built',
    ...['json .Config.Env', 'json .Config.Cmd', 'json .Config.Entrypoint', '.Config.WorkingDir', '.Config.User'],
    ...['json .Config.Labels', 'json .Config.ExposedPorts', 'json .Config.Volumes'],
  ),
  ['history', '--no-trunc', '--format', '{{.CreatedBy}}', 'built'],
];

export const buildsCases: Case[] = [
  {
    name: 'build: the classic builder',
    steps: [
      ...INPUT,
      classic('-t', 'built', '--build-arg', 'WHAT=argument', '$SCRATCH/build'),
      classic('-q', '-t', 'again', '--build-arg', 'WHAT=argument', '$SCRATCH/build'),
      ...LOOK,
      withInput(classic('-t', 'failing', '-'), 'FROM test/busybox\nRUN echo before; exit 3\n'),
      withInput(classic('-t', 'failing', '-'), 'FROM test/busybox\nRUN nothing-here 2>/dev/null\n'),
      withInput(classic('-t', 'failing', '-'), 'FROM test/busybox\nNOTHING\n'),
      withInput(
        classic('-t', 'limited', '-m', '64m', '--network', 'none', '--no-cache', '-'),
        'FROM test/busybox\nRUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes; ls /sys/class/net\n',
      ),
      ['rmi', 'built', 'again', 'limited'],
      quietly('image', 'prune', '-f'),
      sh('echo end'),
      quietly('container', 'prune', '-f'),
    ],
    hide: MADE_WITH_TIMES,
  },
  {
    name: 'build: the cache of the classic builder, and one stage of several',
    steps: [
      context('cached', { Dockerfile: 'FROM $IMAGE\nRUN echo one\nCOPY file /\nRUN cat /file\n', file: 'first\n' }),
      classic('-t', 'built', '$SCRATCH/cached'),
      classic('-t', 'built', '$SCRATCH/cached'),
      context('cached', { file: 'second\n' }),
      classic('-t', 'built', '$SCRATCH/cached'),
      ['run', '--rm', 'built', 'cat', '/file'],
      withInput(
        classic('-t', 'stage', '--target', 'wanted', '-'),
        'FROM test/busybox AS wanted\nCMD echo wanted\nFROM wanted\nRUN exit 1\n',
      ),
      ['run', '--rm', 'stage'],
      ['rmi', 'built', 'stage'],
      quietly('image', 'prune', '-f'),
    ],
    hide: MADE,
  },
  {
    name: 'build: BuildKit',
    steps: [
      ...INPUT,
      buildkit(['-t', 'built', '--build-arg', 'WHAT=argument', '$SCRATCH/build']),
      buildkit(['-t', 'again', '--build-arg', 'WHAT=argument', '$SCRATCH/build']),
      ...LOOK,
      buildkit(['-t', 'failing', '-'], 'FROM test/busybox\nRUN echo before; exit 3\n'),
      buildkit(['-t', 'failing', '-'], 'FROM test/busybox\nRUN nothing-here 2>/dev/null\n'),
      buildkit(['-t', 'failing', '-'], 'FROM test/busybox\nNOTHING\n'),
      buildkit(['-t', 'failing', '-'], 'FROM test/busybox\nCOPY nothing /\n'),
      buildkit(['-t', 'alone', '--network', 'none', '-'], 'FROM test/busybox\nRUN ls /sys/class/net\n'),
      quietly('rmi', 'built', 'again', 'alone'),
      quietly('builder', 'prune', '-af'),
      sh('echo end'),
    ],
    hide: [...MADE_WITH_TIMES, [/ref [\w-]+::\w+/g, 'ref REF']],
  },
  {
    name: 'build: the cache of BuildKit, and one stage of several',
    steps: [
      context('cached', { Dockerfile: 'FROM $IMAGE\nRUN echo one\nCOPY file /\nRUN cat /file\n', file: 'first\n' }),
      buildkit(['-t', 'built', '$SCRATCH/cached']),
      buildkit(['-t', 'built', '$SCRATCH/cached']),
      context('cached', { file: 'second\n' }),
      buildkit(['-t', 'built', '$SCRATCH/cached']),
      buildkit(['-t', 'built', '--no-cache', '$SCRATCH/cached']),
      ['run', '--rm', 'built', 'cat', '/file'],
      buildkit(
        ['-t', 'stage', '--target', 'wanted', '-'],
        'FROM test/busybox AS wanted\nCMD echo wanted\nFROM wanted\nRUN exit 1\n',
      ),
      ['run', '--rm', 'stage'],
      quietly('rmi', 'built', 'stage'),
      quietly('builder', 'prune', '-af'),
      ['system', 'df', '--format', '{{.Type}} {{.TotalCount}} {{.Active}}'],
    ],
    hide: MADE,
  },
  {
    name: 'build: mounts of BuildKit, secrets, output to a folder',
    steps: [
      context('mounts', {
        Dockerfile: [
          'FROM $IMAGE AS made',
          'RUN --mount=type=cache,target=/cache echo kept > /cache/file',
          'RUN --mount=type=cache,target=/cache cat /cache/file',
          'RUN --mount=type=bind,target=/context ls /context',
          'RUN --mount=type=tmpfs,target=/empty touch /empty/x && ls /empty',
          'RUN --mount=type=secret,id=word sha256sum < /run/secrets/word && cp /run/secrets/word /word',
          'RUN cat /cache/file /run/secrets/word 2>/dev/null || echo gone',
          'FROM scratch',
          'COPY --from=made /word /',
        ].join('\n'),
        file: 'a file\n',
        word: 'open\n',
      }),
      buildkit([
        '--secret',
        'id=word,src=$SCRATCH/mounts/word',
        '-t',
        'mounted',
        '--target',
        'made',
        '$SCRATCH/mounts',
      ]),
      ['run', '--rm', 'mounted', 'ls', '/run'],
      buildkit(['--secret', 'id=word,src=$SCRATCH/mounts/word', '-o', '$SCRATCH/output', '$SCRATCH/mounts']),
      sh('ls /output; cat /output/word', '-v', '$SCRATCH/output:/output'),
      quietly('rmi', 'mounted'),
      quietly('builder', 'prune', '-af'),
    ],
    hide: MADE,
  },
];
