// File descriptors that Node has no calls for: fifos, pipes, terminals, peer credentials. All calls are quick.

import { notImplemented } from '../proto/errors';

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** mkfifo(3). */
export function makeFifo(_path: string, _mode: number): void {
  throw notImplemented('fifo');
}

/**
 * Opens a fifo without waiting for the other side. `read-write` never sees end of file and never blocks; `write` fails
 * with ENXIO while nobody reads. The descriptor is close-on-exec and non-blocking.
 */
export function openFifo(_path: string, _direction: 'read' | 'write' | 'read-write'): number {
  throw notImplemented('fifo');
}

/** [read end, write end], close-on-exec, blocking (as a process wants it): make your own end non-blocking if needed. */
export function openPipe(): [number, number] {
  throw notImplemented('pipe');
}

/** Clears or sets O_NONBLOCK of the open file, which all its descriptors share. */
export function setBlocking(_fd: number, _blocking: boolean): void {
  throw notImplemented('blocking');
}

/** @param fd - a pty's master or slave. */
export function setWindowSize(_fd: number, _rows: number, _columns: number): void {
  throw notImplemented('window size');
}

/** Of the process at the other end of a connected unix socket. */
export function peerCredentials(_fd: number): PeerCredentials {
  throw notImplemented('peer credentials');
}
