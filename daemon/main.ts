// gantryd: flags, configuration, start and stop. Exit codes are in start-error.ts.

import { AssertionError } from 'node:assert';
import { Command, CommanderError } from 'commander';
import { messageOf } from '../proto/errors';
import { DEFAULT_CONFIG, DEFAULT_CONFIG_PATH, loadConfig, type Overrides, printConfig } from './config';
import type { Daemon } from './daemon';
import type { Logger } from './log';
import { notifySystemd } from './notify';
import { EXIT_CODES, StartError } from './start-error';
import { readVersion } from './version';

interface Flags extends Overrides {
  readonly config?: string;
}

interface PublishFlags {
  readonly topic: string;
  readonly namespace: string;
}

const EXIT_HELP = `
Exit codes: 0 stopped on request, 1 failure, 2 bad flag or configuration, 3 root or state directory unusable,
4 another gantryd runs on one of them, 5 address taken, 6 metadata database damaged or too new.
SIGTERM and SIGINT stop the daemon and leave containers running.`;

async function main(): Promise<void> {
  const program = new Command('gantryd')
    .description('Container supervisor daemon that speaks the containerd API.')
    .version(readVersion().version, '--version', 'print the version and exit')
    .helpOption('--help', 'print this help and exit')
    .option('--config <file>', `configuration file (default: ${DEFAULT_CONFIG_PATH}, if it exists)`)
    .option('--root <directory>', 'what must survive a reboot: metadata, content, snapshots')
    .option('--state <directory>', 'what may go with a reboot: bundles of running containers')
    .option('--address <socket>', 'socket of the gRPC API')
    .option('--log-level <level>', 'error, warn, info or debug')
    .addHelpText('after', EXIT_HELP)
    .allowExcessArguments(false)
    .exitOverride()
    .action((flags: Flags) => serve(flags));
  const config = program.command('config').description('print configuration and exit').exitOverride();
  config
    .command('default')
    .description('print the default configuration with its documentation')
    .action(() => print(DEFAULT_CONFIG));
  config
    .command('dump')
    .description('print the configuration in effect: defaults, file, flags')
    .action(() => print(printConfig(load(program.opts<Flags>()))));
  program
    .command('publish')
    .description('publish an event, an encoded Any on stdin; for shims that cannot do it themselves')
    .requiredOption('--topic <topic>', 'topic of the event')
    .requiredOption('--namespace <namespace>', 'namespace of the event')
    .exitOverride()
    .action(({ topic, namespace }: PublishFlags) => {
      const { publishFromStdin } = require('./publish') as typeof import('./publish');
      return publishFromStdin({ address: load(program.opts<Flags>()).address, topic, namespace });
    });
  await program.parseAsync();
}

function print(text: string): void {
  process.stdout.write(text);
}

function load(flags: Flags) {
  try {
    return loadConfig(flags.config, flags);
  } catch (error) {
    throw new StartError('usage', withoutKind(messageOf(error)), { cause: error });
  }
}

async function serve(flags: Flags): Promise<void> {
  const config = load(flags);
  process.umask(0o022);
  // Loaded here, so that printing help or a configuration does not load a server.
  const [{ createLog }, { startDaemon }] = await Promise.all([import('./log.js'), import('./daemon.js')]);
  const log = createLog(config.log.level, config.log.format);
  keepRunning(log);
  const fatal = (error: unknown) => {
    log.error('stopping: the metadata database cannot be synced', { error: messageOf(error) });
    process.exit(EXIT_CODES.failure);
  };
  const daemon = await startDaemon(config, log, fatal);
  // Meant for this process by its launcher, not for shims. libuv has read its own by now.
  for (const name of ['MALLOC_ARENA_MAX', 'MALLOC_MMAP_THRESHOLD_', 'NODE_COMPILE_CACHE', 'UV_THREADPOOL_SIZE'])
    delete process.env[name];
  stopOnSignal(daemon, log);
  process.stderr.write(`gantryd is ready at ${daemon.address}\n`);
  await notifySystemd('ready', log);
}

/** The first signal stops in order, the second at once. */
function stopOnSignal(daemon: Daemon, log: Logger): void {
  let isStopping = false;
  const stop = (signal: NodeJS.Signals) => {
    if (isStopping) process.exit(EXIT_CODES.failure);
    isStopping = true;
    log.info('stopping', { signal });
    Promise.all([notifySystemd('stopping', log), daemon.close()]).then(
      () => process.exit(0),
      (error: unknown) => {
        log.error('stop failed', { error: messageOf(error) });
        process.exit(EXIT_CODES.failure);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  process.on('SIGHUP', () => {});
}

/** One call's bug must not take all others down. A broken invariant may: what follows it would be wrong. */
function keepRunning(log: Logger): void {
  // A log that nobody reads any more (EPIPE) is no reason to stop, and reporting it would fail again.
  process.stderr.on('error', () => {});
  const report = (error: unknown) => {
    log.error('unexpected error', { error: messageOf(error), stack: (error as Error | undefined)?.stack });
    if (error instanceof AssertionError) process.exit(EXIT_CODES.failure);
  };
  process.on('uncaughtException', report);
  process.on('unhandledRejection', report);
  process.on('warning', (warning) => log.warn('warning', { error: warning.message }));
}

/** The words that end API errors say nothing to the admin. */
function withoutKind(message: string): string {
  return message.replace(/: invalid argument$/, '');
}

main().catch((error: unknown) => {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : EXIT_CODES.usage;
    return;
  }
  process.stderr.write(`gantryd: ${messageOf(error)}\n`);
  // Parts that were open already may keep the loop alive.
  process.exit(error instanceof StartError ? error.exitCode : EXIT_CODES.failure);
});
