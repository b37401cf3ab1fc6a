// The Snapshots service as a suite calls it, with one snapshotter, and mounting what it returns.

import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import type { Input } from '../../proto/codec';
import { type Info, SnapshotsService } from '../../proto/generated/containerd.services.snapshots.v1';
import type { Mount } from '../../proto/generated/containerd.types';
import type { Api, Headers } from './api';
import type { SnapshotBench } from './snapshot-bench';

/** What a suite runs on. */
export interface SnapshotterSubject {
  readonly api: Api;
  readonly bench: SnapshotBench;
  close(): Promise<void>;
}

export type SnapshotClient = ReturnType<typeof snapshotClient>;

/** Mount points are made in `scratch`. */
export function snapshotClient(api: Api, snapshotter: string, scratch: string) {
  const prepare = async (key: string, parent = '', labels: Record<string, string> = {}, headers: Headers = {}) =>
    (await api.unary(SnapshotsService.prepare, { snapshotter, key, parent, labels }, headers)).mounts;
  const commit = (committed: string, key: string, labels: Record<string, string> = {}, headers: Headers = {}) =>
    api.unary(SnapshotsService.commit, { snapshotter, name: committed, key, labels }, headers);
  /** Runs `body` with the mounts mounted. */
  const within = <T>(mounts: readonly Mount[], body: (root: string) => T): T => {
    const root = mkdtempSync(join(scratch, 'mount-'));
    for (const { type, source, options } of mounts) {
      execFileSync('mount', ['-t', type, source, '-o', options.join(','), root]);
    }
    try {
      return body(root);
    } finally {
      execFileSync('umount', [root]);
    }
  };
  return {
    prepare,
    commit,
    within,
    view: async (key: string, parent = '') =>
      (await api.unary(SnapshotsService.view, { snapshotter, key, parent })).mounts,
    mounts: async (key: string) => (await api.unary(SnapshotsService.mounts, { snapshotter, key })).mounts,
    remove: (key: string, headers: Headers = {}) => api.unary(SnapshotsService.remove, { snapshotter, key }, headers),
    stat: async (key: string, headers: Headers = {}) =>
      (await api.unary(SnapshotsService.stat, { snapshotter, key }, headers)).info as Info,
    update: async (info: Input<Info>, paths?: string[]) => {
      const request = { snapshotter, info, ...(paths === undefined ? {} : { updateMask: { paths } }) };
      return (await api.unary(SnapshotsService.update, request)).info as Info;
    },
    usage: (key: string) => api.unary(SnapshotsService.usage, { snapshotter, key }),
    list: async (filters: string[] = [], headers: Headers = {}) =>
      (await api.list(SnapshotsService.list, { snapshotter, filters }, headers)).flatMap(({ info }) => info),
    cleanup: () => api.unary(SnapshotsService.cleanup, { snapshotter }),
    /** A committed layer made by shell commands. */
    layer: async (committed: string, parent: string, commands: string) => {
      const mounts = await prepare(`${committed}-key`, parent);
      within(mounts, (root) => execFileSync('sh', ['-ec', commands], { cwd: root }));
      await commit(committed, `${committed}-key`);
    },
  };
}
