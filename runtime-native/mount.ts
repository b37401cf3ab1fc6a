// Mounting as containerd.types.Mount means it: what snapshotters return and shims and clients mount.

import { closeSync, readFileSync, realpathSync } from 'node:fs';
import { posix } from 'node:path';
import { invalidArgument, isErrno, messageOf, unknown } from '../proto/errors';
import { errorText } from './failure';
import { bindMapped, splitMappings, withMappedLayers } from './idmapped-mount';
import { mountOnto, openInside, unmountPath } from './native';

export interface Mount {
  readonly type: string;
  readonly source: string;
  /** Path below the directory that is mounted on, or empty. */
  readonly target: string;
  readonly options: readonly string[];
}

interface MountCall {
  readonly flags: number;
  readonly propagation: number;
  readonly data: string;
  /** Where relative paths in data start; empty when there are none. */
  readonly directory: string;
}

const MS_RDONLY = 0x1;
const MS_REMOUNT = 0x20;
const MS_BIND = 0x1000;
const MS_REC = 0x4000;

const SET: Readonly<Record<string, number>> = {
  ro: MS_RDONLY,
  nosuid: 0x2,
  nodev: 0x4,
  noexec: 0x8,
  sync: 0x10,
  remount: MS_REMOUNT,
  mand: 0x40,
  dirsync: 0x80,
  nosymfollow: 0x100,
  noatime: 0x400,
  nodiratime: 0x800,
  bind: MS_BIND,
  rbind: MS_BIND | MS_REC,
  relatime: 0x200000,
  strictatime: 0x1000000,
  lazytime: 0x2000000,
};
const CLEAR: Readonly<Record<string, number>> = {
  rw: MS_RDONLY,
  suid: 0x2,
  dev: 0x4,
  exec: 0x8,
  async: 0x10,
  nomand: 0x40,
  symfollow: 0x100,
  atime: 0x400,
  diratime: 0x800,
  norelatime: 0x200000,
  nostrictatime: 0x1000000,
};
const PROPAGATION: Readonly<Record<string, number>> = {
  unbindable: 0x20000,
  private: 0x40000,
  slave: 0x80000,
  shared: 0x100000,
};
/** mount(2) takes one page of options. */
const DATA_BYTES_MAX = 4095;
const UNMOUNT_ROUNDS_MAX = 64;

/** Mounts in order on target (an existing directory). What was mounted is unmounted again on failure. @throws UNKNOWN */
export function mountAll(mounts: readonly Mount[], target: string): void {
  let done = 0;
  try {
    for (const mount of mounts) {
      mountOne(mount, target);
      done++;
    }
  } catch (error) {
    if (done > 0) unmountRecursive(target);
    throw error;
  }
}

/** Unmounts everything at and below target, innermost first. Idempotent; lazy when busy. @throws UNKNOWN */
export function unmountRecursive(target: string): void {
  const path = realPath(target);
  if (path === undefined) return;
  // Mounts may hide others, which come to light when they go.
  for (let round = 0; round < UNMOUNT_ROUNDS_MAX; round++) {
    const points = mountPointsBelow(readFileSync('/proc/self/mountinfo', 'utf8'), path);
    if (points.length === 0) return;
    for (const point of points.reverse()) unmountOne(point);
  }
  throw unknown(`unmount ${target}: new mounts keep appearing`);
}

/** Mount points at and below path, in the order in which they were mounted. */
export function mountPointsBelow(mountinfo: string, path: string): string[] {
  return mountinfo.split('\n').flatMap((line) => {
    const escaped = line.split(' ')[4];
    if (escaped === undefined) return [];
    const point = escaped.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
      String.fromCharCode(Number.parseInt(digits, 8)),
    );
    return point === path || point.startsWith(path === '/' ? '/' : `${path}/`) ? [point] : [];
  });
}

