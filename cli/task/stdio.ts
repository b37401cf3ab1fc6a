// Where a process's input and output go: named pipes made by this client, a log file, or nowhere. The shim only opens
// what it is told (fifo(7); containerd's stdio URIs).

import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { CommandError, usageError } from '../failure';

/** What Tasks.Create and Tasks.Exec are told. */
export interface Stdio {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly terminal: boolean;
}

/** The container label that says where its log is. */
export const LOG_LABEL = 'gantry/log-uri';

/** The directory for pipes; each process has one of its own in it, which only its owner may enter. */
function fifoBase(): string {
  const fallback =
    process.getuid?.() === 0 ? '/run/gantry/fifo' : join(process.env['XDG_RUNTIME_DIR'] ?? tmpdir(), 'gantry');
  return process.env['GANTRY_FIFO_DIR'] ?? fallback;
}

function logBase(): string {
  return process.env['GANTRY_LOG_DIR'] ?? '/var/log/gantry';
}

/**
 * Makes the pipes of one process. With a terminal there is no separate standard error.
 * @param name Used in the file names, so that a listing says whose they are.
 */
export async function makeFifos(name: string, wanted: { stdin: boolean; terminal: boolean }): Promise<Stdio> {
  const directory = join(fifoBase(), randomBytes(6).toString('hex'));
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const path = (stream: string): string => join(directory, `${name}-${stream}`);
  const stdio = {
    stdin: wanted.stdin ? path('stdin') : '',
    stdout: path('stdout'),
    stderr: wanted.terminal ? '' : path('stderr'),
    terminal: wanted.terminal,
  };
  const paths = [stdio.stdin, stdio.stdout, stdio.stderr].filter((fifo) => fifo !== '');
  try {
    await promisify(execFile)('mkfifo', ['-m', '600', ...paths]);
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw new CommandError(`cannot make named pipes in ${directory}: ${(error as Error).message}`);
  }
  return stdio;
}

/** Removes the pipes of a process, if they are of our making. */
export async function removeFifos(stdio: Pick<Stdio, 'stdout'>): Promise<void> {
  if (!stdio.stdout.startsWith('/')) return;
  const directory = dirname(stdio.stdout);
  if (dirname(directory) === fifoBase()) await rm(directory, { recursive: true, force: true });
}

/** Output to a URI that the shim understands: file://, binary://. */
export async function logStdio(uri: string, terminal: boolean): Promise<Stdio> {
  if (uri.startsWith('file://')) await mkdir(dirname(logPath(uri)), { recursive: true, mode: 0o750 });
  return { stdin: '', stdout: uri, stderr: terminal ? '' : uri, terminal };
}

/** The log of a container run with -d and without --log-uri. */
export function defaultLogUri(namespace: string, id: string): string {
  return `file://${join(resolve(logBase()), namespace, `${id}.log`)}`;
}

/** --log-uri as given: a URI, or a plain path. @throws CommandError (usage) */
export function parseLogUri(text: string): string {
  if (/^(file|binary):\/\/\//.test(text)) return text;
  if (text.startsWith('/')) return `file://${text}`;
  throw usageError(`"${text}" is not a log; write file:///path, binary:///path?key=value or an absolute path`);
}

/** The path of a file:// URI. */
export function logPath(uri: string): string {
  return decodeURIComponent(uri.slice('file://'.length));
}
