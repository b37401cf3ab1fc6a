// Exit status of a process and its record in the bundle. The record is what survives the death of the shim, so it is
// written before anybody is told.

import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '../proto/errors';

export interface Exit {
  readonly pid: number;
  /** The exit code, or 128 plus the number of the signal. */
  readonly exitStatus: number;
  readonly exitedAtNs: bigint;
}

/** Status of a process that was killed and whose own status nobody has seen: 128 + SIGKILL. */
export const STATUS_KILLED = 137;

/** Writes the record of init, or of an exec, so that readers see all of it or nothing. */
export function writeExitRecord(bundle: string, execId: string | undefined, exit: Exit): void {
  const path = recordPath(bundle, execId);
  const { pid, exitStatus, exitedAtNs } = exit;
  writeFileSync(`${path}.tmp`, JSON.stringify({ pid, exitStatus, exitedAt: String(exitedAtNs) }), { mode: 0o600 });
  renameSync(`${path}.tmp`, path);
}

/** The record, or undefined when there is none. @throws SyntaxError when it is not one of ours. */
export function readExitRecord(bundle: string, execId?: string): Exit | undefined {
  let text: string;
  try {
    text = readFileSync(recordPath(bundle, execId), 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  const { pid, exitStatus, exitedAt } = JSON.parse(text) as { pid: number; exitStatus: number; exitedAt: string };
  return { pid, exitStatus, exitedAtNs: BigInt(exitedAt) };
}

function recordPath(bundle: string, execId: string | undefined): string {
  return join(bundle, execId === undefined ? 'exit.json' : `exit-${execId}.json`);
}
