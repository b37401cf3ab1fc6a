// Mounts of snapshots: what their options say, and mounting them for a moment.

import { mkdtempSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Mount, mountAll, unmountRecursive } from '../../runtime-native/index';

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

/** The value of the option NAME=VALUE. */
export function optionOf(options: readonly string[], name: string): string | undefined {
  return options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** The value of lowerdir: colons separate, unless escaped (kernel doc, overlayfs). */
export function splitLowers(value: string): string[] {
  return (value.match(/(?:\\.|[^:\\])+/gs) ?? []).map((path) => path.replace(/\\(.)/gs, '$1'));
}
