// Which namespaces a container gets: new ones, another's by path, or the host's.

import { refuse } from './config/checks';
import { NAMESPACE_FLAGS } from './native';
import type { Operation } from './operations';
import type { Linux, Spec } from './spec';

export interface CompiledNamespaces {
  /** For clone3. */
  readonly create: number;
  /** Path of a pid namespace to be born into. */
  readonly pidPath: string | undefined;
  /** Joins by path, run first. */
  readonly join: readonly Operation[];
  /** Run when the cgroup is that of the container, which becomes the root of the new namespace. */
  readonly unshare: readonly Operation[];
  readonly hasNew: (type: string) => boolean;
  readonly has: (type: string) => boolean;
}

const CREATED_BY_INIT = 'cgroup';

export function compileNamespaces(linux: Linux | undefined): CompiledNamespaces {
  const namespaces = linux?.namespaces ?? [];
  const byType = new Map<string, string>();
  for (const { type, path = '' } of namespaces) {
    byType.set(type, path);
  }
  const created = [...byType].filter(([, path]) => path === '').map(([type]) => type);
  return {
    create: created
      .filter((type) => type !== CREATED_BY_INIT)
      .reduce((flags, type) => flags | (NAMESPACE_FLAGS[type] ?? 0), 0),
    pidPath: byType.get('pid') || undefined,
    join: [...byType]
      .filter(([type, path]) => path !== '' && type !== 'pid')
      .map(([type, path]) => ({ op: 'joinPath', namespace: type, path })),
    unshare: created.includes(CREATED_BY_INIT) ? [{ op: 'unshare', namespaces: [CREATED_BY_INIT] }] : [],
    hasNew: (type) => byType.get(type) === '',
    has: (type) => byType.has(type),
  };
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
