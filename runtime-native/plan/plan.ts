// Compiles a runtime configuration into a launch plan: an ordered list of operations that init runs. Policy is here, in
// data that can be printed and tested; init only executes.

import { checkUserNamespace } from '../config/user-rules';
import { validateProcess } from '../config/validate';
import { mappingsOf } from '../launcher/user-namespace';
import type { Linux, Process, Spec } from '../spec';
import { type CompiledFilter, compileCredentials, compileLimits } from './credentials';
import { compileDevices } from './devices';
import { bindsDev, compileMounts, type MountContext, type UserContext } from './mounts';
import { type CompiledNamespaces, compileNamespaces, compileSysctls } from './namespaces';
import type { MountSource, Operation, Plan, Propagation } from './operations';
import { compileAffinity } from './scheduling';

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
  /** Without rights over the host: needs a user namespace. */
  readonly isOrdinaryUser?: boolean | undefined;
  /** Whether device nodes cannot be made, because the launcher runs in a user namespace. */
  readonly bindsNodes?: boolean | undefined;
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
  readonly entry?: ContainerEntry | undefined;
  /** Descriptors for the program besides standard input and output, from slot 1 on. */
  readonly keptFiles?: number | undefined;
}

/** How a further process gets into a container. */
export interface ContainerEntry {
  readonly namespaces: readonly string[];
  /** The launcher could not enter the pid namespace: init does, and goes on as a child in it. */
  readonly isOrdinaryUser: boolean;
}

const CWD_MODE = 0o755;
const FIRST_KEPT_FILE = 3;
/** What a further process enters besides the pid namespace, into which it is born. */
const USUAL_ENTRY: ContainerEntry = {
  namespaces: ['mount', 'network', 'ipc', 'uts', 'cgroup'],
  isOrdinaryUser: false,
};

/**
 * @param spec - as validateSpec() has accepted it
 * @throws UNKNOWN with the JSON path of a field that cannot be acted on
 */
export function compileCreate(spec: Spec, context: CreateContext): CompiledCreate {
  const process = spec.process as Process;
  const linux = spec.linux ?? {};
  const { isOrdinaryUser = false } = context;
  const namespaces = compileNamespaces(linux, !isOrdinaryUser);
  checkUserNamespace(spec, namespaces, isOrdinaryUser);
  const mounts = spec.mounts ?? [];
  const handed = handedOver(context);
  const asItIs = namespaces.has('mount') && !namespaces.hasNew('mount');
  const hasUser = namespaces.user !== 'host';
  const user = hasUser ? userContext(linux, namespaces, !isOrdinaryUser) : undefined;
  const label = linux.mountLabel || undefined;
  const compiled = compileMounts(mounts, { ...context.mounts, user, label }, handed.inherited.length, (bind) =>
    asItIs || bindsDev(mounts)
      ? []
      : compileDevices(linux.devices ?? [], context.hasKcore, hasUser || context.bindsNodes ? bind : undefined),
  );
  const sysctls = compileSysctls(spec, namespaces);
  const hooks = hookPoints(spec);
  const entersLate = hooks.length > 0 || hasUser;
  const enter = compileEnter(linux, context.noPivotRoot, asItIs);
  const labels = compileLabels(process);
  const operations: Operation[] = [
    ...compileEntry(process, context.cgroupFiles, namespaces.user === 'new' ? 'leave' : 'write'),
    ...namespaces.join,
    ...namespaces.unshare,
    ...(asItIs ? [] : compilePropagation(linux, context.sharedParent)),
    ...compiled.open,
    // As the launcher's user still, who can reach it.
    { op: 'root', path: context.rootfs, ...(asItIs ? { asItIs } : {}) },
    ...(hasUser ? [{ op: 'becomeRoot' } as const] : []),
    ...compileNetwork(linux, namespaces),
    ...(sysctls.length + labels.length > 0 ? [{ op: 'procfs' } as const] : []),
    ...compileKeyring(context, process),
    // Hooks may want to mount into the root by its path on the host, and a user namespace may mount no proc and sys
    // without one in sight; otherwise the host is left behind at once.
    ...(entersLate ? [] : enter),
    { op: 'umask', mask: 0 },
    ...compiled.mount,
    ...compiled.nodes,
    ...hooks,
    ...(entersLate ? enter : []),
    { op: 'makeDirectory', path: process.cwd, mode: CWD_MODE },
    ...compileTerminal(process, context.terminal, true),
    ...compiled.finish,
    ...(spec.root?.readonly ? [remountRoot()] : []),
    ...(spec.hostname ? [{ op: 'hostname', name: spec.hostname } as const] : []),
    ...(spec.domainname ? [{ op: 'domainname', name: spec.domainname } as const] : []),
    ...sysctls,
    ...(linux.readonlyPaths ?? []).map((path) => ({ op: 'readonly', path }) as const),
    ...(linux.maskedPaths ?? []).map((path) => ({ op: 'mask', path, ...(label ? { label } : {}) }) as const),
    ...labels,
    ...compileLimits(process, linux),
    ...compileCredentials(process, {
      seccomp: context.seccomp,
      waitsForStart: true,
      ...handed,
    }),
  ];
  const propagation = sourcePropagation(linux, hasUser);
  const sources = compiled.sources.map((source) => ({ ...source, propagation }));
  const inherited = [...handed.inherited, ...sources.map(nameSource)];
  return { plan: { operations, inherited, ...(sources.length > 0 ? { sources } : {}) }, namespaces };
}

