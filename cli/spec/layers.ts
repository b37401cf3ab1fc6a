// Reads single files of a root filesystem that is not mounted, straight from the directories behind its mounts, as
// overlayfs would merge them: the uppermost layer that has a name decides, a 0:0 character device is a whiteout
// (Documentation/filesystems/overlayfs.rst). Symbolic links are followed inside the root only, and nothing but regular
// files of limited size is read. Opaque markers are extended attributes, which Node cannot read: a name below a
// directory that a layer replaced as a whole is looked for in the layers below it as well.

import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import type { Input } from '../../proto/codec';
import { isErrno } from '../../proto/errors';
import type { Mount } from '../../proto/generated/containerd.types';

const FILE_BYTES_MAX = 4 * 1024 * 1024;
const LINKS_MAX = 40;

/** The directories behind the mounts, uppermost first; undefined for a kind of mount that is not made of directories. */
export function layersOf(mounts: readonly Input<Mount>[]): string[] | undefined {
  const [mount] = mounts;
  if (mount === undefined || mounts.length !== 1) return undefined;
  if (mount.type === 'bind' && mount.source !== undefined) return [mount.source];
  if (mount.type !== 'overlay') return undefined;
  const value = (name: string): string | undefined =>
    mount.options?.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);
  const lower = (value('lowerdir') ?? '').split(/(?<!\\):/).map((path) => path.replaceAll('\\:', ':'));
  return [value('upperdir') ?? '', ...lower].filter((path) => path !== '');
}

/** The text of a file, or undefined when there is no such regular file in the root. */
export function readFromLayers(layers: readonly string[], path: string): string | undefined {
  const found = resolveIn(layers, path);
  if (found === undefined || !found.stats.isFile()) return undefined;
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const fd = openSync(found.path, flags);
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile() || stats.size > FILE_BYTES_MAX) return undefined;
    const buffer = Buffer.alloc(stats.size);
    return buffer.toString('utf8', 0, readSync(fd, buffer));
  } finally {
    closeSync(fd);
  }
}

function resolveIn(layers: readonly string[], path: string): { path: string; stats: Stats } | undefined {
  const todo = parts(path);
  let done: string[] = [];
  let links = 0;
  let found: { path: string; stats: Stats } | undefined;
  for (let name = todo.shift(); name !== undefined; name = todo.shift()) {
    if (name === '..') {
      done.pop();
      continue;
    }
    found = lookup(layers, [...done, name]);
    if (found === undefined) return undefined;
    if (!found.stats.isSymbolicLink()) {
      done.push(name);
      continue;
    }
    links += 1;
    if (links > LINKS_MAX) return undefined;
    const target = readlinkSync(found.path);
    if (target.startsWith('/')) done = [];
    todo.unshift(...parts(target));
  }
  return found;
}

/** The uppermost entry of that name. The directories above it were looked up before, so none of them is a link here. */
function lookup(layers: readonly string[], names: readonly string[]): { path: string; stats: Stats } | undefined {
  for (const layer of layers) {
    const kind = statBelow(layer, names);
    if (kind === 'hidden') return undefined;
    if (kind !== 'absent') return { path: join(layer, ...names), stats: kind };
  }
  return undefined;
}

/** Walks one layer component by component, so that a link in a lower layer is never followed on the host. */
function statBelow(layer: string, names: readonly string[]): Stats | 'absent' | 'hidden' {
  let path = layer;
  for (const [index, name] of names.entries()) {
    path = join(path, name);
    let stats: Stats;
    try {
      stats = lstatSync(path);
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return 'absent';
      throw error;
    }
    if (stats.isCharacterDevice() && stats.rdev === 0) return 'hidden';
    if (index === names.length - 1) return stats;
    if (!stats.isDirectory()) return 'hidden';
  }
  return 'absent';
}

function parts(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}
