// gantry run: a container from nothing to its exit status.

import type { Command } from 'commander';
import { type Created, type CreateOptions, createContainer } from '../container/create';
import { CommandError, EXIT, sentenceOf, startFailureCode, usageError } from '../failure';
import { line, note, warn } from '../output';
import type { Session } from '../session';
import { exitStatusOf, interruptible, supervise } from '../task/process';
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
  const signals = new SignalForwarder(parseDuration(options.stopTimeout));
  try {
    const stdio = await chooseStdio(session, options, id);
    const labels = /^(file|binary):/.test(stdio.stdout) ? { [LOG_LABEL]: stdio.stdout } : {};
    try {
      const created = await createContainer(session, { source, id, args, options, labels });
      if (detach) await runDetached(session, created, stdio);
      else await runAttached(session, created, stdio, { options, signals });
    } catch (error) {
      await removeFifos(stdio);
      throw error;
    }
  } finally {
    signals.close();
  }
}

/** A log for -d; pipes in all other cases, for -d with -t or -i those that attach will open. */
function chooseStdio(session: Session, options: RunOptions, id: string): Promise<Stdio> {
  const terminal = options.tty === true;
  const stdin = options.interactive === true;
  if (options.logUri !== undefined) return logStdio(parseLogUri(options.logUri), terminal);
  const isPlain = options.detach === true && !terminal && !stdin;
  return isPlain ? logStdio(defaultLogUri(session.namespace, id), false) : makeFifos(id, { stdin, terminal });
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
  let outcome: Awaited<ReturnType<typeof supervise>> | undefined;
  try {
    interruptible(signals);
    outcome = await supervise(session, {
      process: { containerId: id, execId: '' },
      stdio,
      stdin: options.interactive === true,
      signals,
      create: () => createTask(session, created, stdio),
      remove: async () => {
        await session.connection.tasks.delete({ containerId: id });
      },
    });
  } finally {
    const isOver = outcome?.kind !== 'detached';
    // A container in which nothing ran is of no use to anybody.
    if (outcome === undefined || (options.rm === true && isOver)) await undo(created);
    if (isOver) await removeFifos(stdio);
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
