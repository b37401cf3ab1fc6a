// Compiles a runtime configuration into a launch plan: an ordered list of operations that init runs. Policy is here, in
// data that can be printed and tested; init only executes.

import { validateProcess, validateSpec } from './config/validate';
import { type CompiledFilter, compileCredentials, compileLimits } from './credentials';
import { compileDevices } from './devices';
import { bindsDev, compileMounts, type MountContext } from './mounts';
import { type CompiledNamespaces, compileNamespaces, compileSysctls } from './namespaces';
import type { Operation, Plan, Propagation } from './operations';
import { compileAffinity } from './scheduling';
import type { Linux, Process, Spec } from './spec';

export interface CreateContext {
  readonly id: string;
  readonly bundle: string;
  readonly rootfs: string;
  readonly mounts: MountContext;
  /** Files of the host into which a process writes "0" to join the container's cgroups. */
  readonly cgroupFiles: readonly string[];
  readonly terminal: boolean;
  readonly seccomp: CompiledFilter | undefined;
  readonly noPivotRoot: boolean;
  readonly noNewKeyring: boolean;
  /** The mount point that holds the root filesystem, to be made private when the host's mounts stay shared. */
  readonly sharedParent: string | undefined;
  readonly hasKcore: boolean;
  /** Whether slot 0 is a socket over which others start the container. */
  readonly startSocket?: boolean | undefined;
  /** Descriptors for the program besides standard input and output, in the slots that follow. */
  readonly keptFiles?: number | undefined;
}

export interface CompiledCreate {
  readonly plan: Plan;
  readonly namespaces: CompiledNamespaces;
}

export interface ExecContext {
  readonly id: string;
  readonly cgroupFiles: readonly string[];
  readonly terminal: boolean;
  readonly seccomp: CompiledFilter | undefined;
  readonly noNewKeyring: boolean;
  /** Descriptors for the program besides standard input and output, from slot 1 on. */
  readonly keptFiles?: number | undefined;
}

const CWD_MODE = 0o755;
const FIRST_KEPT_FILE = 3;
/** What an exec enters besides the pid namespace, into which it is born. */
const EXEC_NAMESPACES = ['mount', 'network', 'ipc', 'uts', 'cgroup'];

/** @throws UNKNOWN with the JSON path of a field that cannot be acted on */
export function compileCreate(spec: Spec, context: CreateContext): CompiledCreate {
  validateSpec(spec);
  const process = spec.process as Process;
  const linux = spec.linux ?? {};
  const namespaces = compileNamespaces(linux);
  const mounts = spec.mounts ?? [];
  const handed = handedOver(context);
  const compiled = compileMounts(mounts, context.mounts, handed.inherited.length);
  const sysctls = compileSysctls(spec, namespaces);
  const hooks = hookPoints(spec);
  const enter: Operation = { op: 'enterRoot', move: context.noPivotRoot };
  const labels = compileLabels(process);
  const operations: Operation[] = [
    ...compileEntry(process, context.cgroupFiles),
    ...namespaces.join,
    ...namespaces.unshare,
    ...(context.noNewKeyring ? [] : [{ op: 'keyring', name: `_ses.${context.id}` } as const]),
    ...(namespaces.hasNew('network') ? [{ op: 'loopback' } as const] : []),
    ...compilePropagation(linux, context.sharedParent),
    ...(sysctls.length + labels.length > 0 ? [{ op: 'procfs' } as const] : []),
    ...compiled.open,
    { op: 'root', path: context.rootfs },
    // Hooks may want to mount into the root by its path on the host; otherwise the host is left behind at once.
    ...(hooks.length === 0 ? [enter] : []),
    { op: 'umask', mask: 0 },
    ...compiled.mount,
    ...(bindsDev(mounts) ? [] : compileDevices(linux.devices ?? [], context.hasKcore)),
    ...(hooks.length === 0 ? [] : [...hooks, enter]),
    { op: 'makeDirectory', path: process.cwd, mode: CWD_MODE },
    ...compileTerminal(process, context.terminal, true),
    ...compiled.finish,
    ...(spec.root?.readonly ? [remountRoot()] : []),
    ...(spec.hostname ? [{ op: 'hostname', name: spec.hostname } as const] : []),
    ...(spec.domainname ? [{ op: 'domainname', name: spec.domainname } as const] : []),
    ...sysctls,
    ...(linux.readonlyPaths ?? []).map((path) => ({ op: 'readonly', path }) as const),
    ...(linux.maskedPaths ?? []).map((path) => ({ op: 'mask', path }) as const),
    ...labels,
    ...compileLimits(process, linux),
    ...compileCredentials(process, {
      seccomp: context.seccomp,
      waitsForStart: true,
      ...handed,
    }),
  ];
  return { plan: { operations, inherited: handed.inherited }, namespaces };
}

