// Cases about images, what is made of containers, and the classic builder.

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Case, Step } from '../../session';
import { quietly, remove, sh, show, sorted, withInput } from '../steps';

/** Writes a build context into the scratch directory. */
function context(name: string, files: Record<string, string>): Step {
  return async (session) => {
    for (const [file, content] of Object.entries(files)) {
      const target = path.join(session.scratch, name, file);
      mkdirSync(path.dirname(target), { recursive: true });
      writeFileSync(target, session.fill(content));
    }
  };
}

const CONFIG = [
  'json .Config.Env',
  'json .Config.Cmd',
  'json .Config.Entrypoint',
  '.Config.WorkingDir',
  '.Config.User',
];

/** The ids of what a builder makes hold the time. */
const MADE: Case['hide'] = [[/sha256:[0-9a-f]{64}/g, 'DIGEST']];

const DOCKERFILE = `FROM $IMAGE AS first
ARG WHAT=default
RUN echo "built with $WHAT" > /made && id -u > /user
FROM $IMAGE
LABEL kind=test
ENV NAME=value
COPY --from=first /made /user /from/
COPY --chown=1000:2000 file folder/ /copied/
ADD file /added/
WORKDIR /copied
VOLUME /data
EXPOSE 80/tcp
USER worker
RUN id -un; pwd; test ! -w / && echo refused
ENTRYPOINT ["cat"]
CMD ["/from/made"]
`;

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
    name: 'images: build with the classic builder',
    steps: [
      context('build', {
        Dockerfile: DOCKERFILE,
        file: 'a file\n',
        'folder/inner': 'inner\n',
        '.dockerignore': 'ignored\n',
        ignored: '',
      }),
      ['DOCKER_BUILDKIT=0', 'build', '-t', 'built', '--build-arg', 'WHAT=argument', '$SCRATCH/build'],
      ['DOCKER_BUILDKIT=0', 'build', '-q', '-t', 'again', '--build-arg', 'WHAT=argument', '$SCRATCH/build'],
      ['run', '--rm', 'built'],
      ['run', '--rm', 'built', '/from/user', '/added/file', 'inner'],
      ['run', '--rm', '--entrypoint', 'ls', 'built', '-ln', '/copied', '/data'],
      show('built', ...CONFIG, 'json .Config.Labels', 'json .Config.ExposedPorts', 'json .Config.Volumes'),
      ['history', '--format', '{{.CreatedBy}}', 'built'],
      withInput(['DOCKER_BUILDKIT=0', 'build', '-t', 'failing', '-'], 'FROM test/busybox\nRUN echo before; exit 3\n'),
      withInput(
        ['DOCKER_BUILDKIT=0', 'build', '-t', 'failing', '-'],
        'FROM test/busybox\nRUN nothing-here 2>/dev/null\n',
      ),
      withInput(['DOCKER_BUILDKIT=0', 'build', '-t', 'failing', '-'], 'FROM test/busybox\nNOTHING\n'),
      withInput(
        ['DOCKER_BUILDKIT=0', 'build', '-t', 'limited', '-m', '64m', '--network', 'none', '--no-cache', '-'],
        'FROM test/busybox\nRUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes; ls /sys/class/net\n',
      ),
      ['rmi', 'built', 'again', 'limited'],
      quietly('image', 'prune', '-f'),
      sh('echo end'),
      quietly('container', 'prune', '-f'),
    ],
    hide: [...MADE, [/[A-Z][a-z]{2} +\d+ \d\d:\d\d/g, 'TIME']],
  },
];
