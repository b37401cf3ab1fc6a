// Where a pump puts bytes: a fifo or pipe, a regular file, or the input of a terminal. A sink takes one piece at a time;
// who gets a promise waits for it before it offers the next. So nothing is buffered here but that one piece.

import { closeSync, write, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { isErrno } from '../../proto/errors';
import { unreadBytes } from '../../runtime-native/index';

export interface Sink {
  /**
   * Takes the whole piece. Undefined: done, the caller may reuse the memory. A promise: the rest has been copied; it
   * resolves when the sink takes more and rejects when nobody reads the other end any more.
   * @throws the system's error when the first write fails.
   */
  write(piece: Buffer): Promise<void> | undefined;
  /** Closes the descriptors. Idempotent. */
  close(): void;
}

/** How long output waits in a fifo for a client that has not opened it yet. */
const LINGER_MS = 2000;
const LINGER_STEP_MS = 2;
const TERMINAL_RETRY_MS_MIN = 5;
const TERMINAL_RETRY_MS_MAX = 200;

/** A non-blocking pipe or fifo. Written directly; the event loop watches it only while it is full. */
export class PipeSink implements Sink {
  readonly #fd: number;
  readonly #alsoClose: readonly number[];
  #socket: Socket | undefined;
  /** What did not fit is kept here; there is never more than one such rest. */
  #rest: Buffer | undefined;
  #isClosed = false;

  /** @param alsoClose descriptors that live as long as the sink, such as the reading side that keeps a fifo alive. */
  constructor(fd: number, alsoClose: readonly number[] = []) {
    this.#fd = fd;
    this.#alsoClose = alsoClose;
  }

  write(piece: Buffer): Promise<void> | undefined {
    const written = tryWrite(this.#fd, piece);
    return written === piece.length ? undefined : this.#writeLater(piece.subarray(written));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#closeWhenRead(performance.now() + LINGER_MS);
  }

  /**
   * A client may open its fifo after the process has ended, and bytes in a fifo that nobody has open are gone: as long
   * as there are any, the ends stay open for a moment.
   */
  #closeWhenRead(deadline: number): void {
    const [read] = this.#alsoClose;
    if (read !== undefined && performance.now() < deadline && unreadBytes(read) > 0) {
      setTimeout(() => this.#closeWhenRead(deadline), LINGER_STEP_MS).unref();
      return;
    }
    if (this.#socket === undefined) closeSync(this.#fd);
    else this.#socket.destroy();
    for (const fd of this.#alsoClose) closeSync(fd);
  }

  #writeLater(piece: Buffer): Promise<void> {
    // The same memory again and again: garbage outside of V8's heap would be collected late.
    if (this.#rest === undefined || this.#rest.length < piece.length) this.#rest = Buffer.allocUnsafeSlow(piece.length);
    const rest = this.#rest.subarray(0, piece.length);
    piece.copy(rest);
    this.#socket ??= new Socket({ fd: this.#fd, readable: false, writable: true }).on('error', () => {});
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      const onClose = () => reject(new Error('the sink was closed'));
      socket.once('close', onClose);
      socket.write(rest, (error) => {
        socket.off('close', onClose);
        if (error) reject(error);
        else resolve();
      });
    });
  }
}

/** A regular file, appended to on the thread pool: a file system that hangs must not hang the shim. */
export class FileSink implements Sink {
  readonly #fd: number;
  #users: number;
  #last: Promise<void> = Promise.resolve();

  /** @param users how many pumps share the file; the last one to close it does close it. */
  constructor(fd: number, users = 1) {
    this.#fd = fd;
    this.#users = users;
  }

  write(piece: Buffer): Promise<void> {
    const copy = Buffer.from(piece);
    this.#last = this.#last.catch(() => {}).then(() => writeAll(this.#fd, copy));
    return this.#last;
  }

  close(): void {
    this.#users--;
    if (this.#users !== 0) return;
    void this.#last.catch(() => {}).then(() => closeSync(this.#fd)); // The write under way still needs it.
  }
}

/**
 * The master side of a terminal. A terminal whose program does not read takes no more input; libuv would then block, so
 * this retries with a timer. The master belongs to the process, not to the sink.
 */
export class TerminalSink implements Sink {
  readonly #fd: number;
  #timer: NodeJS.Timeout | undefined;
  #cancel: (() => void) | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  write(piece: Buffer): Promise<void> | undefined {
    const written = tryWrite(this.#fd, piece);
    if (written === piece.length) return undefined;
    return this.#writeLater(Buffer.from(piece.subarray(written)));
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#cancel?.();
  }

  #writeLater(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      let rest = bytes;
      let delayMs = TERMINAL_RETRY_MS_MIN;
      this.#cancel = () => reject(new Error('the sink was closed'));
      const retry = () => {
        try {
          const written = tryWrite(this.#fd, rest);
          rest = rest.subarray(written);
          delayMs = written > 0 ? TERMINAL_RETRY_MS_MIN : Math.min(delayMs * 2, TERMINAL_RETRY_MS_MAX);
        } catch (error) {
          reject(error as Error);
          return;
        }
        if (rest.length === 0) resolve();
        else this.#timer = setTimeout(retry, delayMs);
      };
      this.#timer = setTimeout(retry, delayMs);
    });
  }
}

/** How many bytes a non-blocking descriptor took; 0 when it is full. */
function tryWrite(fd: number, bytes: Buffer): number {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    if (isErrno(error, 'EAGAIN')) return 0;
    throw error;
  }
}

async function writeAll(fd: number, bytes: Buffer): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += await new Promise<number>((resolve, reject) => {
      write(fd, bytes, done, bytes.length - done, null, (error, written) => {
        if (error === null) resolve(written);
        else reject(error);
      });
    });
  }
}
