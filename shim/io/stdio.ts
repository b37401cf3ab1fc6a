// The standard streams of one process: opens what the request names, says which descriptors the process gets, and copies
// where something has to be copied.
//
// The process always gets anonymous pipes (or /dev/null, or a terminal), never the client's fifo or file itself. A file
// would be truncated by every `echo > /dev/stdout` inside and could be rewritten by the container; a fifo would have to
// be given to the container's user, would stay open as long as a background process of an exec holds it, so that the
// client never sees its end, cannot be checkpointed, and is a way to an inode of the host. A logging program reads the
// container's pipe itself, so there nothing is copied.

import { closeSync, constants, fchownSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf, unknown } from '../../proto/errors';
import type { ProcessFds, Runtime } from '../runtime';
import { type Logger, startLogger } from './logger';
import { Pump } from './pump';
import { FileSink, PipeSink, type Sink, TerminalSink } from './sink';

export interface StdioRequest {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly terminal: boolean;
}

export interface StdioContext {
  readonly runtime: Runtime;
  readonly id: string;
  readonly namespace: string;
  /** Owner of the pipes. */
  readonly uid: number;
  readonly gid: number;
}

const NULL_FD = -1;
/** As long as runc's shim waits: time for a last word of a background process. */
const QUIET_MS = 2000;
const { O_RDONLY, O_WRONLY, O_APPEND, O_CREAT, O_NONBLOCK } = constants;

/** Sinks of stdout and stderr; a logger takes the place of both. */
interface Targets {
  readonly logger?: Logger | undefined;
  readonly stdout?: Sink | undefined;
  readonly stderr?: Sink | undefined;
}

export class ProcessStdio {
  /** What to hand to the runtime. */
  readonly fds: ProcessFds | 'terminal';
  readonly #targets: Targets;
  readonly #runtime: Runtime;
  readonly #outputs: Pump[] = [];
  /** Reading ends of the process's output, in the order stdout, stderr; until `attach`. */
  #sources: { fd: number; sink: Sink }[] = [];
  /** The process's own ends; until `attach`. */
  #processFds: number[] = [];
  #stdin: { read: number; write: number; pipe: number | undefined } | undefined;
  #stdinPump: Pump | undefined;
  #terminalFd: number | undefined;
  /** From then on the pumps own the sinks. */
  #isAttached = false;

  /**
   * Opens everything the request names. Fifos are opened without waiting for their other side.
   * @throws UNKNOWN naming the path; nothing stays open then.
   */
  static async open(request: StdioRequest, context: StdioContext): Promise<ProcessStdio> {
    const targets = await openTargets(request, context);
    try {
      return new ProcessStdio(request, context, targets);
    } catch (error) {
      closeTargets(targets);
      throw error;
    }
  }

  private constructor(request: StdioRequest, context: StdioContext, targets: Targets) {
    this.#targets = targets;
    this.#runtime = context.runtime;
    this.#stdin = request.stdin === '' ? undefined : openStdin(withoutScheme(request.stdin));
    if (request.terminal) {
      this.fds = 'terminal';
      return;
    }
    const pipe = () => {
      const ends = context.runtime.pipe();
      if (context.uid !== 0 || context.gid !== 0) fchownSync(ends.read, context.uid, context.gid);
      return ends;
    };
    const output = (sink: Sink | undefined, loggerFd: number | undefined): number => {
      if (loggerFd !== undefined) return loggerFd;
      if (sink === undefined) return NULL_FD;
      const ends = pipe();
      this.#sources.push({ fd: ends.read, sink });
      this.#processFds.push(ends.write);
      return ends.write;
    };
    const { logger } = targets;
    const stdout = output(targets.stdout, logger?.stdout);
    const stderr = output(targets.stderr, logger?.stderr);
    let stdin = NULL_FD;
    if (this.#stdin !== undefined) {
      const ends = pipe();
      stdin = ends.read;
      this.#processFds.push(ends.read);
      this.#stdin.pipe = ends.write;
    }
    this.fds = { stdin, stdout, stderr };
  }

  get hasTerminal(): boolean {
    return this.fds === 'terminal';
  }

  /** Master side of the terminal, as long as it is open. */
  get terminalFd(): number | undefined {
    return this.#terminalFd;
  }

