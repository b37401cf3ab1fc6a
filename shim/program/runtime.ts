// Containers made by a runtime that is a program. What a program cannot do as well is done here, as runc's shim does it:
// counters, processes and out-of-memory notices come from the container's cgroup.

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, notFound, unknown } from '../../proto/errors';
import { type Cgroup, ConsoleSocket, cgroupOfProcess, Reaper } from '../../runtime-native/index';
import type { CreateOptions, ExecOptions, ProcessFds, RunningProcess, RuntimeContainer } from '../runtime';
import { RuntimeProgram } from './program';

/** What runtimes say of a process that is not there any more. */
const FINISHED = /process already finished|container not running|no such process|does not exist|not running/i;

/** Creates a container; the program has ended then, and the container's process is a child of this one. */
export async function createByProgram(options: CreateOptions & { root: string }): Promise<RuntimeContainer> {
  const { id, bundle, root, io, options: runc } = options;
  const { binaryName: binary, systemdCgroup } = runc;
  const program = new RuntimeProgram({ binary, root, bundle, systemdCgroup });
  const pidFile = join(bundle, 'init.pid');
  const args = ['create', '--bundle', bundle, '--pid-file', pidFile];
  if (runc.noPivotRoot) args.push('--no-pivot');
  if (runc.noNewKeyring) args.push('--no-new-keyring');
  Reaper.shared(); // Orphans become children of this process from now on.
  const terminalFd = await runProgram(program, args, io, id);
  const pid = takePid(pidFile);
  return new ProgramContainer(program, { id, bundle, pid, terminalFd, cgroup: cgroupOfProcess(pid) });
}

/** Kills and removes what is left of a container whose shim is gone. */
export async function destroyByProgram(options: {
  id: string;
  bundle: string;
  root: string;
  binary: string;
  systemdCgroup: boolean;
}): Promise<void> {
  await new RuntimeProgram(options).run(['delete', '--force', options.id]);
}

interface Parts extends RunningProcess {
  readonly id: string;
  readonly bundle: string;
  /** Undefined when it is that of the shim. */
  readonly cgroup: Cgroup | undefined;
}

class ProgramContainer implements RuntimeContainer {
  private readonly program: RuntimeProgram;
  private readonly parts: Parts;
  private readonly stopWatching: (() => void)[] = [];

  constructor(program: RuntimeProgram, parts: Parts) {
    this.program = program;
    this.parts = parts;
  }

  get pid(): number {
    return this.parts.pid;
  }

  get terminalFd(): number | undefined {
    return this.parts.terminalFd;
  }

  async start(): Promise<void> {
    await this.run('start');
  }

  async exec({ execId, process, io }: ExecOptions): Promise<RunningProcess> {
    const { bundle, id } = this.parts;
    const processFile = join(bundle, `${execId}.json`);
    const pidFile = join(bundle, `${execId}.pid`);
    writeFileSync(processFile, JSON.stringify(process), { mode: 0o600 });
    try {
      const args = ['exec', '--process', processFile, '--pid-file', pidFile, '--detach'];
      const terminalFd = await runProgram(this.program, args, io, id);
      return { pid: takePid(pidFile), terminalFd };
    } finally {
      rmSync(processFile, { force: true });
    }
  }

  async kill(signal: number, all: boolean): Promise<void> {
    try {
      await this.program.run(['kill', ...(all ? ['--all'] : []), this.parts.id, String(signal)]);
    } catch (error) {
      if (FINISHED.test(messageOf(error))) throw notFound('process already finished');
      throw error;
    }
  }

  async pause(): Promise<void> {
    await this.run('pause');
  }

  async resume(): Promise<void> {
    await this.run('resume');
  }

  async update(resources: unknown): Promise<void> {
    // A file: crun opens /dev/stdin by its path, which it cannot do with a socket.
    const file = join(this.parts.bundle, 'resources.json');
    writeFileSync(file, JSON.stringify(resources), { mode: 0o600 });
    try {
      await this.program.run(['update', '--resources', file, this.parts.id]);
    } finally {
      rmSync(file, { force: true });
    }
  }

  pids(): number[] {
    return this.parts.cgroup?.pids() ?? [this.pid];
  }

  stats(): { typeUrl: string; value: Buffer } {
    const { cgroup } = this.parts;
    if (cgroup === undefined) throw notFound('cgroup does not exist');
    return cgroup.stats();
  }

  oomCount(): number {
    return this.parts.cgroup?.oomCount() ?? 0;
  }

  onOom(listener: () => void): void {
    const stop = this.parts.cgroup?.watchOom(listener);
    if (stop !== undefined) this.stopWatching.push(stop);
  }

  async delete(): Promise<void> {
    for (const stop of this.stopWatching) stop();
    await this.program.run(['delete', '--force', this.parts.id]);
  }

  private async run(command: string): Promise<void> {
    await this.program.run([command, this.parts.id]);
  }
}

/** Runs create or exec with the streams of the process. @returns the terminal, when there is one */
async function runProgram(
  program: RuntimeProgram,
  args: readonly string[],
  io: ProcessFds | 'terminal',
  id: string,
): Promise<number | undefined> {
  if (io !== 'terminal') {
    await program.run([...args, id], [io.stdin, io.stdout, io.stderr]);
    return undefined;
  }
  const console = new ConsoleSocket();
  try {
    let isOver = false;
    const run = program.run([...args, '--console-socket', console.path, id], [-1, -1, -1]);
    const ended = run.finally(() => {
      isOver = true;
    });
    const [terminal, result] = await Promise.allSettled([console.terminal(() => isOver), ended]);
    if (result.status === 'rejected') throw result.reason;
    if (terminal.status === 'rejected') throw terminal.reason;
    return terminal.value;
  } finally {
    console.close();
  }
}

/** The pid that the program has written; its exit status is kept from now on. */
function takePid(path: string): number {
  const pid = Number(readFileSync(path, 'utf8'));
  if (!Number.isInteger(pid) || pid <= 0) throw unknown(`${path} holds no pid`);
  Reaper.shared().track(pid);
  return pid;
}
