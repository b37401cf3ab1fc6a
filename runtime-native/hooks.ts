// Hooks of a runtime configuration (runtime-spec, POSIX-platform hooks): programs that are told the container's state on
// stdin. They get the environment that the configuration names and nothing of ours.

import { closeSync, fstatSync, readSync } from 'node:fs';
import { messageOf, unknown } from '../proto/errors';
import { launch } from './launch';
import { entryOf } from './launcher/user-namespace';
import { createMemfd, openPidfd, signalPidfd } from './native';
import { type ContainerEntry, compileHook } from './plan/plan';
import { type ExitStatus, Reaper } from './reaper';
import type { Hook } from './spec';

/** What a hook reads: the state of runtime-spec runtime.md. */
export interface HookState {
  readonly ociVersion: string;
  readonly id: string;
  readonly status: 'creating' | 'created' | 'running' | 'stopped';
  readonly pid: number;
  readonly bundle: string;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

const OUTPUT_BYTES_MAX = 64 * 1024;
const SIGKILL = 9;

/**
 * Runs hooks one after the other.
 * @param container - pid of the container's first process for hooks that run in its namespaces
 * @throws UNKNOWN in runc's words when one cannot be run, fails or takes longer than its timeout
 */
export async function runHooks(
  hooks: readonly Hook[] | null | undefined,
  state: HookState,
  container: number | undefined,
): Promise<void> {
  for (const [index, hook] of (hooks ?? []).entries()) {
    try {
      await runHook(hook, state, container);
    } catch (error) {
      throw unknown(`error running hook #${index}: ${messageOf(error)}`, { cause: error });
    }
  }
}

async function runHook(hook: Hook, state: HookState, container: number | undefined): Promise<void> {
  const files: number[] = [];
  const open = (fd: number) => {
    files.push(fd);
    return fd;
  };
  try {
    const stdin = open(createMemfd('hook-state', Buffer.from(JSON.stringify(state)), false));
    const stdout = open(createMemfd('hook-stdout', Buffer.alloc(0), false));
    const stderr = open(createMemfd('hook-stderr', Buffer.alloc(0), false));
    const pidfd = container === undefined ? undefined : open(openPidfd(container));
    const entry = container === undefined ? undefined : entryOf(container);
    const status = await execute(hook, [stdin, stdout, stderr], pidfd, entry);
    if (status.code === 0) return;
    const result = status.signal === 0 ? `exit status ${status.code}` : `signal: ${status.signal}`;
    throw unknown(`error running hook: ${result}, stdout: ${quoted(stdout)}, stderr: ${quoted(stderr)}`);
  } finally {
    for (const fd of files) closeSync(fd);
  }
}

async function execute(
  hook: Hook,
  stdio: [number, number, number],
  pidfd: number | undefined,
  entry: ContainerEntry | undefined,
): Promise<ExitStatus> {
  const plan = compileHook({ path: hook.path, args: hook.args ?? [], env: hook.env ?? [] }, entry);
  const init = launch({
    plan,
    namespaces: 0,
    joins: pidfd === undefined || entry?.isOrdinaryUser ? [] : [{ fd: pidfd, type: 'pid' }],
    stdio,
    inherited: pidfd === undefined ? [] : [pidfd],
    inInit: false,
  });
  try {
    await init.next();
  } catch (error) {
    const reason = /: ([^:]+)$/.exec(messageOf(error))?.[1] ?? '';
    init.destroy();
    throw unknown(`fork/exec ${hook.path}: ${reason}`, { cause: error });
  }
  let timer: NodeJS.Timeout | undefined;
  let late = false;
  try {
    const timeout = hook.timeout;
    if (timeout !== undefined && timeout > 0) {
      timer = setTimeout(() => {
        late = true;
        signalPidfd(init.pidfd, SIGKILL);
      }, timeout * 1000);
    }
    const status = await new Promise<ExitStatus>((resolve) => Reaper.shared().onExit(init.pid, resolve));
    if (late) throw unknown(`hook ran past specified timeout of ${timeout?.toFixed(1)}s`);
    return status;
  } finally {
    clearTimeout(timer);
    init.hangUp();
    closeSync(init.pidfd);
  }
}

/** Newlines as "\n", the way Go prints them. */
function quoted(fd: number): string {
  const size = Math.min(fstatSync(fd).size, OUTPUT_BYTES_MAX);
  const buffer = Buffer.alloc(size);
  readSync(fd, buffer, 0, size, 0);
  return buffer.toString('utf8').replaceAll('\n', '\\n');
}
