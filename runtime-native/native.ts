// Typed wrappers of launch.c, system.c and oom.c, one per function. All are quick unless they say that they wait.

import { readFileSync } from 'node:fs';
import { libgantry, type NativeFunction, nativeFile } from './library';
import { checkResult } from './system-error';

/** Flags of clone3(2) and setns(2) by the names of the runtime specification. */
export const NAMESPACE_FLAGS: Readonly<Record<string, number>> = {
  mount: 0x20000,
  cgroup: 0x2000000,
  uts: 0x4000000,
  ipc: 0x8000000,
  user: 0x10000000,
  pid: 0x20000000,
  network: 0x40000000,
  time: 0x80,
};

export interface LaunchRequest {
  /** Flags of the namespaces to make. */
  readonly namespaces: number;
  /** Namespaces to be born into: pidfds of processes in them, or descriptors of their own. At most 8. */
  readonly joins: readonly { readonly fd: number; readonly type: string }[];
  /** Descriptor of a cgroup v2 directory to be born into, or -1. */
  readonly cgroup: number;
  /** Become 0, 1, 2, ... of the new process; at most 256. */
  readonly fds: readonly number[];
}

export interface Launched {
  readonly pid: number;
  /** The caller closes it. */
  readonly pidfd: number;
}

export interface Received {
  readonly size: number;
  /** A descriptor that came along, or -1. The caller closes it. */
  readonly fd: number;
}

/** As waitid(2) tells it: code is CLD_EXITED (1), CLD_KILLED (2) or CLD_DUMPED (3). */
export interface WaitResult {
  readonly code: number;
  readonly status: number;
}

const EAGAIN = 11;
/** More than struct termios of any C library. */
const TERMIOS_SIZE = 256;
/** struct launch of launch.c. */
const LAUNCH_JOINS_OFFSET = 24;
const LAUNCH_FDS_OFFSET = 24 + 8 * 8;

const functions = new Map<string, NativeFunction>();
const pair = new Int32Array(2);
const triple = new Int32Array(3);
let initFile: number | undefined;

/** Starts init (see launch.c), stopping this thread until its exec. */
export function launchInit(request: LaunchRequest): Launched {
  const { fds, joins } = request;
  const buffer = Buffer.alloc(LAUNCH_FDS_OFFSET + fds.length * 4);
  buffer.writeBigUInt64LE(BigInt(request.namespaces), 0);
  [initDescriptor(), request.cgroup, fds.length, joins.length].forEach((value, index) => {
    buffer.writeInt32LE(value, 8 + 4 * index);
  });
  joins.forEach(({ fd, type }, index) => {
    buffer.writeInt32LE(fd, LAUNCH_JOINS_OFFSET + 8 * index);
    buffer.writeInt32LE(NAMESPACE_FLAGS[type] ?? 0, LAUNCH_JOINS_OFFSET + 8 * index + 4);
  });
  fds.forEach((fd, index) => {
    buffer.writeInt32LE(fd, LAUNCH_FDS_OFFSET + 4 * index);
  });
  const fn = native('int gantry_launch(const void *launch, void *pidfd)');
  const pid = checkResult(fn(buffer, pair), 'clone3');
  return { pid, pidfd: pair[0] ?? -1 };
}

/** A memfd that holds data; sealed ones can be executed and never change. The caller closes it. */
export function createMemfd(name: string, data: Buffer, sealed: boolean): number {
  const fn = native('int gantry_memfd(const char *name, const void *data, int64_t size, int seal)');
  return checkResult(fn(name, data, data.length, sealed ? 1 : 0), 'memfd_create');
}

/** Two connected SOCK_SEQPACKET sockets. */
export function socketPair(): [number, number] {
  checkResult(native('int gantry_socketpair(void *fds)')(pair), 'socketpair');
  return [pair[0] ?? -1, pair[1] ?? -1];
}

/** Waits up to timeoutMs for a message. Size 0 is the end; undefined when none came in time. */
export function receive(socket: number, buffer: Buffer, timeoutMs: number): Received | undefined {
  const fn = native('int gantry_receive(int socket, void *buffer, int64_t size, void *fd, int timeout)');
  const size = fn(socket, buffer, buffer.length, pair, timeoutMs) as number;
  if (size === -EAGAIN) return undefined;
  return { size: checkResult(size, 'recvmsg'), fd: pair[0] ?? -1 };
}