/** The plan of a further process in a running container. Slot 0 is a pidfd of the container's first process. */
export function compileExec(process: Process, context: ExecContext): Plan {
  validateProcess(process);
  const labels = compileLabels(process);
  return {
    inherited: ['pidfd of the container', ...keptNames(context.keptFiles)],
    operations: [
      ...compileAffinity(process.execCPUAffinity?.initial),
      ...compileEntry(process, context.cgroupFiles, context.entry?.isOrdinaryUser ? 'try' : 'write'),
      ...compileAffinity(process.execCPUAffinity?.final),
      ...enterContainer(context.entry ?? USUAL_ENTRY),
      { op: 'currentRoot' },
      ...(labels.length > 0 ? [{ op: 'procfs' } as const] : []),
      ...compileKeyring(context, process),
      ...compileTerminal(process, context.terminal, false),
      ...labels,
      ...compileLimits(process, {}),
      ...compileCredentials(process, {
        seccomp: context.seccomp,
        waitsForStart: false,
        keptFiles: keptFiles(1, context.keptFiles),
      }),
    ],
  };
}

/** @param entry - for a hook inside the container of the pidfd in slot 0; without it, one of the host */
export function compileHook(
  hook: { readonly path: string; readonly args: readonly string[]; readonly env: readonly string[] },
  entry: ContainerEntry | undefined,
): Plan {
  return {
    inherited: entry ? ['pidfd of the container'] : [],
    operations: [
      ...(entry ? enterContainer(entry) : []),
      { op: 'changeDirectory', path: '/', firstAttempt: false },
      { op: 'umask', mask: 0o022 },
      { op: 'closeFiles' },
      { op: 'findExecutable', name: hook.path, path: '' },
      { op: 'execute', args: hook.args.length > 0 ? hook.args : [hook.path], env: hook.env, reportToStderr: false },
    ],
  };
}

function enterContainer({ namespaces, isOrdinaryUser }: ContainerEntry): Operation[] {
  return [
    { op: 'joinSlot', slot: 0, namespaces: isOrdinaryUser ? [...namespaces, 'pid'] : namespaces },
    ...(isOrdinaryUser ? [{ op: 'respawn', namespaces: [] } as const] : []),
    ...(namespaces.includes('user') ? [{ op: 'becomeRoot' } as const] : []),
  ];
}

