// Where the entries of a layer go: straight into the directory that a snapshot's mounts stand for where that is known,
// otherwise into a temporary mount. Mounting costs more than many layers do, and a mount can leak.

import { mkdtempSync, readdirSync, rmdirSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { invalidArgument } from '../../proto/errors';
import { type Mount, mountAll, unmountRecursive } from '../../runtime-native/index';
import type { UnpackTarget } from '../../runtime-native/unpack';
import { isInUserNamespace } from '../../snapshotter/overlayfs';

/** The target that needs no mount, or undefined. */
export function directTarget(mounts: readonly Mount[]): UnpackTarget | undefined {
  const [mount] = mounts;
  if (mount === undefined || mounts.length > 1 || mount.target !== '') return undefined;
  if (mount.type === 'overlay') return overlayTarget(mount.options);
  const isBind = mount.options.some((option) => option === 'bind' || option === 'rbind');
  const isReadOnly = mount.options.includes('ro');
  if (!isBind || isReadOnly || !isAbsolute(mount.source)) return undefined;
  return { root: mount.source, whiteouts: 'delete', lowers: [] };
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
  if (mounts.length === 0) throw invalidArgument('mounts must not be empty');
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
