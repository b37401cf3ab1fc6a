// Starts shims by their `start` action and cleans up by their `delete` action (shim v2 protocol), as containerd does.
// Works with every shim program, gantry's own included.

import { spawn } from 'node:child_process';
import { messageOf, notImplemented, unknown } from '../../proto/errors';
import { BootstrapParams, BootstrapResult, LogLevel } from '../../proto/generated/containerd.runtime.bootstrap.v1';
import { DeleteResponse } from '../../proto/generated/containerd.task.v3';
import { Any } from '../../proto/generated/google.protobuf';
import { fromTimestamp } from '../../proto/time';
import type { Bootstrap, Bundle } from './bundle';
import {
  type LaunchedShim,
  type LaunchRequest,
  type ShimDeleter,
  type ShimEnvironment,
  type ShimLauncher,
  shimEnv,
} from './launcher';
import type { Exit } from './task-store';

const START_TIMEOUT_MS = 60_000;
const DELETE_TIMEOUT_MS = 10_000;
/** Output of a program that is kept for messages and replies. */
const OUTPUT_BYTES_MAX = 1 << 20;
/** A server that start left behind may hold the pipes open; they are not waited for longer than this after its exit. */
const OUTPUT_GRACE_MS = 200;

export class ForeignLauncher implements ShimLauncher, ShimDeleter {
  private readonly environment: ShimEnvironment;
  /** Programs that refused an Any on stdin and want BootstrapParams (containerd 2.3 and later). */
  private readonly bootstrapPrograms = new Set<string>();

  constructor(environment: ShimEnvironment) {
    this.environment = environment;
  }

  async start(request: LaunchRequest): Promise<LaunchedShim> {
    const { path } = request.runtime;
    const withAny = request.options === undefined ? Buffer.alloc(0) : Any.encode(request.options);
    let result = await this.runStart(request, this.bootstrapPrograms.has(path) ? this.params(request) : withAny);
    if (result.failure !== undefined && !this.bootstrapPrograms.has(path) && /bootstrap|instance/i.test(text(result))) {
      result = await this.runStart(request, this.params(request));
      if (result.failure === undefined) this.bootstrapPrograms.add(path);
    }
    if (result.failure !== undefined) throw unknown(`${path}: ${text(result).trim() || result.failure}`);
    return { pid: 0, bootstrap: parseBootstrap(result.stdout) };
  }

  /** The shim decides. */
  socketPath(): undefined {}

  async delete(bundle: Bundle, shimPath: string): Promise<Exit> {
    const result = await run({
      path: shimPath,
      args: [...this.flags(bundle), '-bundle', bundle.path, 'delete'],
      cwd: bundle.path,
      env: { ...shimEnv(this.environment, bundle.key.namespace, 2), GOMAXPROCS: '2' },
      stdin: Buffer.alloc(0),
      signal: AbortSignal.timeout(DELETE_TIMEOUT_MS),
    });
    if (result.failure !== undefined) throw unknown(`${shimPath}: ${text(result).trim() || result.failure}`);
    const reply = DeleteResponse.decode(result.stdout);
    return { pid: reply.pid, exitStatus: reply.exitStatus, exitedAt: fromTimestamp(reply.exitedAt) };
  }

  private runStart(request: LaunchRequest, stdin: Buffer): Promise<ProgramResult> {
    const { bundle } = request;
    return run({
      path: request.runtime.path,
      args: [...this.flags(bundle), 'start'],
      cwd: bundle.path,
      env: { ...shimEnv(this.environment, bundle.key.namespace, 2), GOMAXPROCS: '2' },
      stdin,
      signal: AbortSignal.any([request.signal, AbortSignal.timeout(START_TIMEOUT_MS)]),
    });
  }

  private flags(bundle: Bundle): string[] {
    const { grpcAddress, daemonBinary, debug } = this.environment;
    const { namespace, id } = bundle.key;
    const flags = ['-namespace', namespace, '-address', grpcAddress, '-publish-binary', daemonBinary, '-id', id];
    return debug ? [...flags, '-debug'] : flags;
  }

