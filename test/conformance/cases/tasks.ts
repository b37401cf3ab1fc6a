import type { Case, Session } from '../session';
import { IMAGE, idle, logged, onTerminal, quietly, RESIZED, ready, remove, stopped, until } from './steps';

/** Rows of `tasks ps`, of `tasks metrics`, and of metrics in JSON: the numbers differ, the names are compared. */
const PROCESS_ROWS: ReadonlyArray<readonly [RegExp, string]> = [[/^\d+ (.*)$/gm, 'PID $1']];
const METRIC_ROWS: ReadonlyArray<readonly [RegExp, string]> = [
  [/^([a-z][\w.]*) (\[.*\]|\d+)$/gm, '$1 N'],
  [/:\d+/g, ':N'],
];
/** Metrics that are left out of JSON when they happen to be zero. */
const OFTEN_ZERO =
  /(user|kernel|cache|rss|rss_huge|mapped_file|dirty|writeback|active_\w+|inactive_\w+|unevictable|pg_\w+|failcnt|total_\w+|io_service\w+)$/;

export const taskCases: Case[] = [
  {
    name: 'tasks: the life of a container',
    steps: [
      ...idle('k1'),
      ['tasks', 'ls'],
      ['tasks', 'ls', '-q'],
      ['containers', 'ls'],
      ['snapshots', 'ls'],
      ['tasks', 'ps', 'k1'],
      ['tasks', 'kill', 'k1'],
      stopped('k1'),
      ['tasks', 'ls'],
      ['tasks', 'kill', 'k1'],
      ['tasks', 'ps', 'k1'],
      ['tasks', 'exec', '--exec-id', 'late', 'k1', 'true'],
      ['tasks', 'delete', 'k1'],
      ['tasks', 'ls'],
      ['tasks', 'delete', 'k1'],
      ['tasks', 'kill', 'k1'],
      ['containers', 'rm', 'k1'],
      ['containers', 'rm', 'k1'],
      ['snapshots', 'ls'],
    ],
    hide: [[/^\d+ -$/gm, 'PID -']],
  },
  {
    name: 'tasks: things that must not be done to a running task',
    steps: [
      ...idle('k2'),
      ['tasks', 'delete', 'k2'],
      ['containers', 'rm', 'k2'],
      ['tasks', 'start', 'k2'],
      ['tasks', 'ls', '-q'],
      ['tasks', 'kill', '-s', 'SIGNONE', 'k2'],
      ['tasks', 'kill', '-s', 'SIGKILL', 'k2'],
      stopped('k2'),
      ['tasks', 'start', 'k2'],
      ['tasks', 'delete', 'k2'],
      ['containers', 'rm', 'k2'],
    ],
  },
  {
    name: 'tasks: missing things',
    steps: [
      ['tasks', 'kill', 'none'],
      ['tasks', 'delete', 'none'],
      ['tasks', 'ps', 'none'],
      ['tasks', 'pause', 'none'],
      ['tasks', 'resume', 'none'],
      ['tasks', 'exec', '--exec-id', 'e', 'none', 'true'],
      ['tasks', 'attach', 'none'],
      ['tasks', 'start', 'none'],
      ['tasks', 'metrics', 'none'],
      ['containers', 'info', 'none'],
      ['containers', 'label', 'none', 'a=b'],
      ['containers', 'rm', 'none'],
    ],
  },
  {
    name: 'tasks exec',
    steps: [
      ...idle('k3'),
      ['tasks', 'exec', '--exec-id', 'e1', 'k3', 'echo', 'from exec'],
      ['tasks', 'exec', '--exec-id', 'e1', 'k3', 'sh', '-c', 'echo out; echo err >&2; exit 7'],
      [
        'tasks',
        'exec',
        '--exec-id',
        'e2',
        '--cwd',
        '/usr',
        '--user',
        '1000:2000',
        'k3',
        'sh',
        '-c',
        'pwd; id; env | sort',
      ],
      [
        'tasks',
        'exec',
        '--exec-id',
        'e3',
        'k3',
        'sh',
        '-c',
        'grep -E "^(Cap|NoNewPrivs|Seccomp)" /proc/self/status; sed "s/^[0-9]*://" /proc/self/cgroup | sort',
      ],
      ['tasks', 'exec', '--exec-id', 'e4', 'k3', '/none'],
      ['tasks', 'exec', '--exec-id', 'e5', 'k3', 'none'],
      ['tasks', 'exec', '--exec-id', 'e6', '--cwd', '/none', 'k3', 'pwd'],
      ['tasks', 'exec', '--exec-id', 'bad/id', 'k3', 'true'],
      ['tasks', 'exec', 'k3', 'true'],
      ['tasks', 'exec', '--exec-id', 'e7', 'k3', 'sh', '-c', 'kill -9 $$'],
      [
        'tasks',
        'exec',
        '--exec-id',
        'e8',
        'k3',
        'sh',
        '-c',
        'seq 1 50000 | md5sum; head -c 2000000 /dev/zero | md5sum',
      ],
      ...remove('k3'),
    ],
    hide: PROCESS_ROWS,
  },
  {
    name: 'tasks exec -t',
    steps: [
      ...idle('k4'),
      onTerminal(
        [
          'tasks',
          'exec',
          '-t',
          '--exec-id',
          'e1',
          'k4',
          'sh',
          '-c',
          'tty; echo ready; read line; echo "got $line"; exit 6',
        ],
        [['ready', 'send', 'words\r']],
      ),
      onTerminal(['tasks', 'exec', '-t', '--exec-id', 'e2', 'k4', 'sh', '-c', RESIZED], [['ready', 'resize', '10x20']]),
      ...remove('k4'),
    ],
  },
  {
    name: 'tasks exec -d, kill --exec-id, delete --exec-id',
    steps: [
      ...idle('k5'),
      ['tasks', 'exec', '-d', '--fifo-dir', '$SCRATCH/fifo', '--exec-id', 'e1', 'k5', 'sleep', '1000'],
      ['tasks', 'exec', '-d', '--fifo-dir', '$SCRATCH/fifo', '--exec-id', 'e1', 'k5', 'sleep', '1000'],
      ['tasks', 'ps', 'k5'],
      ['tasks', 'delete', '--exec-id', 'e1', 'k5'],
      ['tasks', 'kill', '-s', 'KILL', '--exec-id', 'e1', 'k5'],
      until(['tasks', 'kill', '-s', 'KILL', '--exec-id', 'e1', 'k5'], /already finished/),
      ['tasks', 'delete', '--exec-id', 'e1', 'k5'],
      ['tasks', 'delete', '--exec-id', 'e1', 'k5'],
      ['tasks', 'kill', '--exec-id', 'none', 'k5'],
      ...remove('k5'),
    ],
    hide: [
      [/^\d+ (.*)$/gm, 'PID $1'],
      [/^PID -\nPID -$/gm, 'PID -'],
    ],
  },
  {
    name: 'tasks pause and resume',
    steps: [
      ...idle('k6'),
      ['tasks', 'pause', 'k6'],
      ['tasks', 'ls'],
      ['tasks', 'pause', 'k6'],
      ['tasks', 'ps', 'k6'],
      ['tasks', 'exec', '--exec-id', 'e', 'k6', 'true'],
      ['tasks', 'resume', 'k6'],
      ['tasks', 'ls'],
      ['tasks', 'resume', 'k6'],
      ['tasks', 'pause', 'k6'],
      // What is killed is thawed for it, and ends at its own time.
      ['tasks', 'kill', '-s', 'KILL', 'k6'],
      stopped('k6'),
      ['tasks', 'resume', 'k6'],
      ['tasks', 'pause', 'k6'],
      ['tasks', 'delete', 'k6'],
      ['containers', 'rm', 'k6'],
    ],
    hide: PROCESS_ROWS,
  },
  {
    name: 'tasks metrics',
    steps: [
      ...idle('k7', '--memory-limit', '67108864'),
      ['tasks', 'metrics', 'k7'],
      metricNames('k7'),
      ...remove('k7'),
    ],
    hide: METRIC_ROWS,
  },
  {
    name: 'tasks kill: signals',
    steps: [
      [
        'run',
        '-d',
        '--log-uri',
        'file://$SCRATCH/signals',
        IMAGE,
        'k8',
        'sh',
        '-c',
        'trap "echo usr1" USR1; trap "echo hup" HUP; touch /ready; while :; do sleep 0.05; done',
      ],
      ready('k8'),
      ['tasks', 'kill', '-s', 'SIGUSR1', 'k8'],
      logged('signals', 'usr1'),
      ['tasks', 'kill', '-s', '1', 'k8'],
      logged('signals', 'usr1', 'hup'),
      ['tasks', 'exec', '-d', '--fifo-dir', '$SCRATCH/fifo', '--exec-id', 'e', 'k8', 'sleep', '1000'],
      ['tasks', 'kill', '-a', '-s', 'KILL', 'k8'],
      stopped('k8'),
      ['tasks', 'delete', 'k8'],
      ['containers', 'rm', 'k8'],
    ],
  },
  {
    name: 'tasks attach',
    steps: [
      [
        'run',
        '-d',
        IMAGE,
        'k9',
        'sh',
        '-c',
        'touch /ready; until [ -e /go ]; do sleep 0.02; done; echo attached; echo too >&2; exit 7',
      ],
      ready('k9'),
      (session) => session.start('attach', ['tasks', 'attach', 'k9']),
      (session) => session.opened('attach', 'k9-stdout', 'k9-stderr'),
      quietly('tasks', 'exec', '--exec-id', 'go', 'k9', 'touch', '/go'),
      (session) => session.finish('attach'),
      ['tasks', 'ls'],
      ['containers', 'rm', 'k9'],
      quietly('containers', 'ls'),
    ],
  },
  {
    name: 'tasks delete --force',
    steps: [...idle('k10'), ['tasks', 'delete', '--force', 'k10'], ['tasks', 'ls'], ['containers', 'rm', 'k10']],
  },
  {
    name: 'containers create, tasks start',
    steps: [
      ['containers', 'create', IMAGE, 'c1', 'ls', '/none', '/etc'],
      ['containers', 'ls'],
      ['containers', 'create', IMAGE, 'c1', 'true'],
      ['tasks', 'ls'],
      ['tasks', 'start', 'c1'],
      ['tasks', 'ls'],
      ['tasks', 'start', 'c1'],
      ['containers', 'rm', 'c1'],
      ['containers', 'create', IMAGE, 'c2', 'sleep', '1000'],
      ['tasks', 'start', '-d', 'c2'],
      ['tasks', 'ls'],
      ['tasks', 'delete', '-f', 'c2'],
      ['containers', 'rm', 'c2'],
      ['containers', 'create', 'test/none:1', 'c3'],
    ],
  },
  {
    name: 'containers info, label, filters',
    steps: [
      ['containers', 'create', '--label', 'a=b', '--env', 'X=y', IMAGE, 'c4', 'sleep', '1'],
      ['containers', 'info', 'c4'],
      ['containers', 'label', 'c4', 'c=d', 'e=f'],
      ['containers', 'ls', 'labels.c==d'],
      ['containers', 'label', 'c4', 'a='],
      ['containers', 'ls', '-q', 'id==c4'],
      ['containers', 'ls', '-q', 'id~=^c[0-9]$'],
      ['containers', 'ls', '-q', 'labels.a==b'],
      ['containers', 'ls', '-q', `image==${IMAGE}`],
      ['containers', 'info', 'c4'],
      ['snapshots', 'label', 'c4', 'containerd.io/gc.root=kept'],
      ['containers', 'rm', '--keep-snapshot', 'c4'],
      ['snapshots', 'ls'],
      ['snapshots', 'rm', 'c4'],
    ],
  },
  {
    name: 'containers: two at once, listed in order',
    steps: [
      ...idle('m2'),
      ...idle('m1'),
      ['containers', 'ls'],
      ['tasks', 'ls', '-q'],
      ...remove('m1'),
      ...remove('m2'),
    ],
    hide: [[/^(m[12])$/gm, 'ID']],
  },
  {
    name: 'a container writes, is stopped, and keeps its files',
    steps: [
      ['run', IMAGE, 'w1', 'sh', '-c', 'echo kept > /file'],
      ['tasks', 'ls', '-q'],
      ['snapshots', 'usage', 'w1'],
      ['containers', 'rm', 'w1'],
    ],
  },
];

/** Notes what metrics there are, and the values of limits. */
function metricNames(id: string) {
  return async (session: Session) => {
    const names = (value: unknown, name: string): string[] =>
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? Object.entries(value).flatMap(([key, inner]) => names(inner, `${name}.${key}`))
        : [`${name}${/limit$/.test(name) ? ` ${value}` : ''}`];
    const metrics: unknown = JSON.parse(await session.quietly(['tasks', 'metrics', '--format', 'json', id]));
    for (const name of names(metrics, '').filter((candidate) => !OFTEN_ZERO.test(candidate))) {
      session.note(name);
    }
  };
}
