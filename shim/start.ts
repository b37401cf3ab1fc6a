// The start action: makes sure that a shim listens for a container, prints where, and ends. Used by containerd; gantryd
// starts the server itself, with one process less.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { messageOf, unknown } from '../proto/errors';
import { Options } from '../proto/generated/containerd.runc.v1';
import { BootstrapParams, BootstrapResult } from '../proto/generated/containerd.runtime.bootstrap.v1';
import { Any } from '../proto/generated/google.protobuf';
import { isListening } from '../proto/ttrpc/socket';
import { joinCgroup } from '../runtime-native/index';
import { groupOf, socketPath } from './address';
import type { ShimArgs } from './args';

const STDIN = 0;
const STDOUT = 1;
const STDIN_BYTES_MAX = 10 << 20;
const START_TIMEOUT_MS = 60_000;

/** What containerd says on stdin: its bootstrap parameters (2.3 and later), else only the options of the task. */
interface StartInput {
  readonly bootstrap: BootstrapParams | undefined;
  readonly shimCgroup: string;
}

/** Runs in the bundle. @throws UNKNOWN with the cause when no shim could be started. */
export async function start(args: ShimArgs): Promise<void> {
  const input = readInput(args);
  const bundle = process.cwd();
  const path = socketPath(args.address, args.namespace, groupOf(bundle, args.id), input.bootstrap?.socketDir);
  if (!(await isListening(path))) await startServer(args, path, input);
  const address = `unix://${path}`;
  writeFileSync(join(bundle, 'address'), address, { mode: 0o600 });
  const result =
    input.bootstrap === undefined
      ? Buffer.from(address)
      : BootstrapResult.encode({ version: 3, address, protocol: 'ttrpc' });
  writeSync(STDOUT, result);
}

async function startServer(args: ShimArgs, path: string, input: StartInput): Promise<void> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    const pid = await spawnServer(args, path, input);
    if (input.shimCgroup !== '') joinCgroup(pid, input.shimCgroup);
  } catch (error) {
    // Another container of the group may have been quicker.
    if (!(await isListening(path))) throw error;
  }
}

function readInput(args: ShimArgs): StartInput {
  const bytes = readFileSync(STDIN);
  if (bytes.length > STDIN_BYTES_MAX) throw unknown('start: too much on stdin');
  const bootstrap = decodeBootstrap(bytes, args);
  const options = bootstrap?.extensions.map(({ value }) => value).find(isOptions) ?? decodeAny(bytes);
  const shimCgroup = isOptions(options) ? Options.decode(options.value).shimCgroup : '';
  return { bootstrap, shimCgroup };
}

/** Both messages start with a string and bytes; parameters are for this very shim or they are none. */
function decodeBootstrap(bytes: Buffer, args: ShimArgs): BootstrapParams | undefined {
  try {
    const params = BootstrapParams.decode(bytes);
    return params.instanceId === args.id && params.namespace === args.namespace ? params : undefined;
  } catch {
    return undefined; // An Any does not decode as parameters.
  }
}

function decodeAny(bytes: Buffer): Any | undefined {
  try {
    return Any.decode(bytes);
  } catch {
    return undefined; // Create gets the options again and says what is wrong with them.
  }
}

function isOptions(any: Any | undefined): any is Any {
  return any?.typeUrl === Options.name;
}

/** Starts the server detached, in a session of its own. Resolves with its pid when it listens. */
async function spawnServer(args: ShimArgs, path: string, { bootstrap }: StartInput): Promise<number> {
  const flags = ['-namespace', args.namespace, '-id', args.id, '-address', args.address, '-socket', path];
  const isDebug = args.debug || (bootstrap !== undefined && bootstrap.logLevel < 0);
  if (isDebug) flags.push('-debug');
  const log = openBundleLog();
  try {
    const child = spawn(process.execPath, [...process.execArgv, process.argv[1] ?? '', ...flags], {
      detached: true,
      stdio: ['ignore', 'pipe', log],
      env: serverEnv(bootstrap),
    });
    await printed(child);
    child.unref();
    return child.pid ?? 0;
  } finally {
    closeSync(log);
  }
}

function serverEnv(bootstrap: BootstrapParams | undefined): NodeJS.ProcessEnv {
  const env = { ...process.env };
  if (bootstrap?.containerdTtrpcAddress) env['TTRPC_ADDRESS'] = bootstrap.containerdTtrpcAddress;
  return env;
}

/** The log fifo of the bundle, never waiting for a reader; without one the log goes nowhere. */
function openBundleLog(): number {
  try {
    return openSync('log', constants.O_RDWR | constants.O_NONBLOCK);
  } catch {
    return openSync('/dev/null', constants.O_RDWR);
  }
}

function printed(child: ChildProcess): Promise<void> {
  const { stdout } = child;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => fail('it did not start in time'), START_TIMEOUT_MS);
    const fail = (reason: string) => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      reject(unknown(`start shim: ${reason}`));
    };
    child.once('error', (error) => fail(messageOf(error)));
    child.once('exit', (code, signal) => fail(`it ended with ${code === null ? signal : `status ${code}`}`));
    stdout?.once('data', () => {
      clearTimeout(timer);
      child.removeAllListeners('exit');
      stdout.destroy();
      resolve();
    });
  });
}