  private params(request: LaunchRequest): Buffer {
    const { grpcAddress, ttrpcAddress, daemonBinary, debug } = this.environment;
    return BootstrapParams.encode({
      instanceId: request.bundle.key.id,
      namespace: request.bundle.key.namespace,
      logLevel: debug ? LogLevel.LOG_LEVEL_DEBUG : LogLevel.LOG_LEVEL_INFO,
      containerdTtrpcAddress: ttrpcAddress,
      containerdGrpcAddress: grpcAddress,
      containerdBinary: daemonBinary,
      extensions: request.options === undefined ? [] : [{ value: request.options }],
    });
  }
}

/**
 * What `start` printed: BootstrapResult (2.3 and later), JSON (1.7 to 2.2) or the plain address (1.x).
 * @throws UNIMPLEMENTED for a protocol or version that gantry does not speak.
 */
export function parseBootstrap(stdout: Buffer): Bootstrap {
  const bootstrap = readBootstrap(stdout);
  if (bootstrap.address === '') throw unknown('shim printed no address');
  if (bootstrap.protocol !== 'ttrpc') throw notImplemented(`shim protocol "${bootstrap.protocol}"`);
  if (bootstrap.version < 2 || bootstrap.version > 3) throw notImplemented(`shim version ${bootstrap.version}`);
  return bootstrap;
}

/** BootstrapResult starts with the tag of `version`, a byte that starts neither JSON nor an address. */
const BOOTSTRAP_RESULT_TAG = 0x08;

function readBootstrap(stdout: Buffer): Bootstrap {
  try {
    if (stdout[0] === BOOTSTRAP_RESULT_TAG) {
      const { version, address, protocol } = BootstrapResult.decode(stdout);
      return { version, address, protocol };
    }
    const output = stdout.toString('utf8').trim();
    if (!output.startsWith('{')) return { version: 2, address: output, protocol: 'ttrpc' };
    const { version, address, protocol } = JSON.parse(output) as Partial<Bootstrap>;
    return { version: version ?? 0, address: address ?? '', protocol: protocol ?? '' };
  } catch (error) {
    throw unknown(`shim printed an unreadable address: ${messageOf(error)}`, { cause: error });
  }
}

interface Program {
  readonly path: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  readonly stdin: Buffer;
  readonly signal: AbortSignal;
}

interface ProgramResult {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** Why the program failed; undefined when it exited with 0. */
  readonly failure: string | undefined;
}

const text = (result: ProgramResult) => Buffer.concat([result.stdout, result.stderr]).toString('utf8');

/** Runs a program in a process group of its own. Never rejects. */
function run(program: Program): Promise<ProgramResult> {
  return new Promise((resolve) => {
    const child = spawn(program.path, program.args, {
      cwd: program.cwd,
      env: program.env,
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      signal: program.signal,
      killSignal: 'SIGKILL',
    });
    const output = { stdout: collect(child.stdout), stderr: collect(child.stderr) };
    const finish = (failure: string | undefined) => {
      child.stdout.destroy();
      child.stderr.destroy();
      resolve({ stdout: Buffer.concat(output.stdout), stderr: Buffer.concat(output.stderr), failure });
    };
    child.on('error', (error) => finish(program.signal.aborted ? 'timed out' : messageOf(error)));
    child.on('exit', (code, signal) => {
      const failure = code === 0 ? undefined : code === null ? `killed by ${signal}` : `exit status ${code}`;
      const timer = setTimeout(() => finish(failure), OUTPUT_GRACE_MS);
      child.on('close', () => {
        clearTimeout(timer);
        finish(failure);
      });
    });
    // A program that does not read its input closes the pipe; its exit says the rest.
    child.stdin.on('error', () => child.stdin.destroy());
    child.stdin.end(program.stdin);
  });
}

function collect(stream: NodeJS.ReadableStream): Buffer[] {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  stream.on('data', (chunk: Buffer) => {
    sizeBytes += chunk.length;
    if (sizeBytes <= OUTPUT_BYTES_MAX) chunks.push(chunk);
  });
  return chunks;
}
