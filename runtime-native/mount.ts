// Mounting as containerd.types.Mount means it: what snapshotters return and shims and clients mount.

import { notImplemented } from '../proto/errors';

export interface Mount {
  readonly type: string;
  readonly source: string;
  /** Path below the directory that is mounted on, or empty. */
  readonly target: string;
  readonly options: readonly string[];
}

/** Mounts in order on target (an existing directory). What was mounted is unmounted again on failure. */
export function mountAll(_mounts: readonly Mount[], _target: string): void {
  throw notImplemented('mount');
}

/** Unmounts everything at and below target, innermost first. Idempotent; lazy when busy. */
export function unmountRecursive(_target: string): void {
  throw notImplemented('unmount');
}
