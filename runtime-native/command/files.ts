// Descriptors beyond standard input and output that a caller hands through to the container's process.

import { statSync } from 'node:fs';
import { unknown } from '../../proto/errors';
import type { Process } from '../spec';
import type { Flags } from './flags';

const FIRST = 3;
/** launch.c takes 64, of which some are its own. */
const FILES_MAX = 48;

export interface PassedFiles {
  readonly files: readonly number[];
  /** What the process is told of them (sd_listen_fds(3)). */
  readonly env: readonly string[];
}

/**
 * Those of socket activation, then as many as --preserve-fds says.
 * @throws UNKNOWN for one that the caller has not opened
 */
export function passedFiles(flags: Flags): PassedFiles {
  const listening = listenCount();
  const preserved = flags.count('preserve-fds') ?? 0;
  const count = listening + preserved;
  if (preserved < 0 || count > FILES_MAX) throw unknown(`preserve-fds: at most ${FILES_MAX} descriptors can be passed`);
  const files = Array.from({ length: count }, (_, index) => FIRST + index);
  for (const fd of files)
    if (!isInherited(fd)) throw unknown(`unable to stat preserved-fd ${fd} (of ${count}): not open`);
  return { files, env: listening === 0 ? [] : [`LISTEN_FDS=${listening}`, 'LISTEN_PID=1'] };
}

export function withEnvironment(process: Process, env: readonly string[]): Process {
  return env.length === 0 ? process : { ...process, env: [...(process.env ?? []), ...env] };
}

function listenCount(): number {
  const { LISTEN_PID: pid, LISTEN_FDS: count } = process.env;
  return Number(pid) === process.pid && /^\d+$/.test(count ?? '') ? Number(count) : 0;
}

/** Node has opened files of its own, which must not be mistaken for the caller's: the launcher has counted those. */
function isInherited(fd: number): boolean {
  const counted = process.env['GANTRY_INHERITED_FILES'];
  if (counted !== undefined) return fd < FIRST + Number(counted);
  return statSync(`/proc/self/fd/${fd}`, { throwIfNoEntry: false }) !== undefined;
}
