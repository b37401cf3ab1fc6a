// Cases about the event stream: a following client sees what other commands cause.

import type { Case, Step } from '../session';
import { collected, IMAGE, quietly, stopped, withInput } from './steps';

const FIELDS: ReadonlyArray<readonly [RegExp, string]> = [
  [/"(bundle|stdin|stdout|stderr)":"[^"]*"/g, '"$1":"PATH"'],
  [/^.*"mark":"x".*\n/gm, ''],
  [/"exited_at":\{[^}]*\}/g, '"exited_at":TIME'],
  [/(lowerdir|upperdir|workdir)=[^",]*/g, '$1'],
];

export const eventCases: Case[] = [
  followed('events of a run', [['run', '--rm', IMAGE, 'v1', 'sh', '-c', 'exit 3']], /\/containers\/delete/),
  followed(
    'events of a failed run',
    [async (session) => void (await session.run(['run', '--rm', IMAGE, 'v2', '/none']))],
    /\/containers\/delete/,
  ),
  followed(
    'events of a task',
    [
      quietly('run', '-d', IMAGE, 'v3', 'sleep', '1000'),
      quietly('tasks', 'exec', '--exec-id', 'e', 'v3', 'true'),
      quietly('tasks', 'pause', 'v3'),
      quietly('tasks', 'resume', 'v3'),
      quietly('containers', 'label', 'v3', 'a=b'),
      quietly('tasks', 'kill', '-s', 'KILL', 'v3'),
      stopped('v3'),
      quietly('tasks', 'delete', 'v3'),
      quietly('containers', 'rm', 'v3'),
    ],
    /\/containers\/delete/,
  ),
  followed(
    'events of images, content, snapshots and namespaces',
    [
      collected(),
      withInput(['content', 'ingest', 'event-ref'], 'event'),
      quietly('content', 'rm', 'sha256:b8e1f80bd70ae0784c7855a451731b745fddb67749d23f637be9082b75e9575b'),
      quietly('images', 'tag', IMAGE, 'test/event:1'),
      quietly('images', 'label', 'test/event:1', 'a=b'),
      quietly('images', 'rm', 'test/event:1'),
      quietly('snapshots', 'prepare', 'event'),
      quietly('snapshots', 'commit', 'event-done', 'event'),
      quietly('snapshots', 'rm', 'event-done'),
      quietly('namespaces', 'create', '$NS-event', 'a=b'),
      quietly('namespaces', 'label', '$NS-event', 'c=d'),
      quietly('namespaces', 'remove', '$NS-event'),
    ],
    /\/namespaces\/delete/,
  ),
  followed(
    'events with a filter',
    [quietly('run', '--rm', IMAGE, 'v4', 'true')],
    /\/tasks\/delete/,
    'topic~=|^/tasks/|',
    'topic=="/namespaces/update"',
  ),
  { name: 'events with a bad filter', steps: [['events', 'topic==']] },
];

function followed(name: string, steps: readonly Step[], last: RegExp, ...filters: string[]): Case {
  return {
    name,
    steps: [
      (session) => session.start('events', ['events', ...filters]),
      // A marker that has come shows that the stream is open.
      (session) => session.printed('events', /"mark"/, ['namespaces', 'label', '$NS', 'mark=x']),
      ...steps,
      (session) => session.printed('events', last),
      (session) => session.finish('events', 'SIGTERM'),
    ],
    hide: FIELDS,
  };
}
