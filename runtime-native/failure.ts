// What init reports, in the words that runc has for the same failure; clients look for some of them.

import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import { hasSecurityModule } from './launcher/security-modules';
import type { Operation } from './plan/operations';

export interface Failure {
  readonly operation: Operation | undefined;
  /** Positive errno. */
  readonly error: number;
  /** enum failure_stage of init/plan.h. */
  readonly stage: number;
  readonly text: string;
  /** Of a bind mount whose source could not be opened. */
  readonly target?: string | undefined;
}

export const STAGES = {
  OPERATION: 0,
  TARGET: 1,
  ATTRIBUTES: 2,
  NOT_ORDINARY: 3,
  COPY: 4,
  STAT: 5,
  NOT_FOUND: 6,
  PERMISSION: 7,
  RELATIVE: 8,
  ACCESS: 9,
  OUTSIDE: 10,
  NOT_DEVICE: 11,
  ON_PROC: 12,
} as const;

/** Where libuv's words are not those of the C library. */
const WORDS: Readonly<Record<string, string>> = {
  EEXIST: 'file exists',
  EBUSY: 'device or resource busy',
  ELOOP: 'too many levels of symbolic links',
  ENAMETOOLONG: 'file name too long',
  ENOMEM: 'cannot allocate memory',
  ERANGE: 'numerical result out of range',
  ENOTEMPTY: 'directory not empty',
  EXDEV: 'invalid cross-device link',
  EIO: 'input/output error',
  ENOTSUP: 'operation not supported',
  EAGAIN: 'resource temporarily unavailable',
  EISDIR: 'is a directory',
  EMFILE: 'too many open files',
  EINVAL: 'invalid argument',
  ENOSYS: 'function not implemented',
  ETXTBSY: 'text file busy',
};
const { EINVAL, ENOENT, ENOEXEC } = constants.errno;

/** The steps of the process itself; those before belong to what runc calls the container's init. */
const PROCESS_OPERATIONS = new Set<Operation['op']>([
  'closeFiles',
  'changeDirectory',
  'bounding',
  'home',
  'stdioOwner',
  'user',
  'capabilities',
  'ambient',
  'findExecutable',
  'seccomp',
  'execute',
]);

/**
 * @param inInit - whether the process is the container's first one
 * @param hasModule - of the host
 */
export function describeFailure(failure: Failure, inInit: boolean, hasModule = hasSecurityModule): string {
  const { operation } = failure;
  if (operation === undefined) return `init: ${errnoText(failure.error)}`;
  const text = describe(operation, failure) + describeLabel(operation, failure.error, hasModule);
  return PROCESS_OPERATIONS.has(operation.op) || !inInit ? text : `error during container init: ${text}`;
}

/** strerror(3) in lower case. */
export function errnoText(error: number): string {
  if (error === ENOEXEC) return 'exec format error';
  const [code, words] = getSystemErrorMap().get(-error) ?? [undefined, `errno ${error}`];
  return (code === undefined ? undefined : WORDS[code]) ?? words;
}

/** The same for an error of Node's own. */
export function errorText(error: unknown): string {
  const { errno, message } = error as NodeJS.ErrnoException;
  return typeof errno === 'number' ? errnoText(-errno) : String(message ?? error);
}

/** Where the kernel's answer does not tell what is wrong with a label. */
function describeLabel(operation: Operation, error: number, hasModule: typeof hasSecurityModule): string {
  if (operation.op === 'lsmLabel' && operation.path.includes('/apparmor/')) {
    if (!hasModule('apparmor')) return ': apparmor is disabled or not supported';
    return error === ENOENT ? `: profile "${operation.label.replace(/^exec /, '')}" is not loaded` : '';
  }
  const isLabel =
    operation.op === 'mount'
      ? operation.options.some((option) => option.startsWith('context='))
      : operation.op === 'lsmLabel';
  if (!isLabel || error !== EINVAL || hasModule('selinux')) return '';
  return ': selinux label is specified in config, but selinux is disabled or not supported';
}

