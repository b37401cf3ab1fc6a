// From a process that may do everything to the process of the configuration: the last operations of every plan.

import type { Linux, Process } from '../spec';
import { type CapabilitySets, capabilitySets } from './capabilities';
import type { Operation } from './operations';
import { compileRlimits } from './rlimits';
import { compileIoPriority, compileMemoryPolicy, compileScheduler } from './scheduling';

const DEFAULT_UMASK = 0o022;
const PERSONALITIES: Readonly<Record<string, number>> = { LINUX: 0, LINUX32: 8 };

export interface CompiledFilter {
  /** base64 of the BPF program. */
  readonly filter: string;
  readonly flags: number;
  /** Whether loading it makes a listener, which is handed to an agent. */
  readonly listens?: boolean | undefined;
}

export interface CredentialContext {
  readonly seccomp: CompiledFilter | undefined;
  readonly waitsForStart: boolean;
  /** The slot of a socket whose peers may start the container after the launcher has gone. */
  readonly startSlot?: number | undefined;
  /** Slots of files for the program. */
  readonly keptFiles?: { readonly slot: number; readonly count: number } | undefined;
}

/** Limits, priorities and labels: with the container's set-up, before anything is given up. */
export function compileLimits(process: Process, { personality, memoryPolicy }: Linux): Operation[] {
  const operations = compileRlimits(process.rlimits ?? []);
  if (personality) operations.push({ op: 'personality', domain: PERSONALITIES[personality.domain] ?? 0 });
  if (memoryPolicy) operations.push(compileMemoryPolicy(memoryPolicy));
  if (process.ioPriority) operations.push(compileIoPriority(process.ioPriority));
  if (process.scheduler) operations.push(compileScheduler(process.scheduler));
  return operations;
}

/** Gives up what the process is not to have, finds the program with what is left, and executes it. */
export function compileCredentials(process: Process, context: CredentialContext): Operation[] {
  const args = process.args ?? [];
  const { uid = 0, gid = 0, additionalGids } = process.user ?? {};
  const sets = capabilitySets(process.capabilities);
  const env = environment(process.env ?? []);
  const home = env.get('HOME');
  // Without no_new_privs only CAP_SYS_ADMIN may load a filter. It is kept until then, so that the filter is loaded last
  // and does not have to allow what init does.
  const keepsAdmin = context.seccomp !== undefined && !process.noNewPrivileges;
  const filter = seccompOperations(context.seccomp, sets, keepsAdmin);
  return [
    { op: 'umask', mask: process.user?.umask ?? DEFAULT_UMASK },
    ...(process.noNewPrivileges ? [{ op: 'noNewPrivileges' } as const] : []),
    { op: 'closeFiles' },
    { op: 'changeDirectory', path: process.cwd, firstAttempt: true },
    { op: 'bounding', capabilities: sets.bounding },
    ...(home === undefined || home === '' ? [{ op: 'home', uid } as const] : []),
    { op: 'stdioOwner', uid },
    { op: 'user', uid, gid, groups: [...new Set(additionalGids)] },
    capabilities(sets, keepsAdmin ? 'permitted' : 'none'),
    { op: 'ambient', capabilities: sets.ambient },
    { op: 'changeDirectory', path: process.cwd, firstAttempt: false },
    { op: 'findExecutable', name: args[0] ?? '', path: env.get('PATH') ?? '' },
    // What answers for the filter is told of it before the container has been created.
    ...(context.seccomp?.listens ? filter : []),
    ...(context.waitsForStart ? [{ op: 'sync', point: 'ready' } as const] : []),
    ...(context.seccomp?.listens && !context.waitsForStart ? [{ op: 'sync', point: 'filtered' } as const] : []),
    ...(context.startSlot === undefined ? [] : [{ op: 'awaitStart', slot: context.startSlot } as const]),
    ...(context.keptFiles === undefined ? [] : [{ op: 'keepFiles', ...context.keptFiles } as const]),
    ...(context.seccomp?.listens ? [] : filter),
    { op: 'execute', args, env: list(env), reportToStderr: true },
  ];
}

function seccompOperations(filter: CompiledFilter | undefined, sets: CapabilitySets, admin: boolean): Operation[] {
  if (filter === undefined) return [];
  const { filter: program, flags, listens } = filter;
  const load: Operation = { op: 'seccomp', filter: program, flags, ...(listens ? { listens } : {}) };
  if (!admin) return [load];
  const after: Operation[] = sets.permitted.includes('CAP_SYS_ADMIN') ? [] : [capabilities(sets, 'none')];
  return [capabilities(sets, 'effective'), load, ...after];
}

/** @param admin - where CAP_SYS_ADMIN is besides what the configuration says; effective implies permitted */
function capabilities(sets: CapabilitySets, admin: 'none' | 'permitted' | 'effective'): Operation {
  const add = (names: readonly string[], wanted: boolean) =>
    wanted && !names.includes('CAP_SYS_ADMIN') ? [...names, 'CAP_SYS_ADMIN'] : names;
  return {
    op: 'capabilities',
    effective: add(sets.effective, admin === 'effective'),
    permitted: add(sets.permitted, admin !== 'none'),
    inheritable: sets.inheritable,
  };
}

/** The last value of a name counts, at the place of the first, as Go's os.Setenv leaves it. */
function environment(entries: readonly string[]): Map<string, string> {
  const env = new Map<string, string>();
  for (const entry of entries) {
    const equals = entry.indexOf('=');
    env.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  return env;
}

/** HOME comes from the image when it is empty, so the empty one must not stand before it. */
function list(env: ReadonlyMap<string, string>): string[] {
  return [...env].filter(([name, value]) => name !== 'HOME' || value !== '').map(([name, value]) => `${name}=${value}`);
}
