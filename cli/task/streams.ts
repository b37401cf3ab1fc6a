// Connects this process's standard streams with the named pipes of a container's process. Both sides open without
// blocking, so it does not matter who comes first: the readers are opened read-only, the writer read-write, which
// succeeds without a reader (fifo(7)).

import { closeSync, constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Stdio } from './stdio';

const DETACH_KEYS = [0x10, 0x11];
/** How long to wait, after the process is gone and deleted, for output still held by somebody else. */
const DRAIN_MS = 10_000;

export interface StreamEvents {
  /** Local standard input ended; everything was passed on. */
  readonly onInputEnd: () => void;
  /** The keys ctrl-P ctrl-Q were typed. */
  readonly onDetach: () => void;
  /** Nobody reads our standard output any more. */
  readonly onOutputLost: () => void;
}

/**
 * Opens the pipes of a process that nobody stands in front of, while it is created: a shim may wait for somebody to
 * read, and holds both ends open itself from then on. Returns what closes them again.
 */
export function holdOpen(stdio: Stdio): () => void {
  const paths = [stdio.stdin, stdio.stdout, stdio.stderr].filter((path) => path.startsWith('/'));
  const fds = paths.map((path) => openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
  return () => {
    for (const fd of fds) closeSync(fd);
  };
}

/** The open pipes of one process. */
export class Streams {
  readonly #outputs: Socket[] = [];
  readonly #input: Socket | undefined;
  readonly #ended: Promise<unknown>;
  readonly #events: StreamEvents;
  readonly #terminal: boolean;

  /** Opens the pipes; they must exist. Data flows from here on. */
  constructor(stdio: Stdio, events: StreamEvents) {
    this.#events = events;
    this.#terminal = stdio.terminal;
    const ends = [this.#read(stdio.stdout, process.stdout), this.#read(stdio.stderr, process.stderr)];
    this.#ended = Promise.all(ends);
    if (stdio.stdin.startsWith('/')) this.#input = this.#write(stdio.stdin);
  }

  /** Starts to pass local input on. */
  forwardInput(): void {
    const input = this.#input;
    if (input === undefined) return;
    const detach = this.#terminal ? new DetachKeys() : undefined;
    process.stdin.on('data', (data: Buffer) => {
      const rest = detach === undefined ? data : detach.filter(data);
      if (rest.length > 0 && !input.write(rest)) process.stdin.pause();
      if (detach?.seen === true) this.#events.onDetach();
    });
    input.on('drain', () => process.stdin.resume());
    process.stdin.on('error', () => input.end());
    process.stdin.on('end', () => input.end());
    input.on('close', () => this.#events.onInputEnd());
  }

  /** Resolves when all output has arrived, or after a limit. Call it once the process is deleted. */
  async drained(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, DRAIN_MS);
    await Promise.race([this.#ended, promise]);
    clearTimeout(timer);
  }

  close(): void {
    for (const socket of [...this.#outputs, this.#input]) socket?.destroy();
    process.stdin.pause();
  }

  #read(path: string, target: NodeJS.WriteStream): Promise<void> {
    if (!path.startsWith('/')) return Promise.resolve();
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const socket = new Socket({ fd, readable: true, writable: false });
    this.#outputs.push(socket);
    target.on('error', () => {
      // The reader is gone. What still comes is thrown away, so that the process is not blocked by a full pipe.
      socket.unpipe(target);
      socket.resume();
      this.#events.onOutputLost();
    });
    socket.pipe(target, { end: false });
    return new Promise((resolve) => {
      socket.once('close', () => resolve());
      socket.once('error', () => resolve());
    });
  }

  #write(path: string): Socket {
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    const socket = new Socket({ fd, readable: false, writable: true });
    socket.on('error', () => socket.destroy());
    return socket;
  }
}

/** Takes the detach keys out of what is typed. A first key alone is held back until the next one decides. */
export class DetachKeys {
  #matched = 0;
  seen = false;

  filter(data: Buffer): Buffer {
    const out: number[] = [];
    for (const byte of data) {
      if (byte === DETACH_KEYS[this.#matched]) {
        this.#matched += 1;
        if (this.#matched < DETACH_KEYS.length) continue;
        this.seen = true;
        break;
      }
      out.push(...DETACH_KEYS.slice(0, this.#matched));
      this.#matched = byte === DETACH_KEYS[0] ? 1 : 0;
      if (this.#matched === 0) out.push(byte);
    }
    return Buffer.from(out);
  }
}