function describe(operation: Operation, failure: Failure): string {
  const reason = errnoText(failure.error);
  switch (operation.op) {
    case 'mount':
      return describeMount(operation.source, operation.target, failure, operation.type);
    case 'attach':
      return describeMount(operation.source, operation.target, failure, 'bind');
    case 'openTree':
      return `error mounting "${operation.path}" to rootfs at "${failure.target}": stat ${operation.path}: ${reason}`;
    case 'remount':
      return `error remounting "${operation.target}": ${reason}`;
    case 'findExecutable':
      return describeLookup(operation.name, failure, reason);
    case 'execute':
      return `exec ${failure.text}: ${reason}`;
    case 'changeDirectory':
      return failure.stage === STAGES.OUTSIDE
        ? 'current working directory is outside of container mount namespace root -- possible container breakout detected'
        : `chdir to cwd ("${operation.path}") set in config.json failed: ${reason}`;
    case 'rlimit':
      return `error setting rlimits for ready process: error setting rlimit type ${operation.type}: ${reason}`;
    case 'capabilities':
    case 'bounding':
    case 'ambient':
      return `unable to apply caps: ${reason}`;
    case 'user':
    case 'stdioOwner':
    case 'home':
      return `unable to setup user: ${reason}`;
    case 'seccomp':
      return `unable to init seccomp: error loading seccomp filter into kernel: ${reason}`;
    case 'lsmLabel':
      return operation.path.includes('/apparmor/')
        ? `unable to apply apparmor profile: apparmor failed to apply profile: write /proc/${operation.path}: ${reason}`
        : `can't set process label: write /proc/${operation.path}: ${reason}`;
    case 'sysctl':
      return `open /proc/${operation.path}: ${reason}`;
    case 'makeDirectory':
      return `mkdir ${operation.path}: ${reason}`;
    case 'writeFile':
      return operation.path === '/proc/self/oom_score_adj'
        ? `failed to update /proc/self/oom_score_adj: ${reason}`
        : `unable to apply cgroup configuration: failed to write ${operation.path}: ${reason}`;
    default:
      return describeOther(operation, failure, reason);
  }
}

function describeOther(operation: Operation, failure: Failure, reason: string): string {
  switch (operation.op) {
    case 'joinPath':
      return `failed to join ${operation.namespace} namespace ${operation.path}: ${reason}`;
    case 'joinSlot':
      return `failed to join the namespaces of the container: ${reason}`;
    case 'root':
      return `error preparing rootfs: ${operation.path}: ${reason}`;
    case 'enterRoot':
      return `error jailing process inside rootfs: pivot_root ${reason}`;
    case 'device':
      return `error creating device nodes: mknod ${operation.path}: ${reason}`;
    case 'symlink':
      return `error setting up symlink ${operation.path}: ${reason}`;
    case 'mask':
      return failure.stage === STAGES.NOT_DEVICE
        ? `can't mask path "${operation.path}": /dev/null is not the null device`
        : `can't mask path "${operation.path}": ${reason}`;
    case 'fileLabel':
      return `can't set the label of "${operation.path}": ${reason} (linux.mountLabel)`;
    case 'readonly':
      return `can't set readonly path "${operation.path}": ${reason}`;
    case 'terminal':
      return failure.stage === STAGES.NOT_DEVICE
        ? 'error setting up the terminal: /dev/pts/ptmx is not of a devpts'
        : `error setting up the terminal: ${reason}`;
    default:
      return `${operation.op}: ${reason}`;
  }
}

function describeMount(source: string, target: string, failure: Failure, type: string): string {
  const { stage } = failure;
  const reason = errnoText(failure.error);
  const head = `error mounting "${source}" to rootfs at "${target}"`;
  if (stage === STAGES.NOT_ORDINARY) return `${head}: filesystem "${type}" must be mounted on ordinary directory`;
  if (stage === STAGES.ON_PROC) return `${head}: "${target}" cannot be mounted because it is inside /proc`;
  if (stage === STAGES.TARGET) return `${head}: create mount destination ${target}: ${reason}`;
  if (stage === STAGES.COPY) return `${head}: tmpcopyup: ${reason}`;
  return `${head}: mount ${source}:${target}: ${reason}`;
}

function describeLookup(name: string, { stage, text }: Failure, reason: string): string {
  switch (stage) {
    case STAGES.STAT:
      return `exec: "${name}": stat ${name}: ${reason}`;
    case STAGES.NOT_FOUND:
      return `exec: "${name}": executable file not found in $PATH`;
    case STAGES.RELATIVE:
      return `exec: "${name}": cannot run executable found relative to current directory`;
    case STAGES.ACCESS:
      return `exec ${text}: ${reason}`;
    default:
      return `exec: "${name}": permission denied`;
  }
}
