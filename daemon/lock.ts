// One daemon per root directory: a lock that the kernel drops when the process ends, however it ends. SQLite's file
// lock is used for it, because Node has no flock and the daemon does not load native code of its own.

import { chmodSync } from 'node:fs';
import Sqlite from 'better-sqlite3';
import { failedPrecondition, isErrno } from '../proto/errors';

export interface Lock {
  release(): void;
}

/** @throws FAILED_PRECONDITION when another process holds it, and what the file system says */
export function lockFile(path: string): Lock {
  const connection = new Sqlite(path, { timeout: 0 });
  try {
    connection.pragma('journal_mode = MEMORY');
    connection.exec('BEGIN EXCLUSIVE');
    chmodSync(path, 0o600);
  } catch (error) {
    connection.close();
    if (isErrno(error, 'SQLITE_BUSY')) throw failedPrecondition(`"${path}" is locked by another process`);
    throw error;
  }
  return { release: () => connection.close() };
}
