// Which namespaces a container gets: new ones, another's by path, or the host's.

import { refuse } from '../config/checks';
import { NAMESPACE_FLAGS } from '../native';
import type { Linux, Spec } from '../spec';
import type { Operation } from './operations';

export interface CompiledNamespaces {
  /** For clone3. */
  readonly create: number;
  /** To be born into: the launcher enters them for the clone. */
  readonly enter: readonly { readonly type: string; readonly path: string }[];
  /** The rest of the way into the namespaces, run first; a new user namespace gets its ids. */
  readonly join: readonly Operation[];
  /** Run when the cgroup is that of the container, which becomes the root of the new namespace. */
  readonly unshare: readonly Operation[];
  /** Whose ids the container has: the host's, ones of its own that the launcher maps, or another container's. */
  readonly user: 'host' | 'new' | 'joined';
  readonly hasNew: (type: string) => boolean;
  readonly has: (type: string) => boolean;
}

/** These are not made by the clone: they need the cgroup to be joined, and offsets to be written. */
const CREATED_BY_INIT = ['cgroup', 'time'];

/** @param privileged - whether the launcher may enter namespaces without a user namespace of its own */
export function compileNamespaces(linux: Linux, privileged: boolean): CompiledNamespaces {
  const byType = new Map((linux.namespaces ?? []).map(({ type, path }) => [type, path || '']));
  const created = [...byType].filter(([, path]) => path === '').map(([type]) => type);
  const joined = [...byType].filter(([, path]) => path !== '').map(([type, path]) => ({ type, path }));
  const user = !byType.has('user') ? 'host' : byType.get('user') === '' ? 'new' : 'joined';
  const byClone = created.filter((type) => !CREATED_BY_INIT.includes(type));
  // A user namespace that is made has no rights over those of others, so the clone is made in them; of what threads
  // share, a single one cannot enter another (mount).
  const enters = (type: string) => (type === 'pid' || (user === 'new' && type !== 'mount')) && privileged;
  const inInit = joined.filter(({ type }) => !enters(type));
  return {
    create: user === 'joined' ? 0 : byClone.reduce((flags, type) => flags | (NAMESPACE_FLAGS[type] ?? 0), 0),
    enter: joined.filter(({ type }) => enters(type)),
    join: [
      ...(user === 'new' ? [{ op: 'sync', point: 'mapping' } as const] : []),
      ...joinOrder(inInit, privileged).map(({ type, path }) => ({ op: 'joinPath', namespace: type, path }) as const),
      // Born again where a new pid namespace is wanted, or one has been entered: neither changes a process's own.
      ...(user === 'joined' && byClone.length > 0 ? [{ op: 'respawn', namespaces: byClone } as const] : []),
      ...(inInit.some(({ type }) => type === 'pid') && !(user === 'joined' && byClone.length > 0)
        ? [{ op: 'respawn', namespaces: [] } as const]
        : []),
    ],
    unshare: [
      ...(created.includes('cgroup') ? [{ op: 'unshare', namespaces: ['cgroup'] } as const] : []),
      ...(created.includes('time') ? [{ op: 'timeOffsets', offsets: timeOffsets(linux) } as const] : []),
    ],
    user,
    hasNew: (type) => byType.get(type) === '',
    has: (type) => byType.has(type),
  };
}

/** Without rights of its own a launcher gets them from the user namespace; mount comes last, it hides the host's paths. */
function joinOrder<T extends { readonly type: string }>(namespaces: readonly T[], privileged: boolean): T[] {
  const order = privileged ? ['user', 'mount'] : ['mount'];
  const rank = ({ type }: T) => (type === 'user' && !privileged ? -1 : order.indexOf(type) + 1);
  return [...namespaces].sort((a, b) => rank(a) - rank(b));
}

/** proc(5), /proc/PID/timens_offsets. */
function timeOffsets({ timeOffsets: offsets }: Linux): string {
  return Object.entries(offsets ?? {})
    .map(([clock, { secs = 0, nanosecs = 0 }]) => `${clock} ${secs} ${nanosecs}\n`)
    .join('');
}

const IPC_SYSCTLS = new Set(
  ['msgmax', 'msgmnb', 'msgmni', 'sem', 'shmall', 'shmmax', 'shmmni', 'shm_rmid_forced'].map(
    (name) => `kernel.${name}`,
  ),
);

/** Only what belongs to a namespace of the container may be set. @throws UNKNOWN in runc's words */
export function compileSysctls(spec: Spec, namespaces: CompiledNamespaces): Operation[] {
  return Object.entries(spec.linux?.sysctl ?? {}).map(([name, value]) => {
    const dotted = name.replaceAll('/', '.');
    const path = `linux.sysctl["${name}"]`;
    const allowed =
      (namespaces.has('ipc') && (IPC_SYSCTLS.has(dotted) || dotted.startsWith('fs.mqueue.'))) ||
      (namespaces.has('network') && dotted.startsWith('net.')) ||
      (namespaces.has('uts') && dotted === 'kernel.domainname');
    if (dotted === 'kernel.hostname') {
      refuse(path, 'sysctl "kernel.hostname" is conflicting with the OCI "hostname" field');
    }
    if (!allowed) refuse(path, `sysctl "${dotted}" is not in a separate kernel namespace`);
    return { op: 'sysctl', path: `sys/${sysctlPath(name)}`, value };
  });
}

/** A name with slashes has its dots inside components (interface names). */
function sysctlPath(name: string): string {
  return name.includes('/') ? name : name.replaceAll('.', '/');
}
