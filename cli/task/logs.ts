// Prints the log file of a container: all of it or its last lines, and what is added to it later.

import { watch } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

const CHUNK_BYTES = 64 * 1024;
/** Looked at also without a notification, as some filesystems send none. */
const POLL_MS = 500;

export interface LogOptions {
  /** Lines from the end to begin with; undefined = all. */
  readonly tail?: number | undefined;
  /** Go on until aborted; what was written before that is still printed. */
  readonly signal?: AbortSignal | undefined;
}

/** Prints a log. @throws errno errors when the file cannot be read. */
export async function printLog(path: string, options: LogOptions): Promise<void> {
  const file = await open(path, 'r');
  try {
    const start = options.tail === undefined ? 0 : await startOfTail(file, options.tail);
    await copyFrom(file, start);
  } finally {
    await file.close();
  }
}

/** Prints a log and what is added until the signal aborts. Safe to start before there is anything. */
export async function followLog(path: string, options: LogOptions & { signal: AbortSignal }): Promise<void> {
  const file = await open(path, 'r');
  const { signal } = options;
  let wake = Promise.withResolvers<void>();
  const changed = (): void => wake.resolve();
  const watcher = watch(path, changed);
  watcher.on('error', () => watcher.close());
  const timer = setInterval(changed, POLL_MS);
  signal.addEventListener('abort', changed, { once: true });
  try {
    let position = options.tail === undefined ? 0 : await startOfTail(file, options.tail);
    for (;;) {
      const isLast = signal.aborted;
      wake = Promise.withResolvers<void>();
      if (isLast) wake.resolve();
      position = await copyFrom(file, position);
      if (isLast) return;
      await wake.promise;
    }
  } finally {
    clearInterval(timer);
    watcher.close();
    await file.close();
  }
}

/** Copies to standard output from a position to the end; returns the new position. */
async function copyFrom(file: FileHandle, start: number): Promise<number> {
  const buffer = Buffer.alloc(CHUNK_BYTES);
  let position = start;
  // A log that was cut short begins anew.
  if ((await file.stat()).size < position) position = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
    if (bytesRead === 0) return position;
    position += bytesRead;
    const data = Buffer.from(buffer.subarray(0, bytesRead));
    if (!process.stdout.write(data)) await new Promise((resolve) => process.stdout.once('drain', resolve));
  }
}

/** Position of the first of the last `count` lines, found by reading backwards. */
export async function startOfTail(file: FileHandle, count: number): Promise<number> {
  const { size } = await file.stat();
  if (count === 0) return size;
  const buffer = Buffer.alloc(CHUNK_BYTES);
  let end = size;
  let lines = 0;
  while (end > 0) {
    const start = Math.max(0, end - CHUNK_BYTES);
    const { bytesRead } = await file.read(buffer, 0, end - start, start);
    for (let index = bytesRead - 1; index >= 0; index -= 1) {
      const isLastByte = start + index === size - 1;
      if (buffer[index] !== 0x0a || isLastByte) continue;
      lines += 1;
      if (lines === count) return start + index + 1;
    }
    end = start;
  }
  return 0;
}
