// The file in which a caller finds the pid of a process: there at once and complete.

import { renameSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

const MODE = 0o644;

export function writePidFile(path: string | undefined, pid: number): void {
  if (path === undefined || path === '') return;
  const temporary = join(dirname(path), `.${basename(path)}`);
  writeFileSync(temporary, String(pid), { mode: MODE });
  renameSync(temporary, path);
}
