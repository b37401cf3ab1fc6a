// A process's terminal for the caller: sent over its console socket.

import { closeSync, openSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { messageOf, unknown } from '../../proto/errors';
import { connectAt, sendDescriptor } from '../native';

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
