// The command line as a whole: global options, the command groups, help, and how a failure is reported.

import { Command, CommanderError, Option } from 'commander';
import { registerCompletion } from './commands/completion';
import { registerContainers } from './commands/containers';
import { registerContent } from './commands/content';
import { registerEvents } from './commands/events';
import { registerExec } from './commands/exec';
import { registerImages } from './commands/images';
import { registerInfo } from './commands/info';
import { registerLeases } from './commands/leases';
import { registerLogs } from './commands/logs';
import { registerNamespaces } from './commands/namespaces';
import { registerPlugins } from './commands/plugins';
import { registerRun } from './commands/run';
import { registerSnapshots } from './commands/snapshots';
import { registerTasks } from './commands/tasks';
import { EXIT, exitCodeOf, sentenceOf } from './failure';
import { note } from './output';
import { VERSION } from './version';

/** Commands whose own failures must not look like an exit status of the container's process. */
const IN_FRONT_OF_A_PROCESS = new Set(['run', 'exec', 'attach', 'start']);

const EPILOGUE = `
Exit status: 0 done, 1 the request failed, 2 wrong usage, 3 gantryd cannot be reached, 4 not found, 5 exists already or
wrong state. run and exec: the process's own status, or 125 gantry failed, 126 the command cannot be executed,
127 the command was not found.

Examples:
  gantry images import busybox.tar
  gantry run --rm -it busybox shell1 sh
  gantry -n moby containers ls`;

/** Parses and runs a command line; never throws. @returns the exit code. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  const program = buildProgram();
  let current: Command = program;
  program.hook('preAction', (_, action) => {
    current = action;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    const isInFront = IN_FRONT_OF_A_PROCESS.has(current.name()) || IN_FRONT_OF_A_PROCESS.has(args[0] ?? '');
    const code = report(error, program.opts()['debug'] === true || current.opts()['debug'] === true);
    return isInFront && code > 0 && code < EXIT.runFailed && error !== undefined ? EXIT.runFailed : code;
  }
}

/** All commands, none of them run yet. */
export function buildProgram(): Command {
  const program = new Command('gantry')
    .description('Manage containers, images and everything else of a gantryd (or any containerd).')
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'gantry: ')) })
    .addHelpText('after', EPILOGUE)
    .helpCommand('help [command]', 'explain a command')
    .version(VERSION, '-V, --version', 'print the version of this client');
  for (const option of globalOptions()) program.addOption(option);
  registerRun(program);
  registerExec(program);
  registerLogs(program);
  registerTasks(program);
  registerContainers(program);
  registerImages(program);
  registerSnapshots(program);
  registerContent(program);
  registerLeases(program);
  registerNamespaces(program);
  registerEvents(program);
  registerPlugins(program);
  registerInfo(program);
  registerCompletion(program);
  spreadGlobalOptions(program);
  return program;
}

function globalOptions(): Option[] {
  return [
    new Option('--address <socket>', 'socket of the daemon (GANTRY_ADDRESS; /run/gantryd/gantryd.sock)'),
    new Option('-n, --namespace <name>', 'namespace to work in (GANTRY_NAMESPACE, CONTAINERD_NAMESPACE; default)'),
    new Option('--timeout <duration>', 'deadline of each request, such as 10s'),
    new Option('--debug', 'show every request on standard error'),
  ];
}

/** Global options may also stand after the command; there they stay out of its help. */
function spreadGlobalOptions(command: Command): void {
  for (const child of command.commands) {
    if (child.commands.length > 0) {
      child.enablePositionalOptions();
      spreadGlobalOptions(child);
    } else {
      child.addHelpText('after', '\nGlobal options: --address, -n/--namespace, --timeout, --debug');
    }
    for (const option of globalOptions()) child.addOption(option.hideHelp());
    child.exitOverride();
  }
}

function report(error: unknown, withStack: boolean): number {
  if (error instanceof CommanderError) {
    // Commander has printed its message, or the help that was asked for.
    return error.exitCode === 0 ? 0 : EXIT.usage;
  }
  note(`gantry: ${sentenceOf(error)}`);
  if (withStack && error instanceof Error) {
    note(error.stack ?? '');
    if (error.cause !== undefined) note(`caused by: ${sentenceOf(error.cause)}`);
  }
  return exitCodeOf(error);
}
