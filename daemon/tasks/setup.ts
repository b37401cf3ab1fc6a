// Puts the parts of the task manager together for the daemon, and the ttrpc service through which shims send events.

import { basename, join, resolve } from 'node:path';
import { invalidArgument } from '../../proto/errors';
import { EventsService } from '../../proto/generated/containerd.services.events.ttrpc.v1';
import { sha256 } from '../../proto/ids';
import { SHIM_FLAGS } from '../../proto/shim-flags';
import { serveTtrpc, type TtrpcServer, ttrpcService } from '../../proto/ttrpc/server';
import type { Config } from '../config';
import type { EventBus } from '../events/bus';
import type { Logger } from '../log';
import type { Database } from '../metadata/database';
import { ForeignLauncher } from './foreign-launcher';
import { ForkingLauncher } from './forking-launcher';
import type { ShimEnvironment, ShimLauncher } from './launcher';
import { OwnLauncher } from './own-launcher';
import { RuntimeResolver } from './runtimes';
import { TaskManager } from './task-manager';
import { Zygote } from './zygote';

const EVENTS_SERVICE = 'containerd.services.events.ttrpc.v1.Events';
/** 106, less a slash and a name of 32 digits. */
const SOCKET_DIRECTORY_LENGTH_MAX = 73;
/** Every shim keeps one connection for its events. */
const SHIMS_MAX = 65_536;

export interface TaskSetup {
  readonly config: Pick<Config, 'root' | 'state' | 'address' | 'log' | 'shim' | 'runtimes'>;
  readonly db: Database;
  readonly events: EventBus;
  readonly logger: Logger;
}

/** The task manager, and what closes it and its launchers. Containers and their shims keep running. */
export function createTaskManager(setup: TaskSetup): { tasks: TaskManager; close: () => Promise<void> } {
  const { db, events, logger } = setup;
  const { root, state, address, runtimes, log } = setup.config;
  const environment = {
    grpcAddress: address,
    ttrpcAddress: ttrpcAddressOf(address),
    daemonBinary: join(distDirectory(), 'bin', 'gantryd'),
    debug: log.level === 'debug',
    runtime: setup.config.shim.runtime,
  };
  const foreign = new ForeignLauncher(environment);
  const { own, zygote } = createOwnLauncher(setup, environment);
  const resolver = createResolver(runtimes);
  const launchers = { own, foreign };
  const directories = { root, state };
  const tasks = new TaskManager({ db, events, logger, directories, resolver, launchers, deleter: foreign });
  const close = async () => {
    tasks.close();
    await zygote?.close();
  };
  return { tasks, close };
}

function createOwnLauncher(
  { config, logger }: TaskSetup,
  environment: ShimEnvironment,
): { own: ShimLauncher; zygote: Zygote | undefined } {
  const { root, state, shim } = config;
  const node = process.execPath;
  const shimFile = join(distDirectory(), 'shim.js');
  const socketDirectory = shimSocketDirectory(state);
  const spawning = new OwnLauncher({ ...environment, command: [node, ...SHIM_FLAGS, shimFile], socketDirectory });
  if (shim.start === 'spawn') return { own: spawning, zygote: undefined };
  const socketPrefix = join(socketDirectory, 'zygote');
  // Below root, where programs can be executed: a state directory is often on a file system without.
  const zygote = new Zygote({ ...environment, node, shimFile, directory: join(root, 'zygote'), socketPrefix, logger });
  return { own: new ForkingLauncher({ zygote, fallback: spawning, logger }), zygote };
}

/** Finds shim programs, with the configuration's map of runtime names. */
export function createResolver(runtimes: Readonly<Record<string, string>>): RuntimeResolver {
  const binDirectory = join(distDirectory(), 'bin');
  return new RuntimeResolver({ ownShim: join(binDirectory, 'gantry-shim'), binDirectory, runtimes });
}

/** The server for shims; it listens at `ttrpcAddressOf(address)`. */
export function createShimEventServer(tasks: TaskManager, logger: Logger): TtrpcServer {
  const service = ttrpcService(EventsService, {
    forward: async ({ envelope }) => {
      if (envelope === undefined) throw invalidArgument('envelope is missing');
      await tasks.forward(envelope);
      return {};
    },
  });
  const onError = (error: unknown) => logger.warn('shim event server', { error: String(error) });
  return serveTtrpc({ [EVENTS_SERVICE]: service }, { onError, connectionsMax: SHIMS_MAX });
}

export const ttrpcAddressOf = (address: string) => `${address}.ttrpc`;

/** Below the state directory; in a short place when that would make paths longer than a socket may have (unix(7)). */
export function shimSocketDirectory(state: string): string {
  const directory = join(state, 's');
  if (directory.length <= SOCKET_DIRECTORY_LENGTH_MAX) return directory;
  return join('/run/gantry-shims', sha256(state).slice('sha256:'.length, 'sha256:'.length + 16));
}

/** Sources run from the root of the project (tests), compiled code from dist. */
function distDirectory(): string {
  const parent = resolve(__dirname, '..', '..');
  return basename(parent) === 'dist' ? parent : join(parent, 'dist');
}
