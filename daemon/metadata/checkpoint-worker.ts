// Worker thread of checkpointer.ts: one connection of its own, one checkpoint per message. synchronous=FULL makes
// SQLite sync the WAL before it copies pages and the database file afterwards.

import { parentPort, workerData } from 'node:worker_threads';
import Sqlite from 'better-sqlite3';

const BUSY_TIMEOUT_MS = 10_000;

const connection = new Sqlite(workerData as string, { timeout: BUSY_TIMEOUT_MS, fileMustExist: true });
connection.pragma('synchronous = FULL');
connection.pragma('wal_autocheckpoint = 0');

parentPort?.on('message', (mode: string) => {
  if (mode === 'END') {
    connection.close();
    parentPort?.close();
    return;
  }
  // The bulk is copied without any lock that a writer wants; only the remainder is copied while writers wait.
  const row = connection.pragma('wal_checkpoint(PASSIVE)');
  if (mode === 'RESTART') connection.pragma('wal_checkpoint(RESTART)');
  parentPort?.postMessage(row);
});
