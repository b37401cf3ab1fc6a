// Cases about the forms of `docker run`.

import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Case } from '../../session';
import { idle, inState, onTerminal, remove, sh, show, until, withInput } from '../steps';

export const runCases: Case[] = [
  {
    name: 'run: output, exit status, input',
    steps: [
      sh('echo out; exit 3'),
      sh('echo err >&2; exit 255'),
      sh('kill -9 $$'),
      withInput(['run', '--rm', '-i', '$IMAGE', 'cat'], 'some\ninput\n'),
      withInput(['run', '--rm', '-i', '$IMAGE', 'sha256sum'], Buffer.alloc(3_000_000, 'gantry')),
      withInput(['run', '--rm', '-i', '$IMAGE', 'true'], 'nobody reads this'),
      ['run', '--rm', '$IMAGE', 'seq', '2000'],
      ['run', '--rm', '-a', 'stderr', '$IMAGE', 'sh', '-c', 'echo out; echo err >&2'],
    ],
  },
  {
    name: 'run: errors',
    steps: [
      ['run', '--rm', '$IMAGE', 'nothing'],
      ['run', '--rm', '$IMAGE', '/nothing/here'],
      ['run', '--rm', '$IMAGE', '/etc/passwd'],
      ['run', '--rm', '$IMAGE', '/etc'],
      ['run', '--rm', '-w', '/etc/passwd', '$IMAGE', 'pwd'],
      ['run', '--rm', '-u', 'nobody-here', '$IMAGE', 'id'],
      ['run', '--rm', '-m', '1k', '$IMAGE', 'true'],
      ['run', '--rm', '--sysctl', 'nothing.here=1', '$IMAGE', 'true'],
      ['run', '--rm', '-v', '/nothing', '--mount', 'type=bind,src=/nothing/here,dst=/x', '$IMAGE', 'true'],
      ['run', '--rm', '--device', '/dev/nothing', '$IMAGE', 'true'],
      ['run', '--rm', '--cap-add', 'NOTHING', '$IMAGE', 'true'],
      ['run', '--rm', '--entrypoint', 'nothing', '$IMAGE'],
      ['ps', '-a'],
    ],
    // The words of runc about a program differ from one release to the next.
    hide: [[/container_linux\.go:\d+: /g, '']],
  },
  {
    name: 'run: --name, --hostname, --entrypoint, -e, -w, -u, --label',
    steps: [
      sh('hostname; cat /etc/hostname', '--name', 'named', '--hostname', 'host-1', '--domainname', 'example'),
      ['run', '--rm', '--entrypoint', 'echo', '$IMAGE', 'a', 'b'],
      sh('env | sort | grep -v HOSTNAME', '-e', 'ONE=1', '-e', 'TWO=two words', '-e', 'IMAGE=other'),
      sh('pwd', '-w', '/var/deep/er'),
      sh('id; cat /proc/self/loginuid >/dev/null; echo $HOME', '-u', 'worker'),
      sh('id', '-u', '1234:5678', '--group-add', '99'),
      sh('id', '-u', '1000', '--group-add', 'helpers'),
      ['run', '-d', '--name', 'labelled', '--label', 'a=b', '--label', 'c', '$IMAGE', 'true'],
      show('labelled', 'json .Config.Labels', '.Config.Image', '.Path', 'json .Args'),
      remove('labelled'),
    ],
  },
  {
    name: 'run -t: a terminal',
    steps: [
      onTerminal(['run', '--rm', '-it', '$IMAGE', 'sh', '-c', 'tty; test -t 0 && test -t 1 && echo terminal; exit 6']),
      onTerminal([
        'run',
        '--rm',
        '-it',
        '$IMAGE',
        'sh',
        '-c',
        'until [ "$(stty size)" = "40 132" ]; do sleep 0.02; done 2>/dev/null; echo sized',
      ]),
      onTerminal(
        ['run', '--rm', '-it', '$IMAGE', 'sh', '-c', 'stty -echo; echo ready; read line; echo "got $line"'],
        [['ready', 'send', 'a line\n']],
      ),
      ['run', '--rm', '-t', '$IMAGE', 'sh', '-c', 'echo one; echo two >&2'],
    ],
  },
  {
    name: 'run -d: detached, then waited for',
    steps: [
      ...idle('detached'),
      ['ps', '--format', '{{.Names}} {{.Image}} {{.Command}} {{.State}}'],
      ['stop', 'detached'],
      inState('detached', 'exited'),
      ['wait', 'detached'],
      ['ps', '-a', '--format', '{{.Names}} {{.Image}} {{.State}}'],
      ['rm', 'detached'],
      ['run', '-d', '--rm', '--name', 'gone', '$IMAGE', 'sleep', '1000'],
      ['kill', 'gone'],
      async (session) => session.until(['ps', '-aq'], /^$/),
    ],
  },
  {
    name: 'run: --init, --stop-signal, --stop-timeout',
    steps: [
      sh('ps -o args; cat /proc/1/comm', '--init'),
      [
        'run',
        '-d',
        '--name',
        'signalled',
        '--stop-signal',
        'USR1',
        '$IMAGE',
        'sh',
        '-c',
        'trap "exit 11" USR1; touch /dev/shm/ready; while :; do sleep 0.1; done',
      ],
      async (session) =>
        void (await session.quietly([
          'exec',
          'signalled',
          'sh',
          '-c',
          'until [ -e /dev/shm/ready ]; do sleep 0.02; done',
        ])),
      ['stop', 'signalled'],
      show('signalled', '.State.ExitCode'),
      remove('signalled'),
      [
        'run',
        '-d',
        '--name',
        'deaf',
        '--stop-timeout',
        '1',
        '$IMAGE',
        'sh',
        '-c',
        'trap "" TERM; while :; do sleep 0.1; done',
      ],
      ['stop', 'deaf'],
      show('deaf', '.State.ExitCode'),
      remove('deaf'),
    ],
  },
  {
    name: 'run: --pid, --ipc, --uts, --network container and host',
    steps: [
      ...idle('main', '--ipc', 'shareable', '--hostname', 'main-host'),
      sh('ps -o args | grep -c "[t]rap"', '--pid', 'container:main'),
      sh('ls /dev/shm', '--ipc', 'container:main'),
      sh('hostname; ip -4 addr show eth0 | grep -o "inet [0-9.]*"', '--network', 'container:main'),
      sh('test $$ != 1 && echo other', '--pid', 'host'),
      sh('ip link show docker0 | grep -o docker0', '--network', 'host'),
      sh('ip -o link | wc -l', '--network', 'none'),
      sh('[ "$(hostname)" = "$(cat /proc/sys/kernel/hostname)" ] && echo same', '--uts', 'host'),
      sh('ls /dev/shm; df -k /dev/shm | tail -1 | cut -c1-20', '--ipc', 'private', '--shm-size', '32m'),
      sh('test -e /dev/shm || echo none', '--ipc', 'none'),
      sh(
        '[ "$(readlink /proc/self/ns/ipc)" = "$(readlink /host/self/ns/ipc)" ] && echo same',
        '--ipc',
        'host',
        '-v',
        '/proc:/host',
      ),
      sh('grep -c . /proc/self/cgroup; grep memory /proc/self/cgroup | cut -d: -f3', '--cgroupns', 'private'),
      remove('main'),
    ],
  },
  {
    name: 'run -d with -i and -t, and signals to the client',
    steps: [
      ['run', '-dt', '--name', 'tty', '$IMAGE', 'sh', '-c', 'test -t 1 && echo terminal; sleep 1000'],
      until(['logs', 'tty'], /terminal/),
      remove('tty'),
      ['run', '-dit', '--name', 'shell', '$IMAGE'],
      onTerminal(
        ['attach', '--detach-keys', 'ctrl-a,d', 'shell'],
        [
          ['#', 'send', 'echo $((40 + 2))\n'],
          ['42', 'send', '\u0001d'],
        ],
      ),
      show('shell', '.State.Status'),
      remove('shell'),
      async (session) => {
        const script = 'trap "echo ended; exit 7" TERM; echo up; while :; do sleep 0.1; done';
        await session.start('client', ['run', '--name', 'signalled', '$IMAGE', 'sh', '-c', script]);
        await session.printed('client', /up/);
        await session.finish('client', 'SIGTERM');
      },
      inState('signalled', 'exited'),
      show('signalled', '.State.ExitCode'),
      remove('signalled'),
    ],
    // The terminal shows what is typed, and how far it came.
    hide: [[/^(?!\d+$|terminal$|running$|up$|ended$).*\n/gm, '']],
  },
  {
    name: 'run: files for the client, --pull, --runtime, --rm with volumes',
    steps: [
      async (session) => {
        writeFileSync(path.join(session.scratch, 'env'), 'ONE=1\n# nothing\nTWO=two words\n');
        writeFileSync(path.join(session.scratch, 'labels'), 'a=b\n');
      },
      sh('echo $ONE $TWO', '--env-file', '$SCRATCH/env', '-e', 'ONE=2'),
      ['create', '--name', 'noted', '--cidfile', '$SCRATCH/id', '--label-file', '$SCRATCH/labels', '$IMAGE'],
      async (session) => {
        const id = readFileSync(path.join(session.scratch, 'id'), 'utf8');
        session.note((await session.quietly(show(id, '.Name', 'json .Config.Labels'))).trim());
      },
      remove('noted'),
      ['run', '--rm', '--pull', 'never', 'nothing-here', 'true'],
      ['run', '--rm', '--runtime', 'runc', '$IMAGE', 'echo', 'run by runc'],
      ['run', '--rm', '--runtime', 'nothing', '$IMAGE', 'true'],
      ['run', '--rm', '--name', 'own', '-v', '/anonymous', '$IMAGE', 'ls', '-d', '/anonymous'],
      ['volume', 'ls', '-q'],
      ['run', '-d', '--name', 'unchecked', '--no-healthcheck', '$IMAGE', 'sleep', '1000'],
      show('unchecked', 'json .Config.Healthcheck'),
      remove('unchecked'),
    ],
  },
];