/** The plan of a further process in a running container. Slot 0 is a pidfd of the container's first process. */
export function compileExec(process: Process, context: ExecContext): Plan {
  validateProcess(process);
  const labels = compileLabels(process);
  return {
    inherited: ['pidfd of the container', ...keptNames(context.keptFiles)],
    operations: [
      ...compileAffinity(process.execCPUAffinity?.initial),
      ...compileEntry(process, context.cgroupFiles),
      ...compileAffinity(process.execCPUAffinity?.final),
      { op: 'joinSlot', slot: 0, namespaces: EXEC_NAMESPACES },
      { op: 'currentRoot' },
      ...(context.noNewKeyring ? [] : [{ op: 'keyring', name: `_ses.${context.id}` } as const]),
      ...compileTerminal(process, context.terminal, false),
      ...(labels.length > 0 ? [{ op: 'procfs' } as const, ...labels] : []),
      ...compileLimits(process, {}),
      ...compileCredentials(process, {
        seccomp: context.seccomp,
        waitsForStart: false,
        keptFiles: keptFiles(1, context.keptFiles),
      }),
    ],
  };
}

/** A hook of the host (no slot), or one inside the namespaces of the pidfd in slot 0. */
export function compileHook(
  hook: { readonly path: string; readonly args: readonly string[]; readonly env: readonly string[] },
  inContainer: boolean,
): Plan {
  return {
    inherited: inContainer ? ['pidfd of the container'] : [],
    operations: [
      ...(inContainer ? [{ op: 'joinSlot', slot: 0, namespaces: EXEC_NAMESPACES } as const] : []),
      { op: 'changeDirectory', path: '/', firstAttempt: false },
      { op: 'umask', mask: 0o022 },
      { op: 'closeFiles' },
      { op: 'findExecutable', name: hook.path, path: '' },
      { op: 'execute', args: hook.args.length > 0 ? hook.args : [hook.path], env: hook.env, reportToStderr: false },
    ],
  };
}

/** While the host's proc is in sight, and before memory is charged to anybody. */
function compileEntry(process: Process, cgroupFiles: readonly string[]): Operation[] {
  const operations: Operation[] = cgroupFiles.map((path) => ({ op: 'writeFile', path, data: '0' }));
  if (process.oomScoreAdj !== undefined) {
    operations.unshift({ op: 'writeFile', path: '/proc/self/oom_score_adj', data: String(process.oomScoreAdj) });
  }
  return operations;
}

function compilePropagation(linux: Linux, sharedParent: string | undefined): Operation[] {
  const given = linux.rootfsPropagation ?? '';
  const propagation = (
    given !== '' ? `r${given.replace(/^r(?=private|slave|shared|unbindable)/, '')}` : 'rslave'
  ) as Propagation;
  const operations: Operation[] = [{ op: 'propagation', path: '/', propagation }];
  if (sharedParent !== undefined) operations.push({ op: 'propagation', path: sharedParent, propagation: 'private' });
  return operations;
}

function hookPoints(spec: Spec): Operation[] {
  const operations: Operation[] = [];
  const { prestart, createRuntime, createContainer } = spec.hooks ?? {};
  if ((prestart?.length ?? 0) + (createRuntime?.length ?? 0) > 0) operations.push({ op: 'sync', point: 'hooks' });
  if ((createContainer?.length ?? 0) > 0) operations.push({ op: 'sync', point: 'containerHooks' });
  return operations;
}

function compileTerminal(process: Process, terminal: boolean, console: boolean): Operation[] {
  if (!terminal) return [];
  const { height = 0, width = 0 } = process.consoleSize ?? {};
  return [{ op: 'terminal', rows: height, columns: width, console }];
}

function compileLabels(process: Process): Operation[] {
  const operations: Operation[] = [];
  if (process.apparmorProfile) {
    operations.push({ op: 'lsmLabel', path: 'self/attr/apparmor/exec', label: `exec ${process.apparmorProfile}` });
  }
  if (process.selinuxLabel) {
    operations.push({ op: 'lsmLabel', path: 'self/attr/exec', label: process.selinuxLabel });
  }
  return operations;
}

function handedOver({ startSocket, keptFiles: count }: CreateContext) {
  const sockets = startSocket ? ['socket to be started over'] : [];
  return {
    inherited: [...sockets, ...keptNames(count)],
    startSlot: startSocket ? 0 : undefined,
    keptFiles: keptFiles(sockets.length, count),
  };
}

function keptFiles(slot: number, count = 0): { slot: number; count: number } | undefined {
  return count === 0 ? undefined : { slot, count };
}

function keptNames(count = 0): string[] {
  return Array.from({ length: count }, (_, index) => `descriptor ${FIRST_KEPT_FILE + index} of the program`);
}

function remountRoot(): Operation {
  return { op: 'remount', target: '/', set: ['ro'], clear: [], recursive: false };
}
