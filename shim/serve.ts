// The shim server: one process that keeps containers, outlives the daemon and ends with its last container.

import { closeSync, constants, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { isErrno, messageOf, permissionDenied } from '../proto/errors';
import { TaskService as TaskServiceV2 } from '../proto/generated/containerd.task.v2';
import { TaskService as TaskServiceV3 } from '../proto/generated/containerd.task.v3';
import { serveTtrpc, type TtrpcServer, ttrpcService } from '../proto/ttrpc/server';
import { removeDeadSocket, removeSocket } from '../proto/ttrpc/socket';
import type { ShimArgs } from './args';
import { IdleCollector } from './idle';
import { type Log, openLog } from './log';
import { Publisher } from './publisher';
import type { Runtime } from './runtime';
import { Tasks } from './task-service';

/** File descriptor of a listening socket that was handed over (shim v2 protocol). */
const LISTEN_FD = 3;
/** How long the last events may take to reach the daemon when the shim ends. */
const FLUSH_MS = 2000;
/** A shim without containers that no daemon talks to ends after this time: its daemon died between start and create. */
const IDLE_EXIT_MS = 120_000;

export interface ServeOptions {
  readonly namespace: string;
  readonly runtime: Runtime;
  readonly log: Log;
  readonly idle: Pick<IdleCollector, 'worked'>;
  /** The daemon's socket for events; empty: none are sent. */
  readonly eventAddress: string;
  /** Makes the server listen. */
  readonly listen: (server: TtrpcServer) => Promise<void>;
}

/**
 * Be the shim of the bundle in the working directory: resolves when the process may end. The listening socket is opened
 * at args.socket and its address goes to stdout, which is then closed; or it was handed over as fd 3.
 * @param isForked whether the zygote has made this process
 */
export async function serveShim(args: ShimArgs, runtime: Runtime, isForked = false): Promise<void> {
  const log = openLog(args.debug);
  surviveEverything(log);
  raiseOomScore(log);
  const isHandedOver = isForked || args.socket === '';
  const listen = async (server: TtrpcServer) => {
    if (isHandedOver) await server.listenFd(LISTEN_FD);
    else await listenAt(server, args.socket);
    writeFileSync('shim.pid', String(process.pid), { mode: 0o644 });
    if (!isHandedOver) announce(`unix://${args.socket}\n`);
    log.debug('shim is listening', { namespace: args.namespace, id: args.id, pid: process.pid });
  };
  const eventAddress = process.env['TTRPC_ADDRESS'] ?? '';
  await serve({ namespace: args.namespace, runtime, log, idle: new IdleCollector(isForked), eventAddress, listen });
  if (args.socket !== '') removeSocket(args.socket);
}

/** Serves the Task service until Shutdown. The server is left open: what ends is the process. */
export async function serve({
  namespace,
  runtime,
  log,
  idle,
  eventAddress,
  listen,
}: ServeOptions): Promise<TtrpcServer> {
  const publisher = new Publisher({ address: eventAddress, namespace, log });
  const shutdown = Promise.withResolvers<void>();
  const tasks = new Tasks({ namespace, runtime, publisher, log, idle, onShutdown: shutdown.resolve });
  const server = serveTasks(tasks, runtime, publisher, log);
  const timer = endWhenIdle(server, tasks, shutdown.resolve);
  await listen(server);
  await shutdown.promise;
  clearInterval(timer);
  await publisher.flush(FLUSH_MS);
  publisher.close();
  return server;
}

function serveTasks(tasks: Tasks, runtime: Runtime, publisher: Publisher, log: Log): TtrpcServer {
  const handlers = tasks.handlers();
  const services = {
    'containerd.task.v2.Task': ttrpcService(TaskServiceV2, handlers),
    'containerd.task.v3.Task': ttrpcService(TaskServiceV3, handlers),
  };
  return serveTtrpc(services, {
    authorize: (socket) => {
      authorizePeer(runtime, socket);
      publisher.retryNow();
    },
    onError: (error) => log.error('ttrpc server', { error: messageOf(error) }),
  });
}

/** Only the shim's own user may talk to it, whatever the mode of the socket. */
function authorizePeer(runtime: Runtime, socket: Socket): void {
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  const { uid, gid } = runtime.peer(fd);
  if (uid !== process.geteuid?.() || gid !== process.getegid?.()) {
    throw permissionDenied(`peer with uid ${uid} and gid ${gid}`);
  }
}

async function listenAt(server: TtrpcServer, socket: string): Promise<void> {
  try {
    await server.listen(socket);
  } catch (error) {
    if (!isErrno(error, 'EADDRINUSE')) throw error;
    await removeDeadSocket(socket);
    await server.listen(socket);
  }
}

/** Prints the address and closes stdout, so that the reader sees its end. The number stays taken by /dev/null. */
function announce(line: string): void {
  writeSync(1, line);
  closeSync(1);
  openSync('/dev/null', constants.O_RDWR);
}

function endWhenIdle(server: TtrpcServer, tasks: Tasks, end: () => void): NodeJS.Timeout {
  let idleChecks = 0;
  const timer = setInterval(() => {
    const isIdle = !tasks.hasContainers && server.connectionCount === 0;
    idleChecks = isIdle ? idleChecks + 1 : 0;
    if (idleChecks >= 2) end();
    if (tasks.hasContainers) clearInterval(timer); // From now on Shutdown ends the process.
  }, IDLE_EXIT_MS / 2);
  return timer.unref();
}

/** The containers depend on this process: no signal and no mistake ends it. SIGPIPE is ignored by Node already. */
function surviveEverything(log: Log): void {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => log.info('signal ignored', { signal }));
  }
  process.on('uncaughtException', (error) => log.error('uncaught exception', { error: error.stack ?? error.message }));
  process.on('unhandledRejection', (error) => log.error('unhandled rejection', { error: messageOf(error) }));
}

/** One above the daemon's: when memory runs out, the shim goes before the daemon (as containerd arranges it). */
function raiseOomScore(log: Log): void {
  const path = '/proc/self/oom_score_adj';
  try {
    const parent = Number(readFileSync(`/proc/${process.ppid}/oom_score_adj`, 'utf8'));
    const score = Math.min(parent + 1, 1000);
    if (score > Number(readFileSync(path, 'utf8'))) writeFileSync(path, String(score));
  } catch (error) {
    log.debug('oom score', { error: messageOf(error) });
  }
}
