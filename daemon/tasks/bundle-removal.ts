// Removes a bundle without ever following a mount: a removal that walked into a mounted root file system would delete
// the image's or the host's files.

import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { failedPrecondition } from '../../proto/errors';
import { unmountRecursive } from '../../runtime-native/index';
import type { Bundle } from './bundle';

/** @throws FAILED_PRECONDITION when something stays mounted below the bundle, which is then left alone. */
export async function removeBundle(bundle: Bundle): Promise<void> {
  unmountBelow(bundle.path);
  await bundle.remove();
}

/** As removeBundle, for a directory that an interrupted removal left behind. */
export async function removeTree(path: string): Promise<void> {
  unmountBelow(path);
  await rm(path, { recursive: true, force: true });
}

function unmountBelow(path: string): void {
  const mounts = mountsBelow(path);
  for (const mount of mounts) unmountRecursive(mount);
  const left = mounts.length === 0 ? [] : mountsBelow(path);
  if (left.length > 0) throw failedPrecondition(`${path}: ${left.join(', ')} still mounted`);
}

/** Mount points at or below a path, deepest first (proc_pid_mountinfo(5)). */
function mountsBelow(path: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => unescapeOctal(line.split(' ')[4] ?? ''))
    .filter((mountPoint) => mountPoint === path || mountPoint.startsWith(`${path}/`))
    .reverse();
}

function unescapeOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
