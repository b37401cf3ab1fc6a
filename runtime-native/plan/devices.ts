// Nodes and links in /dev: those that every container has (runtime-spec config-linux, default devices) and those of the
// configuration.

import type { Device } from '../spec';
import type { Operation } from './operations';

const TYPE_BITS: Readonly<Record<string, number>> = { c: 0o020000, u: 0o020000, b: 0o060000, p: 0o010000 };
const DEFAULT_MODE = 0o666;
const MODE_MASK = 0o7777;

const DEFAULT_NODES: readonly (readonly [string, number, number])[] = [
  ['null', 1, 3],
  ['zero', 1, 5],
  ['full', 1, 7],
  ['random', 1, 8],
  ['urandom', 1, 9],
  ['tty', 5, 0],
];

const LINKS: readonly (readonly [string, string])[] = [
  ['/proc/self/fd', 'fd'],
  ['/proc/self/fd/0', 'stdin'],
  ['/proc/self/fd/1', 'stdout'],
  ['/proc/self/fd/2', 'stderr'],
];

/** @param bind - binds a node of the host where none can be made (user namespaces) */
export function compileDevices(
  devices: readonly Device[],
  hasKcore: boolean,
  bind?: (path: string) => Operation,
): Operation[] {
  const operations: Operation[] = [];
  const given = new Set(devices.map((device) => device.path));
  for (const [name, major, minor] of DEFAULT_NODES) {
    const path = `/dev/${name}`;
    if (given.has(path)) continue;
    operations.push(bind?.(path) ?? node(path, DEFAULT_MODE | 0o020000, [major, minor], [0, 0]));
  }
  for (const device of devices) {
    // devpts has its own, and the console is the terminal's.
    if (device.path === '/dev/ptmx' || device.path === '/dev/pts/ptmx') continue;
    if (bind !== undefined && device.type !== 'p') {
      operations.push(bind(device.path));
      continue;
    }
    const mode = (TYPE_BITS[device.type] ?? 0) | ((device.fileMode ?? DEFAULT_MODE) & MODE_MASK);
    const number = [device.major ?? 0, device.minor ?? 0] as const;
    operations.push(node(device.path, mode, number, [device.uid ?? 0, device.gid ?? 0]));
  }
  operations.push({ op: 'symlink', target: 'pts/ptmx', path: '/dev/ptmx', replace: true });
  for (const [target, name] of hasKcore ? [...LINKS, ['/proc/kcore', 'core'] as const] : LINKS) {
    operations.push({ op: 'symlink', target, path: `/dev/${name}`, replace: false });
  }
  return operations;
}

function node(
  path: string,
  mode: number,
  [major, minor]: readonly [number, number],
  [uid, gid]: readonly [number, number],
): Operation {
  return { op: 'device', path, mode, major, minor, uid, gid };
}
