// The local terminal: raw mode while a container's terminal is attached, its size, and the certainty that it is put
// back however this process ends (short of SIGKILL).

import { CommandError, EXIT } from '../failure';

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** The size of the terminal that shows our output, if one does. */
export function terminalSize(): Size | undefined {
  const stream = [process.stdout, process.stderr].find((candidate) => candidate.isTTY);
  if (stream === undefined) return undefined;
  const [width, height] = stream.getWindowSize();
  return width > 0 && height > 0 ? { width, height } : undefined;
}

/** @throws CommandError when -t and -i are asked for without a terminal to pass on. */
export function requireTerminal(): void {
  if (!process.stdin.isTTY) {
    throw new CommandError('-t with -i needs a terminal as standard input; leave out -t', EXIT.runFailed);
  }
}

/** Raw mode until `restore` is called or the process ends. */
export function enterRawMode(): { restore: () => void } {
  const { stdin } = process;
  if (!stdin.isTTY) return { restore: () => undefined };
  const restore = (): void => {
    process.off('exit', restore);
    if (stdin.isTTY) stdin.setRawMode(false);
  };
  process.on('exit', restore);
  stdin.setRawMode(true);
  return { restore };
}

/** Calls back with each new size; returns what stops that. */
export function onResize(listener: (size: Size) => void): () => void {
  const report = (): void => {
    // The streams learn of a new size by the same signal, maybe later than this handler.
    setImmediate(() => {
      const size = terminalSize();
      if (size !== undefined) listener(size);
    });
  };
  process.on('SIGWINCH', report);
  return () => process.off('SIGWINCH', report);
}
