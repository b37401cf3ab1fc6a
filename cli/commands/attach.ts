// gantry tasks start and gantry tasks attach: standing in front of a container that was made before.

import type { Command } from 'commander';
import { unpackJson } from '../../proto/any';
import type { Container } from '../../proto/generated/containerd.services.containers.v1';
import { type Process, Status } from '../../proto/generated/containerd.v1.types';
import { getContainer, getTask } from '../container/remove';
import { CommandError, EXIT, usageError } from '../failure';
import { endInterrupted } from '../image/lease';
import { line, note } from '../output';
import type { Session } from '../session';
import type { Spec } from '../spec/types';
import { followLog } from '../task/logs';
import { exitStatusOf, supervise } from '../task/process';
import { SignalForwarder } from '../task/signals';
import {
  defaultLogUri,
  LOG_LABEL,
  logPath,
  logStdio,
  makeFifos,
  parseLogUri,
  removeFifos,
  type Stdio,
} from '../task/stdio';
import { holdOpen } from '../task/streams';
import { requireTerminal } from '../task/terminal';
import { parseDuration } from '../values';
import { action } from './shared';

interface StartOptions {
  readonly detach?: boolean;
  readonly interactive?: boolean;
  readonly logUri?: string;
  readonly stopTimeout: string;
}

export function registerStart(tasks: Command): void {
  tasks
    .command('start <id>')
    .description('start a container that was created before')
    .option('-d, --detach', 'leave it running and print its id')
    .option('-i, --interactive', 'pass standard input on')
    .option('--log-uri <uri>', 'where output goes: file:///path, binary:///path')
    .option('--stop-timeout <duration>', 'from ctrl-C to SIGKILL; 0 waits for ever', '10s')
    .action(action(start));
}

export function registerAttach(tasks: Command): void {
  tasks
    .command('attach <id>')
    .description('connect the terminal to a container that was run with -d and -t or -i, or follow its log')
    .option('--stop-timeout <duration>', 'from ctrl-C to SIGKILL; 0 waits for ever', '10s')
    .addHelpText('after', '\nThe exit status is that of the container. ctrl-P ctrl-Q leaves it running.')
    .action(action(attach));
}

async function start(session: Session, options: StartOptions, id: string): Promise<void> {
  const { tasks, snapshots, containers } = session.connection;
  const container = await getContainer(session, id);
  const { snapshotter, snapshotKey } = container;
  const mounts = snapshotKey === '' ? [] : (await snapshots.mounts({ snapshotter, key: snapshotKey })).mounts;
  const detach = options.detach === true;
  const stdio = await chooseStdio(session, container, options);
  const create = async (): Promise<void> => {
    await tasks.create({ containerId: id, rootfs: mounts, ...stdio });
  };
  if (/^(file|binary):/.test(stdio.stdout)) {
    const labels = { [LOG_LABEL]: stdio.stdout };
    await containers.update({ container: { id, labels }, updateMask: { paths: [`labels.${LOG_LABEL}`] } });
  }
  if (detach) {
    const release = holdOpen(stdio);
    try {
      await create();
      await tasks.start({ containerId: id });
    } finally {
      release();
    }
    return line(id);
  }
  const remove = async (): Promise<void> => {
    await tasks.delete({ containerId: id });
  };
  await standBy(session, id, { stdio, options, create, remove });
}

function chooseStdio(session: Session, container: Container, options: StartOptions): Promise<Stdio> {
  const { id } = container;
  const spec = container.spec === undefined ? undefined : unpackJson<Spec>(`spec of container "${id}"`, container.spec);
  const terminal = spec?.process?.terminal === true;
  const stdin = options.interactive === true;
  if (options.detach !== true && terminal && stdin) requireTerminal();
  if (options.logUri !== undefined) return logStdio(parseLogUri(options.logUri), terminal);
  const isPlain = options.detach === true && !terminal && !stdin;
  return isPlain ? logStdio(defaultLogUri(session.namespace, id), false) : makeFifos(id, { stdin, terminal });
}

interface StandBy {
  readonly stdio: Stdio;
  readonly options: StartOptions;
  readonly create?: () => Promise<void>;
  readonly remove?: () => Promise<void>;
}

async function standBy(session: Session, id: string, { stdio, options, create, remove }: StandBy): Promise<void> {
  const signals = new SignalForwarder(parseDuration(options.stopTimeout), endInterrupted);
  let isDetached = false;
  try {
    const outcome = await supervise(session, {
      process: { containerId: id, execId: '' },
      stdio,
      stdin: options.interactive === true,
      signals,
      ...(create === undefined ? {} : { create }),
      ...(remove === undefined ? {} : { remove }),
    });
    isDetached = outcome.kind === 'detached';
    if (isDetached) note(`detached from "${id}"; gantry tasks attach ${id} comes back`);
    process.exitCode = exitStatusOf(outcome);
  } finally {
    signals.close();
    if (!isDetached && remove !== undefined) await removeFifos(stdio);
  }
}

async function attach(session: Session, options: { stopTimeout: string }, id: string): Promise<void> {
  const container = await getContainer(session, id);
  const task = await getTask(session, id);
  if (task === undefined) throw new CommandError(`container "${id}" has no task`, EXIT.notFound);
  if (task.status === Status.STOPPED) {
    process.exitCode = Math.min(task.exitStatus, 255);
    throw new CommandError(`container "${id}" has ended with status ${task.exitStatus}`, EXIT.conflict);
  }
  if (task.stdout.startsWith('file://')) return attachToLog(session, id, task, options);
  if (task.stdout.startsWith('binary://'))
    throw usageError(`the output of "${id}" goes to ${container.labels[LOG_LABEL]}`);
  const { stdin, stdout, stderr, terminal } = task;
  const interactive = stdin !== '' && (!terminal || process.stdin.isTTY);
  await standBy(session, id, { stdio: { stdin, stdout, stderr, terminal }, options: { ...options, interactive } });
}

/** A container that writes a log cannot be typed to; its log is shown until it ends, signals are passed on. */
async function attachToLog(
  session: Session,
  id: string,
  task: Process,
  options: { stopTimeout: string },
): Promise<void> {
  const controller = new AbortController();
  const log = followLog(logPath(task.stdout), { tail: 0, signal: controller.signal });
  const nothing = { stdin: '', stdout: '', stderr: '', terminal: false };
  try {
    await standBy(session, id, { stdio: nothing, options: { ...options, interactive: false } });
  } finally {
    controller.abort();
    await log;
  }
}
