// gantry run: a container from nothing to its exit status.

import type { Command } from 'commander';
import { type Created, type CreateOptions, createContainer } from '../container/create';
import { removeContainer } from '../container/remove';
import { CommandError, EXIT, sentenceOf, startFailureCode, usageError } from '../failure';
import { endInterrupted } from '../image/lease';
import { line, note, warn } from '../output';
import type { Session } from '../session';
import { exitStatusOf, interruptible, type Outcome, supervise } from '../task/process';
import { SignalForwarder } from '../task/signals';
import { defaultLogUri, LOG_LABEL, logStdio, makeFifos, parseLogUri, removeFifos, type Stdio } from '../task/stdio';
import { holdOpen } from '../task/streams';
import { requireTerminal } from '../task/terminal';
import { parseDuration } from '../values';
import { createOptions } from './create-options';
import { action } from './shared';

interface RunOptions extends CreateOptions {
  readonly detach?: boolean;
  readonly rm?: boolean;
  readonly interactive?: boolean;
  readonly logUri?: string;
  readonly stopTimeout: string;
}

export function registerRun(program: Command): void {
  const run = program
    .command('run <image> <id> [command...]')
    .description('run a container')
    .option('-d, --detach', 'leave it running and print its id; output goes to a log (see gantry logs)')
    .option('--rm', 'remove the container when it ends')
    .option('-i, --interactive', 'pass standard input on')
    .option('--log-uri <uri>', 'where output goes: file:///path, binary:///path')
    .option('--stop-timeout <duration>', 'from ctrl-C to SIGKILL; 0 waits for ever', '10s');
  createOptions(run)
    .addHelpText(
      'after',
      `
The exit status is that of the container's process. ctrl-C or SIGTERM stops it, a second one kills it. With -it,
ctrl-P ctrl-Q leaves it running. -d with -t or -i keeps its terminal or pipes for gantry tasks attach.

Examples:
  gantry run --rm busybox job1 echo hello
  gantry run --rm -it busybox shell1 sh
  gantry run -d --memory 256m --cpus 0.5 --mount type=bind,src=/srv,dst=/srv,ro busybox web httpd -f
  gantry run --rm --rootfs /srv/debian check1 /bin/bash -c 'apt-get --version'`,
    )
    .action(action(runCommand));
}

async function runCommand(
  session: Session,
  options: RunOptions,
  ...[source, id, args]: [string, string, string[]]
): Promise<void> {
  const detach = options.detach === true;
  if (detach && options.rm === true) throw usageError('--rm needs a client that waits; it cannot be used with -d');
  const terminal = options.tty === true;
  if (!detach && terminal && options.interactive === true) requireTerminal();
  const signals = new SignalForwarder(parseDuration(options.stopTimeout), endInterrupted);
  const logUri = logUriOf(session, options, id);
  // Making pipes starts a program; meanwhile the daemon can work.
  const preparing = chooseStdio(options, id, logUri);
  preparing.catch(() => undefined);
  try {
    const labels = logUri === undefined ? {} : { [LOG_LABEL]: logUri };
    const created = await createContainer(session, { source, id, args, options, labels });
    const stdio = await preparing.catch(async (error: unknown) => {
      await undo(created);
      throw error;
    });
    if (detach) await runDetached(session, created, stdio);
    else await runAttached(session, created, stdio, { options, signals });
  } catch (error) {
    await preparing.then(removeFifos, () => undefined);
    throw error;
  } finally {
    signals.close();
  }
}

/** Where output goes, unless into pipes: for -d with -t or -i those that attach will open. */
function logUriOf(session: Session, options: RunOptions, id: string): string | undefined {
  if (options.logUri !== undefined) return parseLogUri(options.logUri);
  const isPlain = options.detach === true && options.tty !== true && options.interactive !== true;
  return isPlain ? defaultLogUri(session.namespace, id) : undefined;
}

function chooseStdio(options: RunOptions, id: string, logUri: string | undefined): Promise<Stdio> {
  const terminal = options.tty === true;
  if (logUri !== undefined) return logStdio(logUri, terminal);
  return makeFifos(id, { stdin: options.interactive === true, terminal });
}

async function createTask(session: Session, created: Created, stdio: Stdio): Promise<void> {
  await session.connection.tasks.create({ containerId: created.id, rootfs: created.rootfs, ...stdio });
}

async function runDetached(session: Session, created: Created, stdio: Stdio): Promise<void> {
  const { id } = created;
  const release = holdOpen(stdio);
  try {
    await createTask(session, created, stdio);
    await session.connection.tasks.start({ containerId: id });
  } catch (error) {
    await session.connection.tasks.delete({ containerId: id }).catch(() => undefined);
    await created.undo();
    throw new CommandError(sentenceOf(error), startFailureCode(error), { cause: error });
  } finally {
    release();
  }
  line(id);
}

async function runAttached(
  session: Session,
  created: Created,
  stdio: Stdio,
  { options, signals }: { options: RunOptions; signals: SignalForwarder },
): Promise<void> {
  const { id } = created;
  let outcome: Outcome | undefined;
  let isStarted = false;
  try {
    interruptible(signals);
    outcome = await supervise(session, {
      process: { containerId: id, execId: '' },
      stdio,
      stdin: options.interactive === true,
      signals,
      create: () => createTask(session, created, stdio),
      onStarted: () => {
        isStarted = true;
      },
      remove: async () => {
        await session.connection.tasks.delete({ containerId: id });
      },
    });
  } finally {
    if (outcome?.kind !== 'detached') {
      // A container in which nothing ran is of no use to anybody; one that may still run must be ended first.
      if (!isStarted || (options.rm === true && outcome !== undefined)) await undo(created);
      else if (options.rm === true) await endAndRemove(session, id);
      await removeFifos(stdio);
    }
  }
  if (outcome.kind === 'detached') note(`detached from "${id}"; gantry tasks attach ${id} comes back`);
  process.exitCode = exitStatusOf(outcome);
}

async function undo(created: Created): Promise<void> {
  try {
    await created.undo();
  } catch (error) {
    warn(`container "${created.id}" could not be removed: ${sentenceOf(error)}`);
    process.exitCode = EXIT.runFailed;
  }
}

/** For --rm when the daemon was lost while the container ran. */
async function endAndRemove(session: Session, id: string): Promise<void> {
  try {
    await removeContainer(session, id, { force: true, keepSnapshot: false });
  } catch (error) {
    warn(`container "${id}" may still be running: ${sentenceOf(error)}`);
  }
}
