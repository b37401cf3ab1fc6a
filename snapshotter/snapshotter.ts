// What a snapshotter is: root file systems by key, as mounts. Keys and names are those of one namespace; kinds and rules
// are those of containerd's Snapshots service. Implementations: LocalSnapshotter over a driver for directories of
// this machine, ProxySnapshotter over a plug-in's socket. Records are always the daemon's; only mounts(), update() and what
// makes or measures data can wait for somebody else.

import { isNotFound } from '../proto/errors';
import type { Mount } from '../runtime-native/index';

/** view and active snapshots have keys, committed ones names; both share one space. */
export type SnapshotKind = 'view' | 'active' | 'committed';

export interface SnapshotInfo {
  readonly kind: SnapshotKind;
  /** Key of an active snapshot or view, name of a committed one. */
  readonly name: string;
  /** Name of the parent, empty for none. */
  readonly parent: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAtNs: bigint;
  readonly updatedAtNs: bigint;
}

export interface SnapshotUsage {
  /** Disk space in bytes, parents not counted. */
  readonly sizeBytes: bigint;
  readonly inodes: bigint;
}

export interface CreateOptions {
  readonly labels?: Readonly<Record<string, string>>;
  /** Ends the wait for a plug-in; what it makes nevertheless is removed by cleanup(). */
  readonly signal?: AbortSignal;
  /** Runs inside the transaction that writes the record: leases, events. What it throws undoes the creation. */
  readonly within?: () => void;
}

/** What cleanup() has removed. */
export interface CleanupReport {
  /** Of how many snapshots. */
  readonly count: number;
  /** Disk space in bytes, as far as it was measured. */
  readonly sizeBytes: bigint;
}

export interface SnapshotName {
  readonly namespace: string;
  /** Key of an active snapshot or view, name of a committed one. */
  readonly key: string;
}

export interface CommitOptions extends CreateOptions {
  /** Sets the parent of a snapshot without one. Only where `capabilities` has rebase. */
  readonly parent?: string;
  /** What the record waits for, while the data goes to disk: the commit of `parent`. Its failure is that of the commit. */
  readonly ready?: Promise<void>;
}

export type LabelChange = (labels: Readonly<Record<string, string>>) => Record<string, string>;

export interface UpdateOptions {
  /** Ends the wait for a plug-in. */
  readonly signal?: AbortSignal;
}

export interface RemoveOptions {
  readonly within?: () => void;
}

/** The label by which Prepare names the committed snapshot that it works for, so that a backend may provide it. */
export const TARGET_LABEL = 'containerd.io/snapshot.ref';

/** All methods throw NOT_FOUND for an unknown key; names in messages are those of the caller. */
export interface Snapshotter {
  readonly name: string;
  /** Directory below which the data is, empty for none. */
  readonly root: string;
  readonly capabilities: readonly string[];

  stat(namespace: string, key: string): SnapshotInfo;

  /**
   * Replaces the labels by what `change` makes of them, which may be asked more than once.
   * @returns the snapshot afterwards
   */
  update(namespace: string, key: string, change: LabelChange, options?: UpdateOptions): Promise<SnapshotInfo>;

  /** What an active snapshot holds now, what a committed one held when it was committed; nothing for views. */
  usage(namespace: string, key: string): Promise<SnapshotUsage>;

  /** @throws FAILED_PRECONDITION for a committed snapshot */
  mounts(namespace: string, key: string): Promise<Mount[]>;

  /**
   * Makes an active snapshot on top of `parent` (empty for none) and returns its writable mounts.
   * @throws ALREADY_EXISTS for the key, or for the target that TARGET_LABEL names; NOT_FOUND for the parent;
   * INVALID_ARGUMENT when the parent is not committed
   */
  prepare(namespace: string, key: string, parent: string, options?: CreateOptions): Promise<Mount[]>;

  /** The same with read-only mounts. */
  view(namespace: string, key: string, parent: string, options?: CreateOptions): Promise<Mount[]>;

  /**
   * Turns an active snapshot into a committed one; its data is on disk before the record is. Labels of the key are not
   * kept.
   * @throws ALREADY_EXISTS for the name, FAILED_PRECONDITION when the key is no active snapshot
   */
  commit(namespace: string, name: string, key: string, options?: CommitOptions): Promise<void>;

  /**
   * Removes the record; the data goes with the next cleanup().
   * @throws FAILED_PRECONDITION while other snapshots have it as their parent
   */
  remove(namespace: string, key: string, options?: RemoveOptions): void;

  /** All snapshots of the namespace, in the order of their names' bytes. */
  walk(namespace: string): SnapshotInfo[];

  /** Removes data that no record stands for. Measuring it costs a walk over all of it. */
  cleanup(options?: { readonly isMeasured?: boolean }): Promise<CleanupReport>;

  /** Snapshots of all namespaces whose data is gone; none where only a plug-in could know. */
  lost(): Promise<SnapshotName[]>;

  /** Gives up connections; the snapshotter is not used afterwards. */
  close?(): void;
}

/** Whether the namespace has a snapshot of this name or key. */
export function hasSnapshot(snapshotter: Pick<Snapshotter, 'stat'>, namespace: string, key: string): boolean {
  try {
    snapshotter.stat(namespace, key);
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}
