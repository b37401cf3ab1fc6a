// Starts gantry's own shim as one process: no start action in between, the shim itself opens its socket and prints the
// address. The process is detached and outlives the daemon.

import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, closeSync, constants, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, unknown } from '../../proto/errors';
import { SHIM_ENVIRONMENT } from '../../proto/shim-flags';
import type { Bundle } from './bundle';
import { type LaunchedShim, type LaunchRequest, type ShimEnvironment, type ShimLauncher, shimEnv } from './launcher';

const START_TIMEOUT_MS = 60_000;
/** sun_path holds 107 characters and a NUL (unix(7)). */
const SOCKET_PATH_MAX = 106;
const ADDRESS_BYTES_MAX = 4096;

export interface OwnLauncherOptions extends ShimEnvironment {
  /** Program and leading arguments of the shim: Node, its flags and shim.js. */
  readonly command: readonly string[];
  /** Directory of the shims' sockets, made with mode 0700. */
  readonly socketDirectory: string;
}

export class OwnLauncher implements ShimLauncher {
  private readonly options: OwnLauncherOptions;

  constructor(options: OwnLauncherOptions) {
    this.options = options;
    mkdirSync(options.socketDirectory, { recursive: true, mode: 0o700 });
    chmodSync(options.socketDirectory, 0o700);
  }

  async start(request: LaunchRequest): Promise<LaunchedShim> {
    const { bundle } = request;
    const child = this.spawn(bundle);
    try {
      const address = await readAddress(
        child,
        AbortSignal.any([request.signal, AbortSignal.timeout(START_TIMEOUT_MS)]),
      );
      return { pid: child.pid ?? 0, bootstrap: { version: 3, address, protocol: 'ttrpc' } };
    } catch (error) {
      child.kill('SIGKILL');
      throw unknown(`shim: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Path of the socket of a task's shim: the same one for the same task, so that a leftover is replaced. */
  socketPath(bundle: Bundle): string {
    const { namespace, id } = bundle.key;
    const hash = createHash('sha256').update(`${this.options.grpcAddress}/${namespace}/${id}`).digest('hex');
    const path = join(this.options.socketDirectory, hash.slice(0, 32));
    if (path.length > SOCKET_PATH_MAX) throw unknown(`shim socket path ${path} is longer than ${SOCKET_PATH_MAX}`);
    return path;
  }

  private spawn(bundle: Bundle): ChildProcess {
    const { command, grpcAddress, debug } = this.options;
    const { namespace, id } = bundle.key;
    const [program = '', ...leading] = command;
    const args = ['-namespace', namespace, '-id', id, '-address', grpcAddress, '-socket', this.socketPath(bundle)];
    if (debug) args.push('-debug');
    // A description of its own: the daemon's is non-blocking, and the shim must not share that flag. The daemon holds
    // the fifo open, so opening it for writing does not block.
    const log = openSync(bundle.logFifo, constants.O_WRONLY);
    try {
      const child = spawn(program, [...leading, ...args], {
        cwd: bundle.path,
        env: { ...shimEnv(this.options, namespace, 3), ...SHIM_ENVIRONMENT },
        detached: true,
        stdio: ['ignore', 'pipe', log],
      });
      child.unref();
      return child;
    } finally {
      closeSync(log);
    }
  }
}

/** The first line of the shim's output. @throws Error when it exits or the signal aborts before. */
function readAddress(child: ChildProcess, signal: AbortSignal): Promise<string> {
  const { stdout } = child;
  if (stdout === null) return Promise.reject(new Error('no output'));
  return new Promise<string>((resolve, reject) => {
    let line = '';
    const fail = (reason: string) => settle(() => reject(new Error(reason)));
    const onAbort = () => fail('did not start in time');
    const settle = (outcome: () => void) => {
      signal.removeEventListener('abort', onAbort);
      child.removeAllListeners('exit');
      stdout.destroy();
      outcome();
    };
    signal.addEventListener('abort', onAbort);
    child.on('error', (error) => fail(messageOf(error)));
    child.on('exit', (code, killer) => fail(code === null ? `killed by ${killer}` : `exited with status ${code}`));
    stdout.setEncoding('utf8');
    stdout.on('data', (chunk: string) => {
      line += chunk;
      const end = line.indexOf('\n');
      if (end >= 0) settle(() => resolve(line.slice(0, end).trim()));
      else if (line.length > ADDRESS_BYTES_MAX) fail('printed no address');
    });
  });
}