/** A listening SOCK_SEQPACKET socket with a name in an open directory. The caller closes it. @throws EADDRINUSE */
export function listenAt(directory: number, name: string): number {
  return checkResult(native('int gantry_listen_at(int directory, const char *name)')(directory, name), 'bind', name);
}

/** A connection to a socket in an open directory. The caller closes it. @throws ENOENT, ECONNREFUSED */
export function connectAt(directory: number, name: string, type: 'stream' | 'seqpacket'): number {
  const fn = native('int gantry_connect_at(int directory, const char *name, int stream)');
  return checkResult(fn(directory, name, type === 'stream' ? 1 : 0), 'connect', name);
}

/** Sends text, which must not be empty, with a descriptor (SCM_RIGHTS). */
export function sendDescriptor(socket: number, fd: number, text: string): void {
  checkResult(native('int gantry_send_fd(int socket, int fd, const char *text)')(socket, fd, text), 'sendmsg');
}

/** Locks the open file (flock(2)) until it is closed; false when somebody else has the lock. */
export function tryLock(fd: number): boolean {
  const result = native('int gantry_lock(int fd)')(fd) as number;
  if (result === -EAGAIN) return false;
  checkResult(result, 'flock');
  return true;
}

export function sendByte(socket: number): void {
  checkResult(native('int gantry_send_byte(int socket)')(socket), 'send');
}

/** Reaps a child that has exited. With wait, waits for it: only for one that is about to end. @throws ECHILD */
export function reap(pid: number, wait: boolean): WaitResult | undefined {
  const fn = native('int gantry_reap(int pid, void *code, void *status, int wait)');
  const done = checkResult(fn(pid, pair.subarray(0, 1), triple, wait ? 1 : 0), 'waitid');
  return done === 0 ? undefined : { code: pair[0] ?? 0, status: triple[0] ?? 0 };
}

/** Flags of seccomp(2). */
export function knowsFilterFlags(flags: number): boolean {
  return native('int gantry_knows_filter_flags(unsigned int flags)')(flags) === 1;
}

/** The pid of some exited child that nobody has reaped, or 0. */
export function peekExited(): number {
  return checkResult(native('int gantry_peek_exited()')(), 'waitid');
}

export function becomeSubreaper(): void {
  checkResult(native('int gantry_become_subreaper()')(), 'prctl');
}

/** @throws ESRCH */
export function openPidfd(pid: number): number {
  return checkResult(native('int gantry_pidfd_open(int pid)')(pid), 'pidfd_open');
}

/** @throws ESRCH when the process has exited. */
export function signalPidfd(pidfd: number, signal: number): void {
  checkResult(native('int gantry_pidfd_signal(int pidfd, int signal)')(pidfd, signal), 'pidfd_send_signal');
}

export function makeFifoAt(path: string, mode: number): void {
  checkResult(native('int gantry_mkfifo(const char *path, int mode)')(path, mode), 'mkfifo', path);
}

export function pipe(): [number, number] {
  checkResult(native('int gantry_pipe(void *fds)')(pair), 'pipe2');
  return [pair[0] ?? -1, pair[1] ?? -1];
}

export function setFileBlocking(fd: number, blocking: boolean): void {
  checkResult(native('int gantry_set_blocking(int fd, int blocking)')(fd, blocking ? 1 : 0), 'fcntl');
}

export function pendingBytes(fd: number): number {
  return checkResult(native('int gantry_unread_bytes(int fd)')(fd), 'ioctl');
}

export function setTerminalSize(fd: number, rows: number, columns: number): void {
  checkResult(native('int gantry_set_window_size(int fd, int rows, int columns)')(fd, rows, columns), 'ioctl');
}

/** @throws ENOTTY for what is no terminal */
export function terminalSize(fd: number): { rows: number; columns: number } {
  checkResult(native('int gantry_window_size(int fd, void *size)')(fd, pair), 'ioctl');
  return { rows: pair[0] ?? 0, columns: pair[1] ?? 0 };
}

