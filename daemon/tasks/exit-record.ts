// The records in which gantry's shim leaves the exit of each process in the bundle before it tells anybody. They
// answer for a shim that died with the news.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bundle } from './bundle';
import type { Exit, ProcessRecord } from './task-store';

/** The exit of a process in the bundle, or undefined where there is no complete record. */
function readExitRecord(bundle: Bundle, execId: string): Exit | undefined {
  try {
    const name = execId === '' ? 'exit.json' : `exit-${execId}.json`;
    const record = JSON.parse(readFileSync(join(bundle.path, name), 'utf8')) as Record<string, unknown>;
    return {
      pid: Number(record['pid']),
      exitStatus: Number(record['exitStatus']),
      exitedAt: BigInt(record['exitedAt'] as string),
    };
  } catch {
    return undefined;
  }
}

/** How a process ended: as stored, else as its shim recorded, else `fallback`. */
export function exitOf(process: ProcessRecord, bundle: Bundle, fallback: Exit): Exit {
  if (process.status === 'stopped') return process;
  const { pid } = process;
  const record = readExitRecord(bundle, process.execId);
  // A record with another pid is of an earlier exec of the same id.
  if (record !== undefined && (pid === 0 || record.pid === pid)) return record;
  return { ...fallback, pid: pid === 0 ? fallback.pid : pid };
}
