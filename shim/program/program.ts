// An OCI runtime that is a program: runc, crun, runsc and others that understand runc's command line.

import { type SpawnOptions, type StdioOptions, spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, messageOf, unknown } from '../../proto/errors';

const OUTPUT_BYTES_MAX = 65_536;

export interface ProgramOptions {
  /** A path, or a name that is looked up in PATH. */
  readonly binary: string;
  /** The program's own state directory (--root). */
  readonly root: string;
  /** Where its log goes. */
  readonly bundle: string;
  readonly systemdCgroup: boolean;
}

export class RuntimeProgram {
  private readonly options: ProgramOptions;
  private readonly log: string;

  constructor(options: ProgramOptions) {
    this.options = options;
    this.log = join(options.bundle, 'log.json');
  }

  /**
   * Runs the program to its end.
   * @param stdio its 0, 1 and 2, which the container's process gets as well; -1 is /dev/null
   * @throws UNKNOWN with the last error of its log, else with what it wrote to stderr
   */
  async run(args: readonly string[], stdio?: readonly [number, number, number]): Promise<void> {
    const { binary, root, systemdCgroup } = this.options;
    const general = ['--root', root, '--log', this.log, '--log-format', 'json'];
    if (systemdCgroup) general.push('--systemd-cgroup');
    const logStart = sizeOf(this.log);
    const result = await execute(binary, [...general, ...args], stdio);
    if (result.code === 0) return;
    const said = lastError(this.log, logStart) ?? (result.stderr.trim() || `${binary}: ${result.reason}`);
    throw unknown(said);
  }
}

interface Result {
  readonly code: number | null;
  readonly reason: string;
  readonly stderr: string;
}

function execute(binary: string, args: readonly string[], stdio: readonly number[] | undefined): Promise<Result> {
  const files = stdio?.map((fd) => (fd < 0 ? 'ignore' : fd)) ?? ['ignore', 'ignore', 'pipe'];
  const options: SpawnOptions = { stdio: files as StdioOptions };
  return new Promise((resolve, reject) => {
    const child = spawn(binary, args, options);
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (stderr.length < OUTPUT_BYTES_MAX) stderr += text;
    });
    child.on('error', (error) => {
      const text = isErrno(error, 'ENOENT') ? 'executable file not found in $PATH' : messageOf(error);
      reject(unknown(`exec: ${JSON.stringify(binary)}: ${text}`, { cause: error }));
    });
    // Not "close": a container keeps what the program got as stdio, and hooks may keep its pipes.
    child.on('exit', (code, signal) => {
      const reason = code === null ? `killed by ${signal}` : `exit status ${code}`;
      setImmediate(() => resolve({ code, reason, stderr }));
    });
  });
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** The message of the last line of level "error" that was written from an offset on. */
function lastError(path: string, start: number): string | undefined {
  if (sizeOf(path) <= start) return undefined;
  const lines = readFileSync(path).subarray(start).toString('utf8').split('\n').reverse();
  for (const line of lines) {
    try {
      const { level, msg } = JSON.parse(line) as { level?: string; msg?: string };
      if (level === 'error' && msg !== undefined) return msg;
    } catch {
      // Not a line of a log, or half of one.
    }
  }
  return undefined;
}
