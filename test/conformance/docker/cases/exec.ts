// Cases about further processes in a container, and about attaching to it.

import { runCommand } from '../../../setup/command';
import type { Case } from '../../session';
import { idle, inState, onTerminal, remove, show, until, withInput } from '../steps';

export const execCases: Case[] = [
  {
    name: 'exec: output, exit status, input, flags',
    steps: [
      ...idle('base', '-e', 'GIVEN=1'),
      ['exec', 'base', 'sh', '-c', 'echo out; echo err >&2; exit 3'],
      withInput(['exec', '-i', 'base', 'cat'], 'some\ninput\n'),
      withInput(['exec', '-i', 'base', 'sha256sum'], Buffer.alloc(3_000_000, 'gantry')),
      ['exec', '-u', 'worker', '-w', '/var', '-e', 'A=b', 'base', 'sh', '-c', 'id; pwd; echo $A $GIVEN $HOME'],
      ['exec', '-u', '7:8', 'base', 'id'],
      ['exec', 'base', 'sh', '-c', 'kill -9 $$'],
      ['exec', 'base', 'nothing'],
      ['exec', 'base', '/etc/passwd'],
      ['exec', '-w', '/nothing', 'base', 'pwd'],
      ['exec', '-u', 'nobody-here', 'base', 'id'],
      ['exec', 'nobody', 'true'],
      ['exec', '--privileged', 'base', 'true'],
      ['exec', 'base', 'grep', '-E', 'Cap|NoNewPrivs|Seccomp:', '/proc/self/status'],
      ['exec', 'base', 'seq', '3000'],
      ['exec', '-d', 'base', 'sh', '-c', 'echo there > /made; sleep 1000'],
      until(['exec', 'base', 'cat', '/made'], /there/),
      ['top', 'base', '-o', 'args'],
      remove('base'),
    ],
  },
  {
    name: 'exec -t: a terminal',
    steps: [
      ...idle('base'),
      onTerminal(['exec', '-it', 'base', 'sh', '-c', 'tty | grep -c pts; test -t 0 && echo terminal; exit 6']),
      onTerminal([
        ...['exec', '-it', 'base', 'sh', '-c'],
        'until [ "$(stty size)" = "40 132" ]; do sleep 0.02; done 2>/dev/null; echo sized',
      ]),
      onTerminal(
        ['exec', '-it', 'base', 'sh', '-c', 'stty -echo; echo ready; read line; echo "got $line"'],
        [['ready', 'send', 'a line\n']],
      ),
      onTerminal(
        [
          'exec',
          '-it',
          'base',
          'sh',
          '-c',
          'trap "echo interrupted; exit 8" INT; echo ready; while :; do sleep 0.1; done',
        ],
        [['ready', 'send', '\u0003']],
      ),
      remove('base'),
    ],
    hide: [[/\^C/g, '']],
  },
  {
    name: 'exec: the container ends meanwhile',
    steps: [
      ...idle('base'),
      (session) => session.start('waiting', ['exec', 'base', 'sh', '-c', 'echo inside; sleep 1000']),
      (session) => session.printed('waiting', /inside/),
      ['kill', 'base'],
      (session) => session.finish('waiting'),
      inState('base', 'exited'),
      remove('base'),
    ],
  },
  {
    name: 'attach: output and input',
    steps: [
      [
        'run',
        '-d',
        '-i',
        '--name',
        'echoing',
        '$IMAGE',
        'sh',
        '-c',
        'while read line; do echo "got $line"; [ "$line" = end ] && exit 5; done',
      ],
      // Where input ends, dockerd gives up output as well: how much of it has come is chance, the log has all.
      async (session) => {
        const { exitCode } = await runCommand(session.command(['attach', 'echoing']), { stdin: 'one\nend\n' });
        session.note(`attach: ${exitCode}`);
      },
      inState('echoing', 'exited'),
      ['logs', 'echoing'],
      show('echoing', '.State.ExitCode'),
      remove('echoing'),
    ],
  },
  {
    name: 'attach: detach keys leave the container running',
    steps: [
      onTerminal(
        [
          'run',
          '-it',
          '--name',
          'left',
          '--detach-keys',
          'ctrl-a,x',
          '$IMAGE',
          'sh',
          '-c',
          'stty -echo; echo ready; while read line; do echo "got $line"; done',
        ],
        [
          ['ready', 'send', 'first\n'],
          ['got first', 'send', '\u0001x'],
        ],
      ),
      show('left', '.State.Status'),
      remove('left'),
    ],
  },
];
