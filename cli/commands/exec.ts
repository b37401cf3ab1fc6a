// gantry exec: another process in a running container.

import type { Command } from 'commander';
import { PROCESS_URL, packJson, unpackJson } from '../../proto/any';
import type { Container } from '../../proto/generated/containerd.services.containers.v1';
import { ignoreNotFound } from '../container/create';
import { getContainer, getTask } from '../container/remove';
import { CommandError, EXIT, sentenceOf, startFailureCode, usageError } from '../failure';
import { endInterrupted } from '../image/lease';
import { line, note } from '../output';
import type { Session } from '../session';
import { layersOf, readFromLayers } from '../spec/layers';
import type { Process, Spec } from '../spec/types';
import { needsFiles, resolveUser } from '../spec/user';
import { exitStatusOf, supervise } from '../task/process';
import { SignalForwarder } from '../task/signals';
import { logStdio, makeFifos, parseLogUri, removeFifos, type Stdio } from '../task/stdio';
import { requireTerminal, terminalSize } from '../task/terminal';
import { mergeEnvironment, parseDuration, parseEnvironment, randomId } from '../values';
import { type ProcessOptions, processOptions } from './create-options';
import { action } from './shared';

interface ExecOptions extends ProcessOptions {
  readonly detach?: boolean;
  readonly interactive?: boolean;
  readonly execId?: string;
  readonly logUri?: string;
  readonly privileged?: boolean;
  readonly stopTimeout: string;
}

export function registerExec(parent: Command): void {
  const exec = parent
    .command('exec <container> <command...>')
    .description('run a command in a running container')
    .option('-d, --detach', 'leave it running and print its exec id')
    .option('-i, --interactive', 'pass standard input on');
  processOptions(exec)
    .option('--exec-id <id>', 'id of the process (default: made up)')
    .option('--log-uri <uri>', 'where output goes: file:///path, binary:///path')
    .option('--stop-timeout <duration>', 'from ctrl-C to SIGKILL; 0 waits for ever', '0')
    .addHelpText('after', '\nExamples:\n  gantry exec web ps\n  gantry exec -it web sh\n  gantry exec -u nobody web id')
    .action(action(execCommand));
}

async function execCommand(session: Session, options: ExecOptions, id: string, args: string[]): Promise<void> {
  const terminal = options.tty === true;
  const stdin = options.interactive === true;
  const detach = options.detach === true;
  if (detach && (terminal || stdin)) throw usageError('exec -d cannot be used with -t or -i');
  if (terminal && stdin) requireTerminal();
  const container = await getContainer(session, id);
  if ((await getTask(session, id)) === undefined) {
    throw new CommandError(`container "${id}" is not running`, EXIT.runFailed);
  }
  const process = await processOf(session, container, options, args);
  const execId = options.execId ?? `exec-${randomId()}`;
  const name = { containerId: id, execId };
  const stdio = await chooseStdio(options, execId);
  const create = async (): Promise<void> => {
    await session.connection.tasks.exec({ ...name, ...stdio, spec: packJson(PROCESS_URL, process) });
  };
  const remove = async (): Promise<void> => {
    await session.connection.tasks.deleteProcess(name).catch(ignoreNotFound);
  };
  if (detach) await execDetached(session, name, { create, remove });
  else await execAttached(session, options, { name, stdio, create, remove });
}

async function chooseStdio(options: ExecOptions, execId: string): Promise<Stdio> {
  if (options.logUri !== undefined) return logStdio(parseLogUri(options.logUri), options.tty === true);
  if (options.detach === true) return { stdin: '', stdout: '', stderr: '', terminal: false };
  return makeFifos(execId, { stdin: options.interactive === true, terminal: options.tty === true });
}

async function execDetached(
  session: Session,
  name: { containerId: string; execId: string },
  steps: { create: () => Promise<void>; remove: () => Promise<void> },
): Promise<void> {
  try {
    await steps.create();
    await session.connection.tasks.start(name);
  } catch (error) {
    await steps.remove().catch(() => undefined);
    throw new CommandError(sentenceOf(error), startFailureCode(error), { cause: error });
  }
  line(name.execId);
}

interface Attached {
  readonly name: { containerId: string; execId: string };
  readonly stdio: Stdio;
  readonly create: () => Promise<void>;
  readonly remove: () => Promise<void>;
}

async function execAttached(session: Session, options: ExecOptions, attached: Attached): Promise<void> {
  const { name, stdio, create, remove } = attached;
  const signals = new SignalForwarder(parseDuration(options.stopTimeout), endInterrupted);
  let isDetached = false;
  try {
    const stdin = options.interactive === true;
    const outcome = await supervise(session, { process: name, stdio, stdin, signals, create, remove });
    isDetached = outcome.kind === 'detached';
    if (isDetached) note(`detached from "${name.execId}"`);
    process.exitCode = exitStatusOf(outcome);
  } finally {
    signals.close();
    if (!isDetached) await removeFifos(stdio);
  }
}

/** The container's own process with other arguments, and what the options change. */
async function processOf(
  session: Session,
  container: Container,
  options: ExecOptions,
  args: readonly string[],
): Promise<Process> {
  if (container.spec === undefined) throw new CommandError(`container "${container.id}" has no spec`);
  const spec = unpackJson<Spec>(`spec of container "${container.id}"`, container.spec);
  const { consoleSize: _, ...base } = spec.process;
  const terminal = options.tty === true;
  const env = mergeEnvironment(
    [...(base.env ?? []), ...(terminal ? ['TERM=xterm'] : [])],
    parseEnvironment(options.env ?? [], options.envFile ?? []),
  );
  const user = options.user === undefined ? base.user : await userOf(session, container, spec, options.user);
  const size = terminal ? terminalSize() : undefined;
  return {
    ...base,
    args: args[0] === '--' ? args.slice(1) : [...args],
    terminal,
    env,
    user,
    cwd: options.cwd ?? base.cwd,
    ...(size === undefined ? {} : { consoleSize: { height: size.height, width: size.width } }),
  };
}

async function userOf(session: Session, container: Container, spec: Spec, text: string): Promise<Process['user']> {
  if (!needsFiles(text)) return resolveUser(text, () => undefined);
  const { snapshotter, snapshotKey } = container;
  if (snapshotKey === '') return resolveUser(text, (path) => readFromLayers([spec.root.path], path));
  const { mounts } = await session.connection.snapshots.mounts({ snapshotter, key: snapshotKey });
  const layers = layersOf(mounts);
  if (layers === undefined) {
    throw new CommandError(`user "${text}" cannot be looked up with snapshotter ${snapshotter}; give numbers UID:GID`);
  }
  return resolveUser(text, (path) => readFromLayers(layers, path));
}
