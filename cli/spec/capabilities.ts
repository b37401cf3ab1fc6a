// Capability sets: docker's default fourteen, names as users write them, and what --cap-add and --cap-drop make of
// them (capabilities(7)).

import { usageError } from '../failure';
import type { Capabilities } from './types';

/** In the order of their numbers, from 0. */
export const ALL_CAPABILITIES = `CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
  LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
  SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE
  AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
  CHECKPOINT_RESTORE`
  .split(/\s+/)
  .map((name) => `CAP_${name}`);

export const DEFAULT_CAPABILITIES = `CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP
  NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE`
  .split(/\s+/)
  .map((name) => `CAP_${name}`);

/** The names after drops, then adds: `--cap-drop all --cap-add chown` leaves one. @throws CommandError (usage) */
export function capabilityNames(
  base: readonly string[],
  add: readonly string[],
  drop: readonly string[],
  all: readonly string[] = ALL_CAPABILITIES,
): string[] {
  const dropped = new Set(drop.flatMap((name) => expand(name, all)));
  const kept = base.filter((name) => !dropped.has(name));
  const added = add.flatMap((name) => expand(name, all));
  return [...new Set([...kept, ...added])];
}

/** The sets of a process: inheritable and ambient stay empty (CVE-2022-24769). */
export function capabilitySets(names: readonly string[]): Capabilities {
  return { bounding: [...names], effective: [...names], permitted: [...names] };
}

function expand(name: string, all: readonly string[]): readonly string[] {
  const upper = name.toUpperCase();
  if (upper === 'ALL' || upper === 'CAP_ALL') return all;
  const full = upper.startsWith('CAP_') ? upper : `CAP_${upper}`;
  if (!ALL_CAPABILITIES.includes(full)) throw usageError(`unknown capability "${name}"`);
  return [full];
}
