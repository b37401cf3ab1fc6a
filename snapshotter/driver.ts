// What a local snapshotter leaves to its driver: directories by number. Drivers keep no records and know no keys.

import type { Mount } from '../runtime-native/index';
import type { SnapshotKind, SnapshotUsage } from './snapshotter';

/** A snapshot as a driver sees it. Parents are nearest first. */
export interface Layer {
  readonly id: number;
  readonly kind: SnapshotKind;
  readonly parents: readonly number[];
}

export interface Driver {
  readonly name: string;
  readonly root: string;
  /** Whether a snapshot holds only what differs from its parents, so that it can get one when it is committed. */
  readonly canRebase: boolean;

  /** Makes the data of a new active snapshot or view. Leftovers of the same number are nobody's and are removed. */
  create(layer: Layer): Promise<void>;

  /** Makes again what of an active snapshot or view a power cut has taken. */
  repair(layer: Layer): Promise<void>;

  mounts(layer: Layer): Mount[];

  /** What a snapshot itself takes, without its parents. */
  usage(id: number): Promise<SnapshotUsage>;

  /**
   * Brings the data of an active snapshot into the form that it has when it is committed. It is on disk when this
   * resolves with what it takes. The snapshot stays active as it is: the commit may still fail.
   */
  seal(id: number): Promise<SnapshotUsage>;

  /** Removes what a snapshot needs no more once it is committed. Idempotent; called again when the daemon starts. */
  settle?(id: number): Promise<void>;

  /** Numbers that have data. */
  list(): Promise<number[]>;

  /** Removes all data of a snapshot. Idempotent. */
  remove(id: number): Promise<void>;
}
