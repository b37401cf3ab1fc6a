// Sockets in the file system: a file may be there without a server behind it (unix(7)).

import { unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { isErrno } from '../errors';

/** False when nobody accepts connections on the socket, or there is none. */
export function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', (error) => resolve(!isErrno(error, 'ECONNREFUSED', 'ENOENT')));
  });
}

/** Does nothing when there is none. */
export function removeSocket(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

/** Removes a socket unless somebody listens on it. */
export async function removeDeadSocket(path: string): Promise<void> {
  if (!(await isListening(path))) removeSocket(path);
}
