// The program around the commands: its own flags, help, and how failures become messages and exit codes.

import { unknown } from '../../proto/errors';
import { COMMANDS } from './commands';
import type { Command, Context } from './context';
import { print, stateDirectory, wordsOf } from './context';
import { type Flags, type FlagTable, parseFlags } from './flags';
import { Log } from './log';
import { versionText } from './version';

const NAME = 'gantry-runtime';
const FAILED = 1;
/** So that callers can tell a failed exec from a program that failed. */
const EXEC_FAILED = 255;
const NO_SUCH_COMMAND = 3;
const DEFAULT_LOG = '/dev/stderr';

const FLAGS: FlagTable = {
  debug: { type: 'boolean', help: 'log what is done' },
  log: { type: 'string', help: 'log file, besides stderr' },
  'log-format': { type: 'string', help: 'format of the log: text or json' },
  root: { type: 'string', help: 'directory for the state of containers, on a tmpfs' },
  criu: { type: 'string', help: 'the criu that checkpoints and restores' },
  'systemd-cgroup': { type: 'boolean', help: 'let systemd make cgroups; cgroupsPath is "slice:prefix:name"' },
  rootless: {
    type: 'string',
    help: 'do without cgroups that there are no rights on: true, false or auto (for an ordinary user)',
  },
  help: { type: 'boolean', short: 'h', help: 'show help' },
  version: { type: 'boolean', short: 'v', help: 'print the version' },
};

/** Resolves with the exit code, which is that of the container's process for run and exec. */
export async function runProgram(args: readonly string[]): Promise<number> {
  let log = new Log({ path: undefined, format: 'text', debug: false });
  let code = FAILED;
  try {
    const { flags, words } = parseFlags(args, FLAGS, true);
    if (flags.isSet('version')) {
      print(versionText());
      return 0;
    }
    log = openLog(flags);
    const [name = 'help', ...rest] = words;
    if (name === 'help' || name === 'h' || flags.isSet('help')) return await help(rest[0]);
    const load = COMMANDS[name];
    if (load === undefined) {
      log.fail(`No help topic for '${name}'`);
      return NO_SUCH_COMMAND;
    }
    if (name === 'exec') code = EXEC_FAILED;
    log.write('debug', `${NAME} ${args.join(' ')}`);
    return await runCommand(name, await load(), flags, rest);
  } catch (error) {
    log.fail(wordsOf(error));
    return code;
  }
}

async function runCommand(name: string, command: Command, global: Flags, args: readonly string[]): Promise<number> {
  const help = { help: FLAGS['help'] ?? { type: 'boolean', help: '' } } as const;
  const { flags, words } = usage(name, command, () =>
    parseFlags(args, { ...command.flags, ...help }, command.passesWords ?? false),
  );
  if (flags.isSet('help')) {
    print(helpOf(name, command));
    return 0;
  }
  usage(name, command, () => checkWords(name, words.length, command.words));
  const directory = stateDirectory();
  const context: Context = {
    root: global.text('root') ?? `${directory}/runtime`,
    cacheDir: `${directory}/seccomp`,
    criu: global.text('criu') ?? 'criu',
    systemdCgroup: global.isSet('systemd-cgroup'),
    rootless: global.automatic('rootless'),
    flags,
    words,
  };
  return command.run(context);
}

function openLog(flags: Flags): Log {
  const format = flags.text('log-format') ?? 'text';
  if (format !== 'text' && format !== 'json') throw unknown(`unknown log-format "${format}"`);
  const path = flags.text('log');
  return new Log({
    path: path === undefined || path === '' || path === DEFAULT_LOG ? undefined : path,
    format,
    debug: flags.isSet('debug'),
  });
}

function checkWords(name: string, count: number, [min, max]: readonly [number, number]): void {
  if (count >= min && count <= max) return;
  if (min === max) throw unknown(`${NAME}: "${name}" requires exactly ${min} argument(s)`);
  if (count < min) throw unknown(`${NAME}: "${name}" requires a minimum of ${min} argument(s)`);
  throw unknown(`${NAME}: "${name}" requires a maximum of ${max} argument(s)`);
}

/** Shows how the command is used when it is used wrongly. */
function usage<T>(name: string, command: Command, body: () => T): T {
  try {
    return body();
  } catch (error) {
    print(`Incorrect Usage.\n\n${helpOf(name, command)}`);
    throw error;
  }
}

async function help(name: string | undefined): Promise<number> {
  const command = await COMMANDS[name ?? '']?.();
  print(name !== undefined && command !== undefined ? helpOf(name, command) : await programHelp());
  return 0;
}

async function programHelp(): Promise<string> {
  const commands = await Promise.all(
    Object.entries(COMMANDS).map(async ([name, load]) => `   ${name.padEnd(12)}${(await load()).help}\n`),
  );
  return (
    `NAME:\n   ${NAME} - runs containers of the Open Container Initiative\n\n` +
    `USAGE:\n   ${NAME} [global options] command [command options] [arguments...]\n\n` +
    `COMMANDS:\n${commands.join('')}\nGLOBAL OPTIONS:\n${flagsHelp(FLAGS)}`
  );
}

function helpOf(name: string, command: Command): string {
  const options = Object.keys(command.flags).length > 0 ? `\nOPTIONS:\n${flagsHelp(command.flags)}` : '';
  const words = command.usage === '' ? '' : ` ${command.usage}`;
  return `NAME:\n   ${NAME} ${name} - ${command.help}\n\nUSAGE:\n   ${NAME} ${name} [command options]${words}\n${options}`;
}

function flagsHelp(table: FlagTable): string {
  return Object.entries(table)
    .map(([name, { type, short, help: text }]) => {
      const value = type === 'boolean' ? '' : ' value';
      const names = `--${name}${value}${short === undefined ? '' : `, -${short}${value}`}`;
      return `   ${names.padEnd(36)}${text}\n`;
    })
    .join('');
}