/** The arguments of mount(2) for the options of a mount. @throws INVALID_ARGUMENT for options too long */
export function mountCall(type: string, options: readonly string[]): MountCall {
  let flags = type === 'bind' ? MS_BIND : type === 'rbind' ? MS_BIND | MS_REC : 0;
  let propagation = 0;
  const data: string[] = [];
  for (const option of options) {
    const recursive = option.startsWith('r') ? PROPAGATION[option.slice(1)] : undefined;
    const direct = PROPAGATION[option];
    if (SET[option] !== undefined) flags |= SET[option];
    else if (CLEAR[option] !== undefined) flags &= ~CLEAR[option];
    else if (direct !== undefined) propagation |= direct;
    else if (recursive !== undefined) propagation |= recursive | MS_REC;
    else if (option === 'loop') throw invalidArgument('mount option "loop" is not supported');
    else if (option !== 'defaults' && !option.startsWith('X-containerd.')) data.push(option);
  }
  const text = data.join(',');
  if (Buffer.byteLength(text) <= DATA_BYTES_MAX) return { flags, propagation, data: text, directory: '' };
  return { flags, propagation, ...shortened(data) };
}

/** The lower directories of an overlay, relative to the directory that they have in common. */
function shortened(options: readonly string[]): { data: string; directory: string } {
  const index = options.findIndex((option) => option.startsWith('lowerdir='));
  const lower = options[index]?.slice('lowerdir='.length).split(':') ?? [];
  const directory = commonDirectory(lower);
  const data = options.map((option, at) =>
    at === index ? `lowerdir=${lower.map((path) => posix.relative(directory, path)).join(':')}` : option,
  );
  const text = data.join(',');
  if (directory === '' || Buffer.byteLength(text) > DATA_BYTES_MAX) {
    throw invalidArgument(`mount options are longer than ${DATA_BYTES_MAX} bytes`);
  }
  return { data: text, directory };
}

function commonDirectory(paths: readonly string[]): string {
  let common = posix.dirname(paths[0] ?? '');
  while (common !== '/' && common !== '.' && !paths.every((path) => path.startsWith(`${common}/`))) {
    common = posix.dirname(common);
  }
  return common.startsWith('/') && paths.every((path) => path.startsWith('/')) ? common : '';
}

function mountOne(mount: Mount, target: string): void {
  const { mappings, options } = splitMappings(mount.options);
  if (mappings !== undefined && !isBindMount(mount.type, options)) {
    withMappedLayers(options, mappings, (mapped) => mountOne({ ...mount, options: mapped }, target));
    return;
  }
  const { flags, propagation, data, directory } = mountCall(mount.type, options);
  const isBind = (flags & MS_BIND) !== 0;
  const type = isBind ? 'bind' : mount.type;
  const { source } = mount;
  try {
    onTarget(target, mount.target, (fd) => {
      // A bind mount takes its flags only when it is remounted.
      if (mappings !== undefined) bindMapped(source, fd, (flags & MS_REC) !== 0, mappings);
      else mountOnto({ source, target: fd, type, flags: isBind ? flags & (MS_BIND | MS_REC) : flags, data, directory });
    });
    const remountFlags = isBind ? flags & ~(MS_BIND | MS_REC | MS_REMOUNT) : 0;
    if (remountFlags !== 0) again(target, mount.target, remountFlags | MS_BIND | MS_REMOUNT);
    if (propagation !== 0) again(target, mount.target, propagation);
  } catch (error) {
    const where = posix.join(target, mount.target);
    throw unknown(`failed to mount ${mount.type} "${source}" on ${where}: ${errorText(error)}`, { cause: error });
  }
}

function isBindMount(type: string, options: readonly string[]): boolean {
  return (mountCall(type, options).flags & MS_BIND) !== 0;
}

/** Changes the mount that lies on the target now. */
function again(target: string, inner: string, flags: number): void {
  onTarget(target, inner, (fd) => {
    mountOnto({ source: 'none', target: fd, type: 'none', flags, data: '', directory: '' });
  });
}

function onTarget(target: string, inner: string, body: (fd: number) => void): void {
  const fd = openInside(target, inner);
  try {
    body(fd);
  } finally {
    closeSync(fd);
  }
}

function unmountOne(point: string): void {
  try {
    unmountPath(point, false);
  } catch (error) {
    if (isErrno(error, 'EINVAL', 'ENOENT')) return;
    if (!isErrno(error, 'EBUSY')) throw unknown(`unmount ${point}: ${messageOf(error)}`, { cause: error });
    unmountPath(point, true);
  }
}

function realPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}
