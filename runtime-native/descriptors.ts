// File descriptors that Node has no calls for: fifos, pipes, terminals, peer credentials. All calls are quick.

import { makeFifoAt, pendingBytes, pipe, setFileBlocking, setTerminalSize, socketPeer } from './native';

interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** mkfifo(3). @throws EEXIST */
export function mkfifo(path: string, mode: number): void {
  makeFifoAt(path, mode);
}

/** [read end, write end], close-on-exec, blocking (as a process wants it): make your own end non-blocking if needed. */
export function openPipe(): [number, number] {
  return pipe();
}

/** Clears or sets O_NONBLOCK of the open file, which all its descriptors share. */
export function setBlocking(fd: number, blocking: boolean): void {
  setFileBlocking(fd, blocking);
}

/** Bytes in a pipe or fifo that nobody has read yet (FIONREAD, pipe(7)). */
export function unreadBytes(fd: number): number {
  return pendingBytes(fd);
}

/** @param fd - a pty's master or slave. */
export function setWindowSize(fd: number, rows: number, columns: number): void {
  setTerminalSize(fd, rows, columns);
}

/** Of the process at the other end of a connected unix socket. */
export function peerCredentials(fd: number): PeerCredentials {
  const [pid, uid, gid] = socketPeer(fd);
  return { pid, uid, gid };
}
