// Fields of `linux` that do not go together: with each other, or with the rest of the configuration.

import type { Device, IdMapping, Linux, MemoryPolicy, NetDevice, Seccomp, Spec } from '../spec';
import { refuse, UINT32_MAX } from './checks';

const EXTENTS_MAX = 340;
const ERRNO_MAX = 4095;
const TRACE_MAX = 65_535;
const NODES_REQUIRED = new Set(['MPOL_BIND', 'MPOL_INTERLEAVE', 'MPOL_WEIGHTED_INTERLEAVE', 'MPOL_PREFERRED_MANY']);
const NODES_FORBIDDEN = new Set(['MPOL_DEFAULT', 'MPOL_LOCAL']);

/** @throws UNKNOWN `PATH: WORDS` */
export function checkLinux(spec: Spec, linux: Linux): void {
  const namespaces = checkNamespaces(linux);
  checkMappings(linux, namespaces);
  checkNames(spec, namespaces);
  if (linux.timeOffsets && namespaces.get('time') !== '' && Object.keys(linux.timeOffsets).length > 0)
    refuse('linux.timeOffsets', 'needs a new time namespace');
  checkDevices(linux.devices ?? []);
  if (linux.personality?.flags && linux.personality.flags.length > 0)
    refuse('linux.personality.flags', 'additional flags are not supported');
  if (linux.memoryPolicy) checkMemoryPolicy(linux.memoryPolicy);
  if (linux.netDevices) checkNetDevices(linux.netDevices, namespaces);
  if (linux.seccomp) checkSeccomp(linux.seccomp);
  checkResources(linux);
}

/** Types to paths; "" is a new one. */
function checkNamespaces(linux: Linux): Map<string, string> {
  const byType = new Map<string, string>();
  (linux.namespaces ?? []).forEach(({ type, path = '' }, index) => {
    if (byType.has(type))
      refuse(`linux.namespaces[${index}].type`, `malformed spec file: duplicated ns {"${type}" "${path}"}`);
    byType.set(type, path);
  });
  if (!byType.has('mount')) refuse('linux.namespaces', 'a new mount namespace is required');
  return byType;
}

function checkMappings(linux: Linux, namespaces: ReadonlyMap<string, string>): void {
  for (const name of ['uidMappings', 'gidMappings'] as const) {
    const mappings = linux[name] ?? [];
    const path = `linux.${name}`;
    if (mappings.length > 0 && !namespaces.has('user')) refuse(path, 'needs a user namespace');
    if (namespaces.get('user') !== '') continue;
    if (mappings.length === 0) refuse(path, 'a new user namespace needs mappings');
    checkExtents(mappings, path);
    if (!mappings.some(({ containerID, size }) => containerID === 0 && size > 0))
      refuse(path, 'must map id 0, which sets the container up');
  }
}

/** As the kernel wants them (user_namespaces(7)). */
export function checkExtents(mappings: readonly IdMapping[], path: string): void {
  if (mappings.length > EXTENTS_MAX) refuse(path, `must not have more than ${EXTENTS_MAX} entries`);
  mappings.forEach((mapping, index) => {
    for (const side of ['containerID', 'hostID'] as const) {
      if (mapping[side] + mapping.size > UINT32_MAX) refuse(`${path}[${index}].size`, 'goes beyond the highest id');
      const overlaps = (other: IdMapping) =>
        mapping[side] < other[side] + other.size && other[side] < mapping[side] + mapping.size;
      if (mappings.slice(0, index).some(overlaps)) refuse(`${path}[${index}].${side}`, 'overlaps with another mapping');
    }
  });
}

function checkNames({ hostname, domainname }: Spec, namespaces: ReadonlyMap<string, string>): void {
  if (hostname && !namespaces.has('uts')) refuse('hostname', 'unable to set hostname without a private UTS namespace');
  if (domainname && !namespaces.has('uts'))
    refuse('domainname', 'unable to set domainname without a private UTS namespace');
}

function checkDevices(devices: readonly Device[]): void {
  const numbers = new Map<string, string>();
  devices.forEach(({ path, type, major, minor }, index) => {
    const at = `linux.devices[${index}]`;
    if (type !== 'p' && major === undefined) refuse(`${at}.major`, 'is required');
    if (type !== 'p' && minor === undefined) refuse(`${at}.minor`, 'is required');
    const number = `${type} ${major}:${minor}`;
    if ((numbers.get(path) ?? number) !== number) refuse(`${at}.path`, `is "${numbers.get(path)}" as well`);
    numbers.set(path, number);
  });
}

