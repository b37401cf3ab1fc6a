// Device nodes: the rules that every container has, and the host's devices for --device and --privileged.

import { lstatSync, readdirSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { usageError } from '../failure';
import type { Device, DeviceRule } from './types';

/** Nothing, except: null, zero, full, tty, random, urandom, console, all of pts, ptmx. */
export const DEFAULT_DEVICE_RULES: readonly DeviceRule[] = [
  { allow: false, access: 'rwm' },
  ...[
    [1, 3],
    [1, 7],
    [1, 5],
    [1, 8],
    [1, 9],
    [5, 0],
    [5, 1],
    [136, undefined],
    [5, 2],
  ].map(([major, minor]) => rule('c', major ?? 0, minor, 'rwm')),
];

export const ALL_DEVICES_RULE: DeviceRule = { allow: true, access: 'rwm' };

const DEVICE_COUNT_MAX = 4096;
const NOT_IN_PRIVILEGED = new Set(['pts', 'shm', 'fd', 'mqueue', 'console', '.lxc', '.lxd-mounts', '.udev', 'net']);

/** One --device: PATH[:PATH_IN_CONTAINER][:ACCESS]. @throws CommandError (usage) */
export function parseDevice(text: string): { device: Device; rule: DeviceRule } {
  const [source = '', second, third] = text.split(':');
  const isAccess = second !== undefined && third === undefined && /^[rwm]+$/.test(second);
  const access = (isAccess ? second : third) ?? 'rwm';
  if (!/^[rwm]{1,3}$/.test(access)) throw usageError(`--device ${text}: access must be made of r, w and m`);
  const stats = statSync(source, { throwIfNoEntry: false });
  if (stats === undefined) throw usageError(`--device ${text}: ${source} does not exist`);
  const device = deviceOf(isAccess || second === undefined ? source : second, stats);
  if (device === undefined) throw usageError(`--device ${text}: ${source} is not a device`);
  return { device, rule: rule(device.type, device.major, device.minor, access) };
}

/** All devices under /dev of the host, except terminals and what is mounted there. */
export function hostDevices(directory = '/dev'): Device[] {
  const found: Device[] = [];
  const walk = (path: string): void => {
    for (const name of readdirSync(path)) {
      if (NOT_IN_PRIVILEGED.has(name) || found.length >= DEVICE_COUNT_MAX) continue;
      const full = join(path, name);
      const stats = lstatSync(full, { throwIfNoEntry: false });
      if (stats === undefined) continue;
      const device = deviceOf(full, stats);
      if (device !== undefined) found.push(device);
      else if (stats.isDirectory()) walk(full);
    }
  };
  walk(directory);
  return found;
}

function deviceOf(path: string, stats: Stats): Device | undefined {
  if (!stats.isBlockDevice() && !stats.isCharacterDevice()) return undefined;
  const { major, minor } = deviceNumbers(stats.rdev);
  const fileMode = stats.mode & 0o7777;
  return { path, type: stats.isBlockDevice() ? 'b' : 'c', major, minor, fileMode, uid: stats.uid, gid: stats.gid };
}

/** makedev(3) backwards, for the numbers that fit in 32 bits. */
export function deviceNumbers(rdev: number): { major: number; minor: number } {
  return { major: (rdev >>> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00) };
}

function rule(type: string, major: number, minor: number | undefined, access: string): DeviceRule {
  return { allow: true, type, major, ...(minor === undefined ? {} : { minor }), access };
}
