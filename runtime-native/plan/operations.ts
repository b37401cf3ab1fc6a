// The operations of a launch plan. A plan is plain data: it can be printed as JSON, compared and tested without root.
// What an operation does is in init/*.c, one function for each, which encode.ts feeds.

import type { IdMapping } from '../spec';

/** Attributes of a mount, of the words that mount options use. */
export type MountAttribute =
  | 'ro'
  | 'nosuid'
  | 'nodev'
  | 'noexec'
  | 'nodiratime'
  | 'noatime'
  | 'strictatime'
  | 'relatime'
  | 'nosymfollow';

/** "r" in front means the whole tree. */
export type Propagation =
  | 'private'
  | 'rprivate'
  | 'slave'
  | 'rslave'
  | 'shared'
  | 'rshared'
  | 'unbindable'
  | 'runbindable';

export type Operation =
  /** Writes to a file of the host; only before enterRoot. */
  | { readonly op: 'writeFile'; readonly path: string; readonly data: string; readonly optional?: boolean }
  | { readonly op: 'unshare'; readonly namespaces: readonly string[] }
  | { readonly op: 'joinPath'; readonly namespace: string; readonly path: string }
  /** Slots of a plan are descriptors: first those handed over, then those that openTree fills. */
  | { readonly op: 'joinSlot'; readonly slot: number; readonly namespaces: readonly string[] }
  /** Goes on as a child of the launcher in new namespaces, and in the pid namespace that has been joined. */
  | { readonly op: 'respawn'; readonly namespaces: readonly string[] }
  /** Of the user namespace. */
  | { readonly op: 'becomeRoot' }
  /** Makes and enters a time namespace; offsets is what /proc/PID/timens_offsets takes. */
  | { readonly op: 'timeOffsets'; readonly offsets: string }
  | { readonly op: 'keyring'; readonly name: string }
  | { readonly op: 'loopback' }
  | { readonly op: 'propagation'; readonly path: string; readonly propagation: Propagation }
  /** Opens a proc of init's own for sysctl and lsmLabel, which nothing of the image can cover. */
  | { readonly op: 'procfs' }
  | { readonly op: 'sysctl'; readonly path: string; readonly value: string }
  | { readonly op: 'lsmLabel'; readonly path: string; readonly label: string }
  | { readonly op: 'openTree'; readonly slot: number; readonly path: string; readonly recursive: boolean }
  /** asItIs: in a mount namespace that others have as well, which is not changed. */
  | { readonly op: 'root'; readonly path: string; readonly asItIs?: boolean }
  | { readonly op: 'currentRoot' }
  | { readonly op: 'enterRoot'; readonly move: boolean; readonly asItIs?: boolean }
  | MountOperation
  | AttachOperation
  | RemountOperation
  | {
      readonly op: 'device';
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
      readonly uid: number;
      readonly gid: number;
    }
  | { readonly op: 'symlink'; readonly target: string; readonly path: string; readonly replace: boolean }
  | { readonly op: 'makeDirectory'; readonly path: string; readonly mode: number }
  /** label: of the tmpfs that covers a directory. */
  | { readonly op: 'mask'; readonly path: string; readonly label?: string }
  /** The SELinux label of what has been mounted there, where the filesystem has no option for it. */
  | { readonly op: 'fileLabel'; readonly path: string; readonly label: string }
  | { readonly op: 'readonly'; readonly path: string }
  | { readonly op: 'hostname'; readonly name: string }
  | { readonly op: 'domainname'; readonly name: string }
  | { readonly op: 'rlimit'; readonly type: number; readonly soft: string; readonly hard: string }
  | { readonly op: 'terminal'; readonly rows: number; readonly columns: number; readonly console: boolean }
  /** Tells the launcher and waits for its answer. */
  | { readonly op: 'sync'; readonly point: SyncPoint }
  /** Waits until somebody connects to the listening socket in the slot and says so; the launcher need not be there. */
  | { readonly op: 'awaitStart'; readonly slot: number }
  /** Descriptors in slots become 3, 4, ... of the program. */
  | { readonly op: 'keepFiles'; readonly slot: number; readonly count: number }
  | { readonly op: 'noNewPrivileges' }
  /** filter is base64 of the BPF program; listens: the launcher is told the descriptor of its listener. */
  | { readonly op: 'seccomp'; readonly filter: string; readonly flags: number; readonly listens?: boolean }
  | { readonly op: 'bounding'; readonly capabilities: readonly string[] }
  | { readonly op: 'user'; readonly uid: number; readonly gid: number; readonly groups: readonly number[] }
  | {
      readonly op: 'capabilities';
      readonly effective: readonly string[];
      readonly permitted: readonly string[];
      readonly inheritable: readonly string[];
    }
  | { readonly op: 'ambient'; readonly capabilities: readonly string[] }
  | { readonly op: 'umask'; readonly mask: number }
  /** A first attempt is made as root; when it lacks the right (a network mount), the next one is made as the user. */
  | { readonly op: 'changeDirectory'; readonly path: string; readonly firstAttempt: boolean }
  | { readonly op: 'stdioOwner'; readonly uid: number }
  | { readonly op: 'findExecutable'; readonly name: string; readonly path: string }
  | { readonly op: 'home'; readonly uid: number }
  | { readonly op: 'closeFiles' }
  | { readonly op: 'personality'; readonly domain: number }
  | { readonly op: 'ioPriority'; readonly value: number }
  /** Times are nanoseconds. */
  | {
      readonly op: 'scheduler';
      readonly policy: number;
      readonly flags: number;
      readonly nice: number;
      readonly priority: number;
      readonly runtime: string;
      readonly deadline: string;
      readonly period: string;
    }
  | { readonly op: 'cpuAffinity'; readonly cpus: readonly number[] }
  | { readonly op: 'memoryPolicy'; readonly mode: number; readonly nodes: readonly number[] }
  | {
      readonly op: 'execute';
      readonly args: readonly string[];
      readonly env: readonly string[];
      /** A failure is written to stderr, where runc writes it, and not told to the launcher. */
      readonly reportToStderr: boolean;
    };

