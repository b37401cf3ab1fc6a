// A real gantryd in a directory of its own, for tests that start, stop and kill it.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { removeFolder } from '../setup/leftovers';
import { needsFile, needsRoot } from '../setup/needs';

export const PROGRAM = resolve(__dirname, '..', '..', 'dist', 'bin', 'gantryd');
const READY_MS = 60_000;
const STOP_MS = 60_000;

/** Why tests of the daemon cannot run here; undefined when they can. */
export function missingForDaemon(): string | undefined {
  return needsRoot() ?? needsFile(PROGRAM, 'make build');
}

export class Gantryd {
  readonly directory = mkdtempSync(join(tmpdir(), 'gantryd-'));
  readonly root = join(this.directory, 'root');
  readonly state = join(this.directory, 'state');
  readonly address = join(this.directory, 'd.sock');
  /** All that it has written to stderr, over all starts. */
  log = '';
  child: ChildProcess | undefined;

  get flags(): string[] {
    return ['--root', this.root, '--state', this.state, '--address', this.address];
  }

  /** Resolves when the daemon says that it is ready. `wrapper` is a command that runs it. */
  async start(options: { wrapper?: string[]; flags?: string[]; env?: NodeJS.ProcessEnv } = {}): Promise<void> {
    const command = [...(options.wrapper ?? []), PROGRAM, ...this.flags, ...(options.flags ?? [])];
    const child = spawn(command[0] as string, command.slice(1), {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...options.env },
    });
    this.child = child;
    const before = this.log.length;
    await new Promise<void>((fulfil, reject) => {
      const timer = setTimeout(() => reject(new Error(`gantryd is not ready: ${this.log}`)), READY_MS);
      const settle = (error?: Error) => {
        clearTimeout(timer);
        if (error === undefined) fulfil();
        else reject(error);
      };
      child.stderr?.on('data', (chunk: Buffer) => {
        this.log += chunk.toString();
        if (this.log.includes('gantryd is ready at', before)) settle();
      });
      child.once('exit', (code, signal) => settle(new Error(`gantryd ended with ${code ?? signal}: ${this.log}`)));
    });
  }

  /** Resolves to the exit code, or to the name of the signal that ended it. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string> {
    const { child } = this;
    if (child === undefined) return 0;
    this.child = undefined;
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode ?? child.signalCode ?? 0;
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    const ended = new Promise<number | string>((fulfil) => {
      child.once('exit', (code, by) => fulfil(code ?? by ?? 0));
    });
    child.kill(signal);
    const result = await ended;
    clearTimeout(timer);
    return result;
  }

  async destroy(): Promise<void> {
    await this.stop();
    await removeFolder(this.directory);
  }
}

/** Runs gantryd to its end, for starts that must fail. */
export function runGantryd(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const { status, stdout, stderr } = spawnSync(PROGRAM, args, {
    encoding: 'utf8',
    timeout: READY_MS,
    env: { ...process.env, ...env },
  });
  return { status, stdout, stderr };
}
