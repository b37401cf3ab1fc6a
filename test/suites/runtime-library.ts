// gantry's runtime library as the suite runs it, and what its own tests share.

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Container, type CreateOptions, type ExitStatus, Reaper } from '../../runtime-native/index';
import type { RunResult, RuntimeUnderTest } from './runtime-case';

const COLLECT_MS = 3;

/** Signals do not reach a test sandbox: exits are looked for by a timer. Returns the stop function. */
export function collectExits(): () => void {
  const timer = setInterval(() => Reaper.shared().collect(), COLLECT_MS);
  return () => clearInterval(timer);
}

export function waitForExit(pid: number): Promise<ExitStatus> {
  return new Promise((resolve) => Reaper.shared().onExit(pid, resolve));
}

/** Files that take the output of a process, and what they hold in the end. */
export class Output {
  private readonly directory = mkdtempSync(join(tmpdir(), 'gantry-output-'));
  readonly stdout = openSync(join(this.directory, 'stdout'), 'w');
  readonly stderr = openSync(join(this.directory, 'stderr'), 'w');

  get io() {
    return { stdin: -1, stdout: this.stdout, stderr: this.stderr };
  }

  read(): { stdout: string; stderr: string } {
    const read = (name: string) => readFileSync(join(this.directory, name), 'utf8');
    return { stdout: read('stdout'), stderr: read('stderr') };
  }

  close(): void {
    closeSync(this.stdout);
    closeSync(this.stderr);
    rmSync(this.directory, { recursive: true });
  }
}

/** @param root - state directory */
export function runtimeLibrary(root: string): RuntimeUnderTest {
  return {
    async run({ id, bundle, spec }): Promise<RunResult> {
      const output = new Output();
      try {
        const options: CreateOptions = { id, bundle: bundle.path, spec, rootfs: bundle.rootfs, io: output.io, root };
        const container = await Container.create(options);
        try {
          const exit = waitForExit(container.pid);
          await container.start();
          const { code } = await exit;
          return { error: undefined, code, ...output.read() };
        } finally {
          await container.delete();
        }
      } catch (error) {
        return { error: (error as Error).message, code: -1, ...output.read() };
      } finally {
        output.close();
      }
    },
  };
}