export interface MountOperation {
  readonly op: 'mount';
  readonly type: string;
  readonly source: string;
  readonly target: string;
  /** Options of the filesystem: "key" or "key=value". */
  readonly options: readonly string[];
  readonly attributes: readonly MountAttribute[];
  readonly propagation?: Propagation;
  /** A tmpfs takes the mode of the directory it covers. */
  readonly modeOfTarget?: boolean;
  /** Refuses a target that is, or is reached through, a symlink. */
  readonly ordinaryDirectory?: boolean;
  readonly copyUp?: boolean;
  /** The target may lie in a procfs. */
  readonly onProc?: boolean;
  /** Slot of a tree to attach instead when the user namespace does not own what the filesystem shows. */
  readonly fallback?: number;
}

export interface AttachOperation {
  readonly op: 'attach';
  readonly slot: number;
  readonly source: string;
  readonly target: string;
  readonly set: readonly MountAttribute[];
  readonly clear: readonly MountAttribute[];
  readonly recursive: boolean;
  readonly propagation?: Propagation;
  /** The target may lie in a procfs. */
  readonly onProc?: boolean;
}

export interface RemountOperation {
  readonly op: 'remount';
  readonly target: string;
  readonly set: readonly MountAttribute[];
  readonly clear: readonly MountAttribute[];
  readonly recursive: boolean;
  readonly propagation?: Propagation;
}

/**
 * mapping: the user namespace has no ids yet; network: devices are to be moved in; hooks: prestart and createRuntime;
 * containerHooks: createContainer; filtered: the listener of a filter is to be taken before the exec closes it; ready: everything is done but the exec.
 */
export type SyncPoint = 'mapping' | 'network' | 'hooks' | 'containerHooks' | 'filtered' | 'ready';

/** A tree that the launcher opens, because the container's user namespace could not reach or id-map it. */
export interface MountSource {
  readonly path: string;
  /** Where it is to be attached. */
  readonly target: string;
  readonly recursive: boolean;
  /** What the container's mount namespace would make of it, in which it is not opened. */
  readonly propagation?: Propagation;
  readonly idmap?: {
    readonly uid: readonly IdMapping[];
    readonly gid: readonly IdMapping[];
    readonly recursive: boolean;
  };
}

/** Operations in the order in which init runs them. */
export interface Plan {
  readonly operations: readonly Operation[];
  /** What the descriptors handed over are, for readers of the plan. */
  readonly inherited: readonly string[];
  /** Those of them that come last. */
  readonly sources?: readonly MountSource[];
}
