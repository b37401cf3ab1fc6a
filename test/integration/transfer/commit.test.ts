// Commit of a container that runs, as nerdctl does it: its changes become a layer, which on top of the image gives what the
// container sees, also to a container of its own.

import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Connection } from '../../../cli/client';
import type { Mount } from '../../../proto/generated/containerd.types';
import { describeUnless } from '../../setup/needs';
import { readTree, readXattrs } from '../../suites/tree';
import { missingForCli, useDaemon } from '../cli/fixture';

const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';
const TIMEOUT_MS = 120_000;

/** Adds, replaces, removes, replaces directories, links, and sets attributes; then it stays. */
const CHANGES = `set -e
  mkdir -p /data/deep /data/set; echo new > /data/deep/file; ln -s ../file /data/deep/link; ln /data/deep/file /data/hard
  chmod 2750 /data/set; chown 7:8 /data/set; chmod 4755 /data/hard; mkfifo /data/fifo; touch -d @1000000000 /data/deep
  dd if=/dev/zero of=/data/sparse bs=1 count=1 seek=1000000 2> /dev/null
  echo replaced > /etc/group; rm -rf /tmp/keep; rm -rf /etc/profile.d; mkdir -p /etc/profile.d; echo p > /etc/profile.d/p
  echo ready; exec sleep 1000`;

describeUnless(missingForCli())('the changes of a container', () => {
  const { daemon, run } = useDaemon();
  let connection: Connection;

  beforeAll(() => {
    connection = new Connection({ address: daemon.address, namespace: 'default', timeoutMs: TIMEOUT_MS });
  });

  afterAll(() => connection?.close());

  /** Looks at what the mounts show. */
  const inside = <T>(mounts: readonly Mount[], body: (root: string) => T): T => {
    const root = join(daemon.directory, 'look');
    mkdirSync(root, { recursive: true });
    for (const { type, source, options } of mounts) {
      execFileSync('mount', ['-t', type, source, '-o', options.join(','), root]);
    }
    try {
      return body(root);
    } finally {
      for (const _ of mounts) execFileSync('umount', [root]);
    }
  };
  /** Times in whole seconds, as layers have them. */
  const look = (mounts: readonly Mount[]) =>
    inside(mounts, (root) => {
      const entries = Object.entries(readTree(root));
      const tree = entries.map(([path, entry]) => [path, { ...entry, mtimeNs: entry.mtimeNs.slice(0, -9) }] as const);
      return { tree: Object.fromEntries(tree), xattrs: readXattrs(root) };
    });

  test.each(['overlayfs', 'native'])(
    'become a layer while it runs, which gives the same tree on %s',
    async (snapshotter) => {
      const id = `changing-${snapshotter}`;
      const { snapshots, diff } = connection;
      const container = daemon.spawn(['run', '--snapshotter', snapshotter, 'busybox', id, 'sh', '-c', CHANGES]);
      await container.prints('ready');

      const { info } = await snapshots.stat({ snapshotter, key: id });
      const parent = info?.parent ?? '';
      const lower = await snapshots.view({ snapshotter, key: `${id}-parent`, parent });
      const upper = await snapshots.mounts({ snapshotter, key: id });
      expect(await run('tasks', 'pause', id)).toMatchObject({ code: 0 });
      const made = await diff.diff({ left: lower.mounts, right: upper.mounts, mediaType: LAYER, ref: `commit-${id}` });
      expect(await run('tasks', 'resume', id)).toMatchObject({ code: 0 });

      const again = await snapshots.prepare({ snapshotter, key: `${id}-new`, parent });
      const applied = await diff.apply({ diff: made.diff, mounts: again.mounts });
      const [before, seen, given] = [lower.mounts, upper.mounts, again.mounts].map(look);
      expect(applied.applied?.digest).toMatch(/^sha256:/);
      expect(given).toEqual(seen);
      expect(Object.keys(given?.tree ?? {})).toEqual(expect.arrayContaining(['data/deep/link', 'etc/profile.d/p']));
      expect(given?.tree['tmp/keep']).toBeUndefined();
      expect(given?.tree).not.toEqual(before?.tree);

      await snapshots.commit({ snapshotter, name: `${id}-image`, key: `${id}-new` });
      expect(await run('tasks', 'kill', '--signal', 'KILL', id)).toMatchObject({ code: 0 });
      expect((await container.done).code).toBe(137);
    },
    TIMEOUT_MS,
  );
});
