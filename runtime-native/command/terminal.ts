// A process's terminal: handed to the caller over its console socket, or joined with our own while we wait for the
// process.

import { closeSync, openSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { ReadStream, WriteStream } from 'node:tty';
import { messageOf, unknown } from '../../proto/errors';
import { setWindowSize } from '../descriptors';
import { connectAt, sendDescriptor } from '../native';

/** Output that is on its way when the process has ended; somebody else may keep the terminal open. */
const DRAIN_MS = 300;

/** Sends the master over a unix stream socket (SCM_RIGHTS), as runc does. The descriptor stays the caller's. */
export function sendTerminal(path: string, master: number): void {
  let socket = -1;
  let directory = -1;
  try {
    directory = openSync(dirname(path), 'r');
    socket = connectAt(directory, basename(path), 'stream');
    sendDescriptor(socket, master, '/dev/ptmx');
  } catch (error) {
    throw unknown(`console socket ${path}: ${messageOf(error)}`, { cause: error });
  } finally {
    if (socket >= 0) closeSync(socket);
    if (directory >= 0) closeSync(directory);
  }
}

/** Joins our standard input and output with a process's terminal, in raw mode if ours is one as well. */
export class Console {
  private readonly output: ReadStream;
  private readonly input: WriteStream;
  private readonly master: number;
  private readonly ended: Promise<void>;

  /** @param master - belongs to the console from now on */
  constructor(master: number) {
    this.master = master;
    this.output = new ReadStream(master);
    this.input = new WriteStream(master);
    // Without slaves reading fails with EIO.
    this.ended = new Promise((resolve) => {
      this.output.on('error', () => resolve());
      this.output.on('close', () => resolve());
    });
    this.input.on('error', () => {});
    this.output.pipe(process.stdout);
    if (process.stdin.isTTY) process.stdin.setRawMode(true);
    process.stdin.pipe(this.input);
    this.resize();
    process.on('SIGWINCH', () => this.resize());
  }

  /** Gives back our terminal when what the process has written is out. */
  async close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, DRAIN_MS);
      this.output.on('data', () => timer?.refresh());
    });
    await Promise.race([this.ended, late]);
    clearTimeout(timer);
    if (process.stdin.isTTY) process.stdin.setRawMode(false);
    process.stdin.unpipe(this.input);
    process.stdin.pause();
  }

  private resize(): void {
    const { rows, columns } = process.stdout;
    if (rows > 0 && columns > 0) setWindowSize(this.master, rows, columns);
  }
}