  /** To be called when the process exists: closes its ends here and starts copying. */
  attach(terminalFd: number | undefined): void {
    this.#isAttached = true;
    for (const fd of this.#processFds.splice(0)) closeSync(fd);
    if (terminalFd !== undefined) this.#attachTerminal(terminalFd);
    else this.#targets.logger?.release();
    for (const { fd, sink } of this.#sources.splice(0)) this.#outputs.push(new Pump({ fd, kind: 'pipe' }, sink));
    const { pipe, read } = this.#stdin ?? {};
    if (pipe === undefined || read === undefined) return;
    this.#runtime.setNonblocking(pipe);
    this.#stdin!.pipe = undefined;
    void this.#startStdin(read, new PipeSink(pipe)); // Cannot fail.
  }

  /** Gives up our own writing side of stdin (Task.CloseIO): the process sees its end when clients have closed theirs. */
  closeStdin(): void {
    if (this.#stdin === undefined || this.#stdin.write === NULL_FD) return;
    closeSync(this.#stdin.write);
    this.#stdin.write = NULL_FD;
  }

  /**
   * Resolves when all output has arrived. Does not wait longer than the limit, nor longer than QUIET_MS for a background
   * process that keeps a stream open and writes nothing.
   */
  async drain(limitMs: number): Promise<void> {
    const done = Promise.all(this.#outputs.map((pump) => pump.done)).then(() => true as const);
    const started = performance.now();
    for (;;) {
      const waitedMs = performance.now() - started;
      const quietMs = this.#outputs.map((pump) => pump.quietMs ?? Number.POSITIVE_INFINITY);
      const restMs = Math.min(limitMs - waitedMs, QUIET_MS - Math.min(waitedMs, ...quietMs));
      if (restMs <= 0 || (await isDoneWithin(done, restMs))) return;
    }
  }

  /** Closes everything. Idempotent. Resolves when a logger has ended. */
  async close(): Promise<void> {
    this.closeStdin();
    for (const fd of this.#processFds.splice(0)) closeSync(fd);
    for (const { fd } of this.#sources.splice(0)) closeSync(fd);
    if (this.#stdin !== undefined && this.#stdinPump === undefined) {
      closeSync(this.#stdin.read);
      if (this.#stdin.pipe !== undefined) closeSync(this.#stdin.pipe);
    }
    this.#stdin = undefined;
    this.#stdinPump?.close();
    for (const pump of this.#outputs) pump.close();
    if (!this.#isAttached) closeTargets(this.#targets);
    await this.#targets.logger?.stop();
  }

  #attachTerminal(fd: number): void {
    this.#runtime.setNonblocking(fd);
    this.#terminalFd = fd;
    const output = new Pump({ fd, kind: 'terminal' }, this.#terminalOutput());
    this.#outputs.push(output);
    // The pump closes the master at its end; nobody may write to the number after that.
    void output.done.then(() => {
      this.#terminalFd = undefined;
      this.#stdinPump?.close();
    });
    if (this.#stdin === undefined) return;
    // The end of input hangs the terminal up, as runc's shim does: a shell must not wait for ever.
    void this.#startStdin(this.#stdin.read, new TerminalSink(fd)).then(() => output.close());
  }

  #terminalOutput(): Sink {
    const { logger, stdout } = this.#targets;
    if (logger === undefined) return stdout ?? new DiscardSink();
    const fd = logger.takeStdout();
    logger.release();
    this.#runtime.setNonblocking(fd);
    return new PipeSink(fd);
  }

  async #startStdin(fd: number, sink: Sink): Promise<void> {
    this.#stdinPump = new Pump({ fd, kind: 'pipe' }, sink);
    await this.#stdinPump.done;
    this.closeStdin();
  }
}

async function isDoneWithin(done: Promise<true>, limitMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), limitMs);
  });
  try {
    return await Promise.race([done, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/** Output of a terminal that nobody wants. */
class DiscardSink implements Sink {
  write(): undefined {
    return undefined;
  }

  close(): void {}
}

async function openTargets(request: StdioRequest, context: StdioContext): Promise<Targets> {
  const { stdout } = request;
  const stderr = request.terminal ? '' : request.stderr;
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(stdout)?.[1] ?? 'fifo';
  switch (scheme) {
    case 'fifo':
      return openPaths(withoutScheme(stdout), withoutScheme(stderr));
    case 'file':
      return openFile(new URL(stdout).pathname, request.terminal ? 1 : 2);
    case 'binary':
    case 'binary-v2':
      return { logger: await startLogger(new URL(stdout), context, context.runtime) };
    default:
      throw unknown(`unknown STDIO scheme ${scheme}`);
  }
}

function withoutScheme(path: string): string {
  return path.replace(/^fifo:\/\//, '');
}

function openPaths(stdout: string, stderr: string): Targets {
  const out = stdout === '' ? undefined : openPath(stdout, stderr === stdout ? 2 : 1);
  if (stderr === '') return { stdout: out };
  if (stderr === stdout && out instanceof FileSink) return { stdout: out, stderr: out };
  try {
    return { stdout: out, stderr: openPath(stderr, 1) };
  } catch (error) {
    out?.close();
    throw error;
  }
}

/** A fifo is also opened for reading: the process must not get SIGPIPE because a client comes and goes. */
function openPath(path: string, users: number): Sink {
  return named(path, () => {
    if (!statSync(path).isFIFO()) return new FileSink(openSync(path, O_WRONLY | O_APPEND), users);
    const read = openSync(path, O_RDONLY | O_NONBLOCK);
    try {
      return new PipeSink(openSync(path, O_WRONLY | O_NONBLOCK), [read]);
    } catch (error) {
      closeSync(read);
      throw error;
    }
  });
}

function openFile(path: string, users: number): Targets {
  const sink = named(path, () => {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    return new FileSink(openSync(path, O_WRONLY | O_APPEND | O_CREAT, 0o644), users);
  });
  return users === 2 ? { stdout: sink, stderr: sink } : { stdout: sink };
}

/** Our own writing side keeps the end away from the process until CloseIO, however often clients come and go. */
function openStdin(path: string): { read: number; write: number; pipe: number | undefined } {
  return named(path, () => {
    if (!statSync(path).isFIFO()) throw new Error('not a fifo');
    const read = openSync(path, O_RDONLY | O_NONBLOCK);
    try {
      return { read, write: openSync(path, O_WRONLY | O_NONBLOCK), pipe: undefined };
    } catch (error) {
      closeSync(read);
      throw error;
    }
  });
}

function named<T>(path: string, open: () => T): T {
  try {
    return open();
  } catch (cause) {
    throw unknown(`containerd-shim: opening ${path} failed: ${messageOf(cause)}`, { cause });
  }
}

function closeTargets(targets: Targets): void {
  targets.stdout?.close();
  targets.stderr?.close();
  targets.logger?.release();
}
