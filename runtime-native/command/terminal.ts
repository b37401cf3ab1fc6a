// A process's terminal for the caller: sent over its console socket.

import { closeSync, openSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { messageOf, unknown } from '../../proto/errors';
import { connectAt, sendDescriptor, terminalSize } from '../native';
import type { Process } from '../spec';

const STDOUT = 1;

/** What our own terminal has; undefined when it has none, or we have no terminal. */
export function ownTerminalSize(): NonNullable<Process['consoleSize']> | undefined {
  try {
    const { rows, columns } = terminalSize(STDOUT);
    return rows > 0 && columns > 0 ? { height: rows, width: columns } : undefined;
  } catch {
    // No terminal.
    return undefined;
  }
}

/** A process whose terminal is to be joined with ours starts with the size of ours. */
export function withTerminalSize(process: Process): Process {
  const consoleSize = process.terminal && process.consoleSize === undefined ? ownTerminalSize() : undefined;
  return consoleSize === undefined ? process : { ...process, consoleSize };
}

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
