// Where the entries of a layer go: straight into the directory that a snapshot's mounts stand for where that is known,
// otherwise into a temporary mount. Mounting costs more than many layers do, and a mount can leak.

import { mkdtempSync, readdirSync, rmdirSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { failedPrecondition, invalidArgument } from '../../proto/errors';
import { type Mount, mountAll, unmountRecursive } from '../../runtime-native/index';
import type { UnpackTarget } from '../../runtime-native/unpack';
import { isInUserNamespace } from '../../snapshotter/overlayfs';

/**
 * The target that needs no mount, or undefined.
 * @throws FAILED_PRECONDITION for mounts that cannot be written
 */
export function directTarget(mounts: readonly Mount[]): UnpackTarget | undefined {
  const last = mounts.at(-1);
  if (last === undefined) throw invalidArgument('mounts must not be empty');
  if (last.options.includes('ro') || (last.type === 'overlay' && optionOf(last.options, 'upperdir') === undefined)) {
    throw failedPrecondition(`${last.type} mount of "${last.source}": read-only file system`);
  }
  if (mounts.length > 1 || last.target !== '') return undefined;
  if (last.type === 'overlay') return overlayTarget(last.options);
  const isBind = last.options.some((option) => option === 'bind' || option === 'rbind');
  return isBind && isAbsolute(last.source) ? { root: last.source, whiteouts: 'delete', lowers: [] } : undefined;
}

/**
 * Mounts in a directory of its own below `directory` for as long as `body` runs.
 * @throws what mounting or `body` throws; nothing stays mounted
 */
export async function withMount<T>(
  mounts: readonly Mount[],
  directory: string,
  body: (root: string) => Promise<T>,
): Promise<T> {
  const path = mkdtempSync(join(directory, 'mount-'));
  try {
    mountAll([...mounts], path);
    return await body(path);
  } finally {
    unmountRecursive(path);
    // Only ever an empty directory: what is mounted there must not be removed with it.
    rmdirSync(path);
  }
}

/** Unmounts and removes what a killed daemon left below `directory`. */
export function clearMounts(directory: string): void {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    unmountRecursive(path);
    rmdirSync(path);
  }
}

/** The kernel reads whiteouts from the upper directory as devices 0:0, which a user namespace cannot make. */
function overlayTarget(options: readonly string[]): UnpackTarget | undefined {
  const upper = optionOf(options, 'upperdir');
  if (upper === undefined || !isAbsolute(upper) || isInUserNamespace()) return undefined;
  const lowers = splitLowers(optionOf(options, 'lowerdir') ?? '');
  return { root: upper, whiteouts: options.includes('userxattr') ? 'overlay-user' : 'overlay', lowers };
}

function optionOf(options: readonly string[], name: string): string | undefined {
  return options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** Colons separate, unless escaped (kernel doc, overlayfs). */
function splitLowers(value: string): string[] {
  return (value.match(/(?:\\.|[^:\\])+/gs) ?? []).map((path) => path.replace(/\\(.)/gs, '$1'));
}
