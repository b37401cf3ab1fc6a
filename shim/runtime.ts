// What the shim needs of an OCI runtime, and nothing about how it is done: native-runtime.ts is on top of our own runtime
// library, program/ runs runtimes that are programs.

import type { Options } from '../proto/generated/containerd.runc.v1';
import type { Mount } from '../proto/generated/containerd.types';
import type { Any } from '../proto/generated/google.protobuf';

/** Descriptors for a process. -1 stands for /dev/null. The process gets copies, the caller keeps and closes its own. */
export interface ProcessFds {
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}

/** What became of a process: its exit code, or 128 plus the number of the signal that ended it. */
export type ExitListener = (exitStatus: number) => void;

export interface RunningProcess {
  readonly pid: number;
  /** Master side of the process's terminal; the caller owns it. */
  readonly terminalFd: number | undefined;
}

export interface CreateOptions {
  readonly id: string;
  readonly bundle: string;
  readonly namespace: string;
  /** Where the root filesystem is mounted. */
  readonly rootfs: string;
  readonly spec: RuntimeSpec;
  readonly io: ProcessFds | 'terminal';
  readonly options: Options;
}

export interface DestroyOptions {
  readonly id: string;
  readonly bundle: string;
  /** State directory of the runtime. */
  readonly root: string;
  /** As it was at its creation. */
  readonly options: Pick<Options, 'binaryName' | 'systemdCgroup'>;
}

export interface ExecOptions {
  readonly execId: string;
  /** The Process document of the OCI runtime-spec. */
  readonly process: Readonly<Record<string, unknown>>;
  readonly io: ProcessFds | 'terminal';
}

/** The parts of config.json that the shim itself looks at; the runtime gets all of it. */
export interface RuntimeSpec {
  readonly annotations?: Readonly<Record<string, string>>;
  readonly root?: { readonly path?: string };
  readonly linux?: { readonly namespaces?: readonly { readonly type: string; readonly path?: string }[] };
}

export interface RuntimeContainer extends RunningProcess {
  /** Lets the created process run its program. */
  start(): Promise<void>;
  exec(options: ExecOptions): Promise<RunningProcess>;
  /** Sends a signal to init, or to every process of the container. @throws NOT_FOUND when there is none. */
  kill(signal: number, all: boolean): void | Promise<void>;
  pause(): Promise<void>;
  resume(): void | Promise<void>;
  /** @param resources the LinuxResources document of the OCI runtime-spec. */
  update(resources: unknown): void | Promise<void>;
  pids(): number[];
  /** @throws NOT_FOUND when the container has no cgroup. */
  stats(): Any;
  /** How often the kernel has killed in the container for want of memory. */
  oomCount(): number;
  onOom(listener: () => void): void;
  /** Kills what is left, removes cgroups and state. */
  delete(): Promise<void>;
}

export interface Runtime {
  /** Creates the container up to the moment before its program runs. @throws Error with the runtime's words. */
  create(options: CreateOptions): Promise<RuntimeContainer>;
  /** Removes whatever is left of a container whose shim is gone; nothing when there is nothing. */
  destroy(options: DestroyOptions): Promise<void>;
  /** Calls back once when the process has ended, also when it ended before the call. */
  onExit(pid: number, listener: ExitListener): void;
  mount(mounts: readonly Mount[], target: string): void;
  /** Unmounts everything at and below the target. Idempotent. */
  unmount(target: string): void;
  resizeTerminal(fd: number, rows: number, columns: number): void;
  /** Effective uid and gid of the other end of a unix socket. */
  peer(fd: number): { uid: number; gid: number };
  /** A pipe whose ends are closed on exec. */
  pipe(): { read: number; write: number };
  setNonblocking(fd: number): void;
}
