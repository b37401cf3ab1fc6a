// gantry tasks: ls, start, attach, exec, kill, pause, resume, ps, metrics, rm.

import { constants } from 'node:os';
import type { Command } from 'commander';
import { isNotFound } from '../../proto/errors';
import { ProcessDetails } from '../../proto/generated/containerd.runc.v1';
import type { ProcessInfo } from '../../proto/generated/containerd.v1.types';
import { getContainer, removeTask } from '../container/remove';
import { CommandError, EXIT, sentenceOf } from '../failure';
import { isoTime, type ListOptions, line, printList } from '../output';
import type { Session } from '../session';
import { parseSignal } from '../values';
import { registerAttach, registerStart } from './attach';
import { registerExec } from './exec';
import { registerMetrics } from './metrics';
import { action, forEach, group, listOptions } from './shared';

const STATUS = ['unknown', 'created', 'running', 'stopped', 'paused', 'pausing'];

export function registerTasks(program: Command): void {
  const tasks = group(program, 'tasks', ['task', 't'], 'tasks: the running side of containers');
  listOptions(tasks.command('ls').alias('list').description('list tasks')).action(action(list));
  registerStart(tasks);
  registerAttach(tasks);
  registerExec(tasks);
  tasks
    .command('kill <ids...>')
    .description('send a signal')
    .option('-s, --signal <signal>', "signal (default: the image's stop signal, or TERM)")
    .option('--all', 'to all processes of the container')
    .option('--exec-id <id>', 'to this process instead of the first one')
    .action(action(kill));
  tasks.command('pause <ids...>').description('freeze all processes').action(action(pause));
  tasks.command('resume <ids...>').alias('unpause').description('let frozen processes go on').action(action(resume));
  listOptions(tasks.command('ps <id>').description('list processes')).action(action(processes));
  registerMetrics(tasks);
  tasks
    .command('rm <ids...>')
    .aliases(['remove', 'delete', 'del'])
    .description('delete stopped tasks')
    .option('-f, --force', 'kill running ones first')
    .action(action(remove));
}

async function list(session: Session, options: ListOptions): Promise<void> {
  const { tasks } = await session.connection.tasks.list({});
  printList(options, {
    rows: tasks,
    columns: [
      ['ID', ({ id }) => id],
      ['PID', ({ pid }) => `${pid}`],
      ['STATUS', ({ status }) => STATUS[status] ?? 'unknown'],
      ['EXIT', (task) => (task.status === 3 ? `${task.exitStatus}` : '-')],
      ['EXITED', ({ exitedAt }) => isoTime(exitedAt) ?? '-'],
    ],
    name: ({ id }) => id,
    json: (task) => ({ ...task, status: STATUS[task.status] ?? 'unknown' }),
  });
}

/** Runs a task call; a task that is missing may be a container in another namespace. */
async function onTask<T>(session: Session, id: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!isNotFound(error)) throw error;
    await getContainer(session, id);
    const isEnded = sentenceOf(error).includes('already finished');
    throw new CommandError(isEnded ? `task "${id}" has ended` : sentenceOf(error), EXIT.notFound, { cause: error });
  }
}

interface KillOptions {
  readonly signal?: string;
  readonly all?: boolean;
  readonly execId?: string;
}

async function kill(session: Session, options: KillOptions, ids: string[]): Promise<void> {
  await forEach(ids, async (id) => {
    const signal = options.signal === undefined ? await stopSignal(session, id) : parseSignal(options.signal);
    const request = { containerId: id, signal, all: options.all === true, execId: options.execId ?? '' };
    await onTask(session, id, () => session.connection.tasks.kill(request));
  });
}

async function stopSignal(session: Session, id: string): Promise<number> {
  const { labels } = await getContainer(session, id);
  const name = labels['io.containerd.image.config.stop-signal'];
  return name === undefined ? constants.signals.SIGTERM : parseSignal(name);
}

async function pause(session: Session, _: object, ids: string[]): Promise<void> {
  await forEach(ids, async (id) => {
    await onTask(session, id, () => session.connection.tasks.pause({ containerId: id }));
  });
}

async function resume(session: Session, _: object, ids: string[]): Promise<void> {
  await forEach(ids, async (id) => {
    await onTask(session, id, () => session.connection.tasks.resume({ containerId: id }));
  });
}

async function processes(session: Session, options: ListOptions, id: string): Promise<void> {
  const { processes: rows } = await onTask(session, id, () => session.connection.tasks.listPids({ containerId: id }));
  printList(options, {
    rows,
    columns: [
      ['PID', ({ pid }) => `${pid}`],
      ['EXEC', (row) => execIdOf(row) ?? '-'],
    ],
    name: ({ pid }) => `${pid}`,
    json: (row) => ({ pid: row.pid, execId: execIdOf(row) }),
  });
}

function execIdOf({ info }: ProcessInfo): string | undefined {
  if (info === undefined || info.typeUrl !== ProcessDetails.name) return undefined;
  return ProcessDetails.decode(info.value).execId;
}

async function remove(session: Session, options: { force?: boolean }, ids: string[]): Promise<void> {
  await forEach(ids, async (id) => {
    const status = await removeTask(session, id, options.force === true);
    if (status === undefined) {
      await getContainer(session, id);
      throw new CommandError(`container "${id}" has no task`, EXIT.notFound);
    }
    line(id);
    if (ids.length === 1 && status !== 0 && options.force !== true) process.exitCode = Math.min(status, 255);
  });
}