function checkMemoryPolicy({ mode, nodes = '', flags }: MemoryPolicy): void {
  const path = 'linux.memoryPolicy';
  if (NODES_REQUIRED.has(mode) && nodes.trim() === '') refuse(`${path}.nodes`, `is required for ${mode}`);
  if (NODES_FORBIDDEN.has(mode) && nodes.trim() !== '') refuse(`${path}.nodes`, `has no meaning for ${mode}`);
  const given = new Set(flags ?? []);
  if (given.has('MPOL_F_STATIC_NODES') && given.has('MPOL_F_RELATIVE_NODES'))
    refuse(`${path}.flags`, 'MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other');
  if (given.has('MPOL_F_NUMA_BALANCING') && mode !== 'MPOL_BIND' && mode !== 'MPOL_PREFERRED_MANY')
    refuse(`${path}.flags`, `MPOL_F_NUMA_BALANCING has no meaning for ${mode}`);
}

function checkNetDevices(
  devices: Readonly<Record<string, NetDevice | null>>,
  namespaces: ReadonlyMap<string, string>,
): void {
  const taken = new Set<string>();
  for (const [name, device] of Object.entries(devices)) {
    const path = `linux.netDevices["${name}"]`;
    if (!namespaces.has('network')) refuse(path, 'needs a network namespace');
    const target = device?.name || name;
    if (taken.has(target)) refuse(`${path}.name`, `two devices would be named "${target}"`);
    taken.add(target);
  }
}

function checkSeccomp(profile: Seccomp): void {
  const path = 'linux.seccomp';
  checkErrno(profile.defaultAction, profile.defaultErrnoRet, `${path}.defaultErrnoRet`);
  if (profile.defaultAction === 'SCMP_ACT_NOTIFY')
    refuse(`${path}.defaultAction`, 'SCMP_ACT_NOTIFY cannot be used as default action');
  (profile.syscalls ?? []).forEach(({ action, errnoRet, names }, index) => {
    checkErrno(action, errnoRet, `${path}.syscalls[${index}].errnoRet`);
    if (names.length === 0) refuse(`${path}.syscalls[${index}].names`, 'must not be empty');
  });
  const notifies = usesNotify(profile);
  if (notifies && !profile.listenerPath) refuse(`${path}.listenerPath`, 'is required for SCMP_ACT_NOTIFY');
  if (profile.listenerMetadata && !profile.listenerPath)
    refuse(`${path}.listenerMetadata`, 'has no meaning without listenerPath');
  if (!notifies && profile.flags?.includes('SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'))
    refuse(`${path}.flags`, 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY');
}

export function usesNotify(profile: Seccomp): boolean {
  return (profile.syscalls ?? []).some(({ action }) => action === 'SCMP_ACT_NOTIFY');
}

function checkErrno(action: string, value: number | undefined, path: string): void {
  if (value === undefined || value === null) return;
  const max = action === 'SCMP_ACT_ERRNO' ? ERRNO_MAX : action === 'SCMP_ACT_TRACE' ? TRACE_MAX : -1;
  if (max < 0) refuse(path, `has no meaning for ${action}`);
  if (value > max) refuse(path, `must not be above ${max}`);
}

function checkResources({ resources }: Linux): void {
  const path = 'linux.resources';
  const { limit, swap } = resources?.memory ?? {};
  if (limit !== undefined && limit > 0 && swap !== undefined && swap > 0 && swap < limit)
    refuse(`${path}.memory.swap`, 'memory+swap limit must not be below the memory limit');
  const { quota, burst, realtimePeriod, realtimeRuntime } = resources?.cpu ?? {};
  if (burst !== undefined && quota !== undefined && quota > 0 && burst > quota)
    refuse(`${path}.cpu.burst`, 'must not be above quota');
  if (realtimePeriod && realtimeRuntime && realtimeRuntime > realtimePeriod)
    refuse(`${path}.cpu.realtimeRuntime`, 'must not be above realtimePeriod');
  const sizes = (resources?.hugepageLimits ?? []).map(({ pageSize }) => pageSize);
  sizes.forEach((size, index) => {
    if (sizes.indexOf(size) !== index) refuse(`${path}.hugepageLimits[${index}].pageSize`, `${size} is limited twice`);
  });
}
