// One process of a container with this client in front of it: run, exec, attach and tasks start have this in common.

import { errorKind, isNotFound } from '../../proto/errors';
import type { WaitResponse } from '../../proto/generated/containerd.services.tasks.v1';
import { CommandError, EXIT, sentenceOf, startFailureCode } from '../failure';
import { warn } from '../output';
import type { Session } from '../session';
import type { SignalForwarder } from './signals';
import type { Stdio } from './stdio';
import { Streams } from './streams';
import { enterRawMode, onResize, type Size, terminalSize } from './terminal';

/** How long a daemon may be away while a process runs, and how often it is asked for. */
const DAEMON_AWAY_MS = 30_000;
const RETRY_MS = 250;

/** The init process of a container, or with an exec id another one. */
interface ProcessName {
  readonly containerId: string;
  readonly execId: string;
}

export interface Supervision {
  readonly process: ProcessName;
  readonly stdio: Stdio;
  /** Pass local standard input on. */
  readonly stdin: boolean;
  readonly signals: SignalForwarder;
  /** Makes the process; undefined when it runs already (attach). */
  readonly create?: () => Promise<void>;
  /** Told when it runs. */
  readonly onStarted?: () => void;
  /** Deletes it after it exited or failed to start; undefined to leave it (attach). */
  readonly remove?: () => Promise<void>;
}

export type Outcome = { readonly kind: 'exited'; readonly status: number } | { readonly kind: 'detached' };

/** Creates, starts and accompanies a process until it ends or the detach keys are typed. */
export async function supervise(session: Session, options: Supervision): Promise<Outcome> {
  const { process: name, signals, stdio } = options;
  const detached = Promise.withResolvers<Outcome>();
  const streams = new Streams(stdio, {
    onInputEnd: () => closeInput(session, name),
    onDetach: () => detached.resolve({ kind: 'detached' }),
    onOutputLost: () => signals.stop(15),
  });
  const raw = stdio.terminal && options.stdin ? enterRawMode() : undefined;
  let stopResizing: (() => void) | undefined;
  try {
    const { exit } = await launch(session, options);
    options.onStarted?.();
    signals.attach((signal) => kill(session, name, signal));
    if (stdio.terminal) stopResizing = followSize(session, name, options.create === undefined);
    if (options.stdin) streams.forwardInput();
    const outcome = await Promise.race([
      exit.then(({ exitStatus }): Outcome => ({ kind: 'exited', status: exitStatus })),
      detached.promise,
    ]);
    if (outcome.kind === 'exited') {
      await throughRestarts(async () => options.remove?.());
      await streams.drained();
    } else {
      exit.catch(() => undefined);
      // The cursor is where the program left it.
      process.stderr.write('\r\n');
    }
    return outcome;
  } finally {
    stopResizing?.();
    raw?.restore();
    streams.close();
  }
}

/**
 * Creates and starts. Wait is on its way before Start, so that even the shortest process is not missed.
 * @throws CommandError with 125, 126 or 127 when the process could not be started; it is removed then.
 */
async function launch(session: Session, options: Supervision): Promise<{ exit: Promise<WaitResponse> }> {
  const { process: name, create } = options;
  const { tasks } = session.connection;
  if (create === undefined) return { exit: waitForExit(session, name) };
  try {
    await create();
  } catch (error) {
    throw startFailure(error);
  }
  const exit = waitForExit(session, name);
  exit.catch(() => undefined);
  try {
    interruptible(options.signals);
    await tasks.start(name);
  } catch (error) {
    await options.remove?.().catch((failure: unknown) => warn(sentenceOf(failure)));
    throw startFailure(error);
  }
  return { exit };
}

/** The exit of a process, also when the daemon restarts meanwhile: its shim and its pipes live on. */
function waitForExit(session: Session, name: ProcessName): Promise<WaitResponse> {
  return throughRestarts(() => session.connection.tasks.wait(name, { patient: true }));
}

/** Repeats a call while nobody answers at the socket, for a limited time. */
async function throughRestarts<T>(call: () => Promise<T>): Promise<T> {
  for (let waitedMs = 0; ; waitedMs += RETRY_MS) {
    const started = Date.now();
    try {
      return await call();
    } catch (error) {
      if (errorKind(error) !== 'unavailable' || waitedMs > DAEMON_AWAY_MS) throw error;
      // A call that had lasted was answered in between.
      if (Date.now() - started > DAEMON_AWAY_MS) waitedMs = 0;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** @throws CommandError when a stop signal came before there was a process to send it to. */
export function interruptible(signals: SignalForwarder): void {
  if (signals.interruption !== undefined) throw new CommandError('interrupted', 128 + signals.interruption);
}

function startFailure(error: unknown): unknown {
  if ((error as CommandError).name === 'CommandError') return error;
  return new CommandError(sentenceOf(error), startFailureCode(error), { cause: error });
}

function kill(session: Session, name: ProcessName, signal: number): void {
  session.connection.tasks.kill({ ...name, signal }).catch((error: unknown) => {
    // Gone already: its exit is on the way.
    if (!isNotFound(error)) warn(`cannot send signal ${signal}: ${sentenceOf(error)}`);
  });
}

function closeInput(session: Session, name: ProcessName): void {
  session.connection.tasks.closeIO({ ...name, stdin: true }).catch(() => {
    // The process may be gone; there is no input to close then.
  });
}

/** @param redraw Change the size once more than needed, so that a program which runs already draws itself anew. */
function followSize(session: Session, name: ProcessName, redraw: boolean): () => void {
  const resize = async ({ width, height }: Size): Promise<void> => {
    try {
      await session.connection.tasks.resizePty({ ...name, width, height });
    } catch {
      // A process that ends has no terminal any more; the next size would meet the same.
    }
  };
  const size = terminalSize();
  if (size !== undefined) {
    const first = redraw ? resize({ ...size, height: size.height + 1 }) : Promise.resolve();
    void first.then(() => resize(size));
  }
  return onResize((next) => void resize(next));
}

/** The exit status of this client for an outcome. */
export function exitStatusOf(outcome: Outcome): number {
  return outcome.kind === 'detached' ? 0 : outcome.status > 255 ? EXIT.runFailed : outcome.status;
}
