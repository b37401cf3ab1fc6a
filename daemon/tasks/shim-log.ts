// Drains the log fifo of a bundle into the daemon's log and keeps its last lines, which are the best explanation there
// is when a shim fails. The fifo is held open for reading and writing, so that neither side ever sees its end.

import { constants, openSync, statSync } from 'node:fs';
import { Socket } from 'node:net';
import { mkfifo } from '../../runtime-native/index';

const KEPT_LINES_MAX = 20;
const LINE_LENGTH_MAX = 4096;

export class ShimLog {
  private readonly socket: Socket;
  private readonly lines: string[] = [];
  private readonly onLine: (line: string) => void;
  private partial = '';

  private constructor(fd: number, onLine: (line: string) => void) {
    this.onLine = onLine;
    this.socket = new Socket({ fd, readable: true, writable: false });
    this.socket.setEncoding('utf8');
    this.socket.on('data', (chunk: string) => this.take(chunk));
    this.socket.on('error', () => this.socket.destroy());
    this.socket.unref();
  }

  /** Makes the fifo (0700) when it is not there and starts reading. Every complete line goes to `onLine`. */
  static open(path: string, onLine: (line: string) => void): ShimLog {
    if (statSync(path, { throwIfNoEntry: false }) === undefined) mkfifo(path, 0o700);
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    return new ShimLog(fd, onLine);
  }

  /** The last lines that the shim wrote, oldest first. */
  get tail(): readonly string[] {
    return this.partial === '' ? this.lines : [...this.lines, this.partial];
  }

  close(): void {
    this.socket.destroy();
  }

  private take(chunk: string): void {
    const pieces = (this.partial + chunk).split('\n');
    this.partial = (pieces.pop() ?? '').slice(0, LINE_LENGTH_MAX);
    for (const piece of pieces) {
      const line = piece.slice(0, LINE_LENGTH_MAX).trimEnd();
      if (line === '') continue;
      this.lines.push(line);
      if (this.lines.length > KEPT_LINES_MAX) this.lines.shift();
      this.onLine(line);
    }
  }
}
