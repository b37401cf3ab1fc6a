// Capabilities by name (linux/capability.h) and the sets that a process gets.

import type { Capabilities } from '../spec';

const NAMES = (
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE ' +
  'NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN ' +
  'SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE ' +
  'MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'
).split(' ');
const NUMBERS = new Map(NAMES.map((name, index) => [`CAP_${name}`, index]));

/** All that the runtime knows, by number. */
export function capabilityNames(): string[] {
  return [...NUMBERS.keys()];
}

export interface CapabilitySets {
  readonly bounding: string[];
  readonly effective: string[];
  readonly permitted: string[];
  readonly inheritable: string[];
  readonly ambient: string[];
}

/**
 * The sets for a process. Unknown names are left out, as runc does with a warning. Inheritable holds nothing but what
 * ambient needs: a file with inheritable capabilities must not raise what the image's user has (CVE-2022-29162).
 */
export function capabilitySets(capabilities: Capabilities | undefined): CapabilitySets {
  const known = (names: readonly string[] | null | undefined) => (names ?? []).filter((name) => NUMBERS.has(name));
  const permitted = known(capabilities?.permitted);
  const ambient = known(capabilities?.ambient);
  const inheritable = known(capabilities?.inheritable).filter((name) => ambient.includes(name));
  return {
    bounding: known(capabilities?.bounding),
    effective: known(capabilities?.effective),
    permitted,
    inheritable,
    // The kernel refuses what is not both permitted and inheritable; runc goes on without.
    ambient: ambient.filter((name) => permitted.includes(name) && inheritable.includes(name)),
  };
}

/** A bit for each number; there are fewer than 53. */
export function capabilityMask(names: Iterable<string>): number {
  let mask = 0;
  for (const number of new Set([...names].map((name) => NUMBERS.get(name) ?? -1))) if (number >= 0) mask += 2 ** number;
  return mask;
}
