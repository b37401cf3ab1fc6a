// The command line as a whole: global options, the command groups, help, and how a failure is reported.

import { Command, CommanderError, Option } from 'commander';
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
  gantry pull busybox
  gantry run --rm -it busybox shell1 sh
  gantry -n moby containers ls`;

/** Parses and runs a command line; never throws. @returns the exit code. */
export async function runCommandLine(words: readonly string[]): Promise<number> {
  // `help images import` explains the innermost command, as `images import --help` does.
  const args = words[0] === 'help' && words.length > 1 ? [...words.slice(1), '--help'] : words;
  const program = await buildProgram(args);
  let current: Command = program;
  program.hook('preAction', (_, action) => {
    current = action;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    const isInFront = isInFrontOfAProcess(current) || IN_FRONT_OF_A_PROCESS.has(args[0] ?? '');
    const code = report(error, program.opts()['debug'] === true || current.opts()['debug'] === true);
    return isInFront && code > 0 && code < EXIT.runFailed && error !== undefined ? EXIT.runFailed : code;
  }
}

function isInFrontOfAProcess(command: Command): boolean {
  return IN_FRONT_OF_A_PROCESS.has(command.name()) && command.parent?.name() !== 'gc';
}

/**
 * A group's names and the function that adds it. A group is loaded only when it is needed: most of the time that a
 * short command takes goes into loading code.
 */
type Group = readonly [names: readonly string[], register: (program: Command) => Promise<void>];

const GROUPS: readonly Group[] = [
  [['run'], async (program) => (await import('./commands/run.js')).registerRun(program)],
  [['exec'], async (program) => (await import('./commands/exec.js')).registerExec(program)],
  [['logs'], async (program) => (await import('./commands/logs.js')).registerLogs(program)],
  [['tasks', 'task', 't'], async (program) => (await import('./commands/tasks.js')).registerTasks(program)],
  [
    ['containers', 'container', 'c'],
    async (program) => (await import('./commands/containers.js')).registerContainers(program),
  ],
  [['pull', 'push'], async (program) => (await import('./commands/image-registry.js')).registerRegistry(program)],
  [['images', 'image', 'i'], async (program) => (await import('./commands/images.js')).registerImages(program)],
  [['snapshots', 'snapshot'], async (program) => (await import('./commands/snapshots.js')).registerSnapshots(program)],
  [['content'], async (program) => (await import('./commands/content.js')).registerContent(program)],
  [['leases', 'lease'], async (program) => (await import('./commands/leases.js')).registerLeases(program)],
  [
    ['namespaces', 'namespace', 'ns'],
    async (program) => (await import('./commands/namespaces.js')).registerNamespaces(program),
  ],
  [['gc'], async (program) => (await import('./commands/gc.js')).registerGc(program)],
  [['registry'], async (program) => (await import('./commands/registry.js')).registerRegistryTest(program)],
  [['events', 'event'], async (program) => (await import('./commands/events.js')).registerEvents(program)],
  [['plugins', 'plugin'], async (program) => (await import('./commands/plugins.js')).registerPlugins(program)],
  [['version', 'info'], async (program) => (await import('./commands/info.js')).registerInfo(program)],
  [
    ['completion', '__complete'],
    async (program) => (await import('./commands/completion.js')).registerCompletion(program),
  ],
];

/** The one group that a command line names, or all: for help, completion, and names that do not exist. */
function wantedGroups(args: readonly string[]): readonly Group[] {
  if (args[0] === '--version' || args[0] === '-V') return [];
  const needsAll = args.includes('__complete') || args[0] === 'help';
  const named = GROUPS.filter(([names]) => args.some((word) => names.includes(word)));
  return needsAll || named.length === 0 ? GROUPS : named;
}

/** The commands that a command line may need, none of them run yet. */
async function buildProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('gantry')
    .description('Manage containers, images and everything else of a gantryd (or any containerd).')
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'gantry: ')) })
    .addHelpText('after', EPILOGUE)
    .helpCommand('help [command]', 'explain a command')
    .version(VERSION, '-V, --version', 'print the version of this client');
  for (const option of globalOptions()) program.addOption(option);
  for (const [, register] of wantedGroups(args)) await register(program);
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