function userContext(linux: Linux, { user, has, hasNew }: CompiledNamespaces, opensSources: boolean): UserContext {
  return {
    mappings: mappingsOf(linux),
    // A joined one may belong to the same user: then init reaches what the launcher does.
    opensSources: opensSources || user === 'joined',
    namespace: (type) => (hasNew(type) ? 'new' : has(type) ? 'joined' : 'host'),
  };
}

function nameSource({ path, idmap }: MountSource): string {
  const pairs = (idmap?.uid ?? []).map(({ containerID, hostID, size }) => `${containerID}:${hostID}:${size}`);
  return `mount tree of ${path}${idmap === undefined ? '' : ` with ids mapped (${pairs.join(' ')})`}`;
}

/**
 * While the host's proc is in sight, and before memory is charged to anybody.
 * @param score - of the out-of-memory killer: left to the launcher for a new user namespace, and only tried by an ordinary
 * user, who may neither lower it nor, undumpable, write it
 */
function compileEntry(process: Process, cgroupFiles: readonly string[], score: 'write' | 'try' | 'leave'): Operation[] {
  const operations: Operation[] = cgroupFiles.map((path) => ({ op: 'writeFile', path, data: '0' }));
  if (process.oomScoreAdj !== undefined && score !== 'leave') {
    const write = { op: 'writeFile', path: '/proc/self/oom_score_adj', data: String(process.oomScoreAdj) } as const;
    operations.unshift(score === 'try' ? { ...write, optional: true } : write);
  }
  return operations;
}

function compilePropagation(linux: Linux, sharedParent: string | undefined): Operation[] {
  const operations: Operation[] = [{ op: 'propagation', path: '/', propagation: hostPropagation(linux) }];
  if (sharedParent !== undefined) operations.push({ op: 'propagation', path: sharedParent, propagation: 'private' });
  return operations;
}

/** Of the host's mounts, in the container's mount namespace. */
function hostPropagation({ rootfsPropagation: given = '' }: Linux): Propagation {
  if (given === '') return 'rslave';
  return given.endsWith('unbindable')
    ? 'rprivate'
    : (`r${given.replace(/^r(?=private|slave|shared)/, '')}` as Propagation);
}

/** The kernel shares no mounts with a mount namespace of another user namespace (mount_namespaces(7)). */
function sourcePropagation(linux: Linux, hasUser: boolean): Propagation {
  const propagation = hostPropagation(linux);
  return hasUser && propagation === 'rshared' ? 'rslave' : propagation;
}

/** The root is bound in its place, which needs a parent that is neither shared nor unbindable; it is so afterwards. */
function compileEnter({ rootfsPropagation }: Linux, move: boolean, asItIs: boolean): Operation[] {
  const operations: Operation[] = [{ op: 'enterRoot', move, ...(asItIs ? { asItIs } : {}) }];
  if (rootfsPropagation && /shared|unbindable/.test(rootfsPropagation))
    operations.push({ op: 'propagation', path: '/', propagation: rootfsPropagation as Propagation });
  return operations;
}

function compileNetwork({ netDevices }: Linux, { hasNew }: CompiledNamespaces): Operation[] {
  const operations: Operation[] = hasNew('network') ? [{ op: 'loopback' }] : [];
  if (Object.keys(netDevices ?? {}).length > 0) operations.push({ op: 'sync', point: 'network' });
  return operations;
}

/** A new keyring is the process's own, also to SELinux; the exec takes back what is set for new keys. */
function compileKeyring(
  { noNewKeyring, id }: { readonly noNewKeyring: boolean; readonly id: string },
  { selinuxLabel: label }: Process,
): Operation[] {
  if (noNewKeyring) return [];
  return [
    ...(label ? [{ op: 'lsmLabel', path: 'self/attr/keycreate', label } as const] : []),
    { op: 'keyring', name: `_ses.${id}` },
  ];
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
