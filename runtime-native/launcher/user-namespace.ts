// User namespaces from the launcher's side: ids for new ones, namespaces that id-map mounts, and which of a container's
// namespaces a further process has to enter.

import { closeSync, openSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { isErrno, messageOf, unknown } from '../../proto/errors';
import { launch } from '../launch';
import { NAMESPACE_FLAGS } from '../native';
import type { ContainerEntry } from '../plan/plan';
import type { IdMapping, Linux } from '../spec';

export interface IdMappings {
  readonly uid: readonly IdMapping[];
  readonly gid: readonly IdMapping[];
}

const HELPER_TIMEOUT_MS = 10_000;
const WHOLE_RANGE = 4_294_967_295;
/** What an exec or hook enters besides the pid namespace, into which it is born. */
const CONTAINER_NAMESPACES = ['mount', 'network', 'ipc', 'uts', 'cgroup'];
const FILE_NAMES: Readonly<Record<string, string>> = { mount: 'mnt', network: 'net' };

/** Whether this process may make namespaces, cgroups and nodes without a user namespace. */
export function isPrivileged(): boolean {
  return process.geteuid?.() === 0;
}

let inUserNamespace: boolean | undefined;

/** In a user namespace nodes cannot be made, whoever we are. */
export function runsInUserNamespace(): boolean {
  inUserNamespace ??= !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'));
  return inUserNamespace;
}

/** undefined without mappings. */
export function mappingsOf({ uidMappings, gidMappings }: Pick<Linux, 'uidMappings' | 'gidMappings'>) {
  if (!uidMappings || !gidMappings || uidMappings.length + gidMappings.length === 0) return undefined;
  return { uid: uidMappings, gid: gidMappings };
}

/** The kernel lets an ordinary user map nothing but itself, and then forbids setgroups (user_namespaces(7)). */
export function mapsOnlySelf({ uid, gid }: IdMappings): boolean {
  const maps = (mappings: readonly IdMapping[], id: number | undefined) =>
    mappings.length === 1 && mappings[0]?.size === 1 && mappings[0].hostID === id;
  return maps(uid, process.geteuid?.()) && maps(gid, process.getegid?.());
}

/**
 * Gives a new user namespace its ids: directly, or by newuidmap(1) and newgidmap(1) for an ordinary user.
 * @throws UNKNOWN `linux.uidMappings: ...`
 */
export function writeMappings(pid: number, { uid, gid }: IdMappings): void {
  if (!isPrivileged() && !mapsOnlySelf({ uid, gid })) {
    runHelper('newgidmap', 'linux.gidMappings', pid, gid);
    runHelper('newuidmap', 'linux.uidMappings', pid, uid);
    return;
  }
  if (!isPrivileged()) writeFileSync(`/proc/${pid}/setgroups`, 'deny');
  writeMap(`/proc/${pid}/gid_map`, 'linux.gidMappings', gid);
  writeMap(`/proc/${pid}/uid_map`, 'linux.uidMappings', uid);
}

function writeMap(file: string, path: string, mappings: readonly IdMapping[]): void {
  const lines = mappings.map(({ containerID, hostID, size }) => `${containerID} ${hostID} ${size}\n`);
  try {
    writeFileSync(file, lines.join(''));
  } catch (error) {
    throw unknown(`${path}: cannot be mapped: ${messageOf(error)}`, { cause: error });
  }
}

function runHelper(program: string, path: string, pid: number, mappings: readonly IdMapping[]): void {
  const numbers = mappings.flatMap(({ containerID, hostID, size }) => [containerID, hostID, size]);
  const { spawnSync } = require('node:child_process') as typeof import('node:child_process');
  const { error, status, stderr } = spawnSync(program, [pid, ...numbers].map(String), {
    encoding: 'utf8',
    timeout: HELPER_TIMEOUT_MS,
  });
  if (error !== undefined) throw unknown(`${path}: ${program} cannot be run: ${messageOf(error)}`, { cause: error });
  if (status !== 0) throw unknown(`${path}: ${program} refuses: ${stderr.trim()}`);
}

/** A user namespace that nothing runs in, for mount_setattr(2). Waits for a process. The caller closes the descriptor. */
export function openMappingNamespace(mappings: IdMappings): number {
  const init = launch({
    plan: { operations: [{ op: 'sync', point: 'mapping' }], inherited: [] },
    namespaces: NAMESPACE_FLAGS['user'] ?? 0,
    stdio: [-1, -1, -1],
    inInit: true,
  });
  try {
    if (init.tryNext(HELPER_TIMEOUT_MS) === undefined) throw unknown('init does not answer');
    writeMappings(init.pid, mappings);
    return openSync(`/proc/${init.pid}/ns/user`, 'r');
  } finally {
    init.destroy();
  }
}

/** How another process gets into the container of this one: its own namespaces are not entered twice. */
export function entryOf(pid: number): ContainerEntry {
  const isOrdinaryUser = !isPrivileged();
  const differs = (type: string) => namespaceOf('self', type) !== namespaceOf(String(pid), type);
  const own = CONTAINER_NAMESPACES;
  if (!differs('user')) return { namespaces: differs('time') ? [...own, 'time'] : own, isOrdinaryUser };
  return { namespaces: ['user', ...[...own, 'time'].filter(differs)], isOrdinaryUser };
}

/** Empty when the process has ended, which the launch will find out. */
function namespaceOf(pid: string, type: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/${FILE_NAMES[type] ?? type}`);
  } catch {
    return '';
  }
}

/** Which a process in a user namespace cannot lower by itself. */
export function setOomScore(pid: number, score: number): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(score));
  } catch (error) {
    // An ordinary user may only raise it.
    if (isPrivileged() || !isErrno(error, 'EACCES', 'EPERM')) throw error;
  }
}

export function isMapped(mappings: readonly IdMapping[] | undefined, id: number): boolean {
  return (mappings ?? [{ containerID: 0, hostID: 0, size: WHOLE_RANGE }]).some(
    ({ containerID, size }) => id >= containerID && id < containerID + size,
  );
}

/** For descriptors that a launch has taken over. */
export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) closeSync(fd);
}
