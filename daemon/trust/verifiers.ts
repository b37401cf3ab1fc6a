// Programs that judge images, as containerd's image verifier plug-in "bindir" calls them (containerd, image-verification.md):
// `PROGRAM -name NAME -digest DIGEST -stdin-media-type TYPE` with the image's descriptor as JSON on standard input. Exit
// code 0 accepts, any other refuses; standard output is the reason. All of them have to accept.

import { type ChildProcess, spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno, messageOf, permissionDenied } from '../../proto/errors';
import type { ImageDescriptor } from '../images/documents';
import type { Logger } from '../log';
import { printable } from '../registry/http/failure';
import type { VerifiersConfig } from './config';

export interface JudgedImage {
  readonly name: string;
  readonly target: ImageDescriptor;
}

const DESCRIPTOR_TYPE = 'application/vnd.oci.descriptor.v1+json';
/** Of standard output and of standard error; the rest is thrown away. */
const OUTPUT_BYTES_MAX = 32 << 10;
/** What a verifier is told about this machine: where its own helpers are. */
const ENVIRONMENT = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
const REASON_LENGTH_MAX = 1000;

/**
 * Asks the verifiers one after another, by name. Without the directory, or when it is empty, every image is accepted.
 * @returns why one refuses; undefined when none does
 * @throws PERMISSION_DENIED when one cannot be run, ends by a signal or takes too long; the signal's reason
 */
export async function refusalOf(
  image: JudgedImage,
  { binDir, maxVerifiers, timeoutMs }: VerifiersConfig,
  { log, signal }: { readonly log: Logger; readonly signal: AbortSignal },
): Promise<string | undefined> {
  const names = await programsIn(binDir, log);
  if (maxVerifiers >= 0 && names.length > maxVerifiers) {
    log.warn('image verifiers left out: more than max_verifiers', { bin_dir: binDir, found: names.length });
    names.length = maxVerifiers;
  }
  for (const name of names) {
    const { exitCode, reason } = await run(join(binDir, name), image, { timeoutMs, log, signal });
    if (exitCode !== 0) return `verifier ${name} rejects it (exit code ${exitCode}): ${reason}`;
  }
  return undefined;
}

async function programsIn(binDir: string, log: Logger): Promise<string[]> {
  try {
    return (await readdir(binDir)).sort();
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) {
      throw permissionDenied(`image verifiers: cannot list ${binDir}: ${messageOf(error)}`, { cause: error });
    }
    log.warn('no image verifier is asked: there is no such directory', { bin_dir: binDir });
    return [];
  }
}

async function run(
  program: string,
  { name, target }: JudgedImage,
  { timeoutMs, log, signal }: { timeoutMs: number; log: Logger; signal: AbortSignal },
): Promise<{ exitCode: number; reason: string }> {
  signal.throwIfAborted();
  const args = ['-name', name, '-digest', target.digest, '-stdin-media-type', DESCRIPTOR_TYPE];
  // A session of its own: its children are ended with it, and no terminal of the daemon's can be reached.
  const child = spawn(program, args, { cwd: '/', env: ENVIRONMENT, stdio: 'pipe', detached: true });
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const stop = () => endGroup(child);
  limit.addEventListener('abort', stop);
  try {
    const output = collect(child.stdout);
    const errors = collect(child.stderr);
    // It may end without reading.
    child.stdin.on('error', () => {});
    child.stdin.end(`${JSON.stringify(target)}\n`);
    const exit = await endOf(child);
    signal.throwIfAborted();
    const spoken = errors();
    if (spoken !== '') log.debug('image verifier', { program, stderr: spoken });
    if (exit.code === null) {
      throw new Error(limit.aborted ? `no answer within ${timeoutMs} ms` : `ended by ${exit.signal}`);
    }
    return { exitCode: exit.code, reason: printable(output(), REASON_LENGTH_MAX) };
  } catch (error) {
    signal.throwIfAborted();
    const advice = isErrno(error, 'EACCES', 'ENOEXEC') ? '; only programs may be in this directory' : '';
    throw permissionDenied(`image verifier ${program}: ${messageOf(error)}${advice}`, { cause: error });
  } finally {
    limit.removeEventListener('abort', stop);
  }
}

/** Ends when the program has, and nobody holds its output any more. What it left behind is killed. */
function endOf(child: ChildProcess): Promise<{ code: number | null; signal: string | null }> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => endGroup(child));
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
}

function endGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error;
  }
}

function collect(stream: NodeJS.ReadableStream): () => string {
  const pieces: Buffer[] = [];
  let length = 0;
  stream.on('data', (piece: Buffer) => {
    if (length < OUTPUT_BYTES_MAX) pieces.push(piece.subarray(0, OUTPUT_BYTES_MAX - length));
    length += piece.length;
  });
  return () => `${Buffer.concat(pieces).toString('utf8').trim()}${length > OUTPUT_BYTES_MAX ? ' (truncated)' : ''}`;
}
