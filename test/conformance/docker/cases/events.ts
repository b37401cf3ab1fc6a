// Cases about events and what the daemon tells of itself.

import type { Case } from '../../session';
import { greedy, idle, inState, ready, remove, until } from '../steps';

const EVENTS = ['events', '--since', '1h', '--until', '0s', '--filter', 'type=container', '--format'];

export const eventsCases: Case[] = [
  {
    name: 'events: of a container',
    steps: [
      (session) =>
        session.start('events', [
          'events',
          // It may connect after the first ones.
          '--since',
          '1h',
          '--filter',
          'container=told',
          '--format',
          '{{.Action}} {{index .Actor.Attributes "exitCode"}}',
        ]),
      ...idle('told', '-m', '64m'),
      ['exec', 'told', 'sh', '-c', 'exit 4'],
      ['pause', 'told'],
      ['unpause', 'told'],
      ['rename', 'told', 'told-2'],
      ['rename', 'told-2', 'told'],
      ['update', '--cpu-shares', '99', 'told'],
      ['kill', 'told'],
      inState('told', 'exited'),
      ['start', 'told'],
      ready('told'),
      ['restart', '-t', '60', 'told'],
      ['rm', '-f', 'told'],
      (session) => session.printed('events', /^destroy/m),
      (session) => session.finish('events', 'SIGTERM'),
    ],
    hide: [
      [/(exec_create|exec_start): sh -c until.*/g, '$1: probe'],
      // dockerd tells of it after the kill, when the end may be known already.
      [/^kill\n/gm, ''],
    ],
  },
  {
    name: 'events: out of memory',
    steps: [
      greedy('greedy-2'),
      until([...EVENTS, '{{.Action}}', '--filter', 'container=greedy-2'], /^die$/m),
      [...EVENTS, '{{.Action}} {{index .Actor.Attributes "exitCode"}}', '--filter', 'container=greedy-2'],
      remove('greedy-2'),
    ],
  },
  {
    name: 'info and version',
    steps: [
      ['version', '--format', '{{.Server.Version}} {{.Client.Version}}'],
      [
        ...['info', '--format'],
        '{{.Containers}} {{.Images}} {{.Driver}} {{.LoggingDriver}} {{.CgroupDriver}} {{.CgroupVersion}} {{.DefaultRuntime}} {{json .SecurityOptions}} {{json .Warnings}}',
      ],
      ['system', 'df', '--format', '{{.Type}} {{.TotalCount}} {{.Active}}'],
    ],
  },
];
