// Cases about the logs of containers.

import type { Case } from '../../session';
import { inState, onTerminal, quietly, remove, until } from '../steps';

const LINES = ['sh', '-c', 'for i in 1 2 3 4 5; do echo line $i; done'];

export const logsCases: Case[] = [
  ...['json-file', 'local'].map(
    (driver): Case => ({
      name: `logs: the driver ${driver}`,
      steps: [
        ['run', '-d', '--name', 'log', '--log-driver', driver, '--log-opt', 'max-size=1m', '$IMAGE', ...LINES],
        inState('log', 'exited'),
        ['logs', 'log'],
        ['logs', '--tail', '2', 'log'],
        ['logs', '-t', '--tail', '1', 'log'],
        ['logs', '--details', '--tail', '1', 'log'],
        ['logs', '-f', 'log'],
        ['logs', '--since', '1h', '--until=-1h', 'log'],
        ['logs', '--until', '1h', 'log'],
        remove('log'),
      ],
    }),
  ),
  ...['json-file', 'local'].map(
    (driver): Case => ({
      name: `logs: rotation by the driver ${driver}`,
      steps: [
        [
          ...['run', '-d', '--name', 'rotated', '--log-driver', driver],
          ...['--log-opt', 'max-size=10k', '--log-opt', 'max-file=2', '$IMAGE', 'seq', '3000'],
        ],
        inState('rotated', 'exited'),
        ['logs', '--tail', '2', 'rotated'],
        async (session) => {
          // Where a file begins depends on the digits of the times in it.
          const lines = (await session.quietly(['logs', 'rotated'])).trim().split('\n');
          session.note(`begins after the first: ${Number(lines[0]) > 1}, ends with ${lines.at(-1)}`);
          session.note(`without a gap: ${Number(lines.at(-1)) - Number(lines[0]) + 1 === lines.length}`);
        },
        remove('rotated'),
      ],
    }),
  ),
  {
    name: 'logs: details, no driver, long lines, no newline',
    steps: [
      [
        ...['run', '-d', '--name', 'detailed', '--label', 'who=me', '-e', 'COLOUR=red'],
        ...['--log-opt', 'labels=who', '--log-opt', 'env=COLOUR', '$IMAGE', ...LINES],
      ],
      inState('detailed', 'exited'),
      ['logs', '--details', '--tail', '2', 'detailed'],
      remove('detailed'),
      ['run', '-d', '--name', 'none', '--log-driver', 'none', '$IMAGE', ...LINES],
      inState('none', 'exited'),
      ['logs', 'none'],
      remove('none'),
      ['run', '-d', '--name', 'long', '$IMAGE', 'sh', '-c', 'head -c 40000 /dev/zero | tr "\\0" x; echo; printf end'],
      inState('long', 'exited'),
      async (session) => {
        const text = await session.quietly(['logs', 'long']);
        session.note(`${text.length} ${text.slice(-5)}`);
      },
      remove('long'),
    ],
  },
  {
    name: 'logs -f follows to the end',
    steps: [
      [
        'run',
        '-d',
        '--name',
        'followed',
        '$IMAGE',
        'sh',
        '-c',
        'echo first; until [ -e /go ]; do sleep 0.05; done; echo last',
      ],
      (session) => session.start('follow', ['logs', '-f', 'followed']),
      (session) => session.printed('follow', /first/),
      quietly('exec', 'followed', 'touch', '/go'),
      (session) => session.finish('follow'),
      until(['logs', 'followed'], /last/),
      remove('followed'),
      onTerminal(['run', '--name', 'tty', '-it', '$IMAGE', 'sh', '-c', 'printf "a\\033[1mb\\n"']),
      ['logs', 'tty'],
      remove('tty'),
    ],
  },
];