/** Makes a terminal pass every byte through as it is; the result makes it what it was. @throws ENOTTY */
export function makeRaw(fd: number): () => void {
  const settings = Buffer.alloc(TERMIOS_SIZE);
  const mode = native('int gantry_terminal_mode(int fd, void *settings, int raw)');
  checkResult(mode(fd, settings, 1), 'tcsetattr');
  // One that has gone needs nothing any more.
  return () => {
    mode(fd, settings, 0);
  };
}

/** [pid, uid, gid] of the other end. */
export function socketPeer(fd: number): [number, number, number] {
  checkResult(native('int gantry_peer_credentials(int fd, void *credentials)')(fd, triple), 'getsockopt');
  return [triple[0] ?? 0, (triple[1] ?? 0) >>> 0, (triple[2] ?? 0) >>> 0];
}

/** A copy of a descriptor of another process. The caller closes it. @throws EBADF, ESRCH */
export function descriptorOf(pidfd: number, number: number): number {
  return checkResult(native('int gantry_descriptor_of(int pidfd, int number)')(pidfd, number), 'pidfd_getfd');
}

/** Moves a network device between network namespaces, with its addresses. Waits for the kernel's answers. */
export function moveDevice(from: number, to: number, name: string, newName: string): void {
  const fn = native('int gantry_move_device(int from, int to, const char *name, const char *newName)');
  checkResult(fn(from, to, name, newName), 'netlink', name);
}

/** The reading end of a pipe with a byte per out-of-memory notice of a v1 memory cgroup. The caller closes it. */
export function watchOom(cgroup: string): number {
  return checkResult(native('int gantry_watch_oom(const char *path)')(cgroup), 'eventfd', cgroup);
}

/** A descriptor of path resolved inside root. The caller closes it. */
export function openInside(root: string, path: string): number {
  return checkResult(native('int gantry_open_inside(const char *root, const char *path)')(root, path), 'openat2', path);
}

export interface MountArguments {
  readonly source: string;
  /** Descriptor. */
  readonly target: number;
  readonly type: string;
  readonly flags: number;
  readonly data: string;
  /** Where relative paths in data start, or empty. */
  readonly directory: string;
}

/** mount(2). May wait where a filesystem does (network, fsck). */
export function mountOnto({ source, target, type, flags, data, directory }: MountArguments): void {
  const fn = native(
    'int gantry_mount(const char *source, int target, const char *type, uint64_t flags, const char *data, const char *directory)',
  );
  checkResult(fn(source, target, type, flags, data, directory), 'mount', source);
}

/**
 * A copy of the mount at path, attached nowhere. The caller closes it.
 * @param propagation - flags of mount(2) for all of it; 0 keeps that of the mount
 */
export function openMountTree(path: string, recursive: boolean, propagation = 0): number {
  const fn = native('int gantry_open_tree(const char *path, int recursive, uint64_t propagation)');
  return checkResult(fn(path, recursive ? 1 : 0, propagation), 'open_tree', path);
}

/** Attaches such a copy to a descriptor. */
export function attachTree(tree: number, target: number): void {
  checkResult(native('int gantry_attach_tree(int tree, int target)')(tree, target), 'move_mount');
}

/** Shows the files of such a copy with the ids of a user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP). */
export function idmapTree(tree: number, userNamespace: number, recursive: boolean): void {
  const fn = native('int gantry_idmap_tree(int tree, int userNamespace, int recursive)');
  checkResult(fn(tree, userNamespace, recursive ? 1 : 0), 'mount_setattr');
}

export function unmountPath(path: string, lazy: boolean): void {
  checkResult(native('int gantry_unmount(const char *target, int lazy)')(path, lazy ? 1 : 0), 'umount2', path);
}

/** Loads an eBPF program for device access and attaches it to a cgroup v2 directory. */
export function attachDeviceFilter(directory: number, program: Buffer): void {
  const fn = native('int gantry_attach_device_filter(int directory, const void *program, int count)');
  checkResult(fn(directory, program, program.length / 8), 'bpf');
}

function native(definition: string): NativeFunction {
  let fn = functions.get(definition);
  if (fn === undefined) {
    fn = libgantry().func(definition);
    functions.set(definition, fn);
  }
  return fn;
}

/** The init program in a sealed memfd, made once per process. */
function initDescriptor(): number {
  initFile ??= createMemfd('gantry-init', readFileSync(nativeFile('init')), true);
  return initFile;
}
