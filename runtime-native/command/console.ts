// A process's terminal joined with our own standard input and output while we wait for the process.

import { ReadStream, WriteStream } from 'node:tty';
import { setWindowSize } from '../descriptors';
import { makeRaw } from '../native';
import { ownTerminalSize } from './terminal';

const STDIN = 0;
/** Output that is on its way when the process has ended; somebody else may keep the terminal open. */
const DRAIN_MS = 300;

/** Joins our standard input and output with a process's terminal, in raw mode if ours is one as well. */
export class Console {
  private readonly output: ReadStream;
  private readonly input: WriteStream;
  private readonly master: number;
  private readonly ended: Promise<void>;
  /** Gives our terminal its settings back. */
  private restore = () => {};

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
    if (process.stdin.isTTY) this.restore = makeRaw(STDIN);
    process.on('exit', () => this.restore());
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
    this.restore();
    process.stdin.unpipe(this.input);
    process.stdin.pause();
  }

  private resize(): void {
    const size = ownTerminalSize();
    if (size !== undefined) setWindowSize(this.master, size.height, size.width);
  }
}
