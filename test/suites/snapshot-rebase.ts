// Part of the contract of a snapshotter: a parent that comes with the commit, for layers that are unpacked side by side.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Kind, SnapshotsService } from '../../proto/generated/containerd.services.snapshots.v1';
import { type SnapshotClient, type SnapshotterSubject, snapshotClient } from './snapshot-client';

export function rebaseSuite(snapshotter: string, canRebase: boolean, open: () => Promise<SnapshotterSubject>): void {
  describe(`snapshotter ${snapshotter}, a parent at the commit`, () => {
    let subject: SnapshotterSubject;
    let scratch: string;
    let client: SnapshotClient;

    const commit = (key: string, name: string, parent: string) =>
      subject.api.unary(SnapshotsService.commit, { snapshotter, name, key, parent });

    beforeEach(async () => {
      subject = await open();
      scratch = mkdtempSync(join(tmpdir(), 'snapshots-'));
      client = snapshotClient(subject.api, snapshotter, scratch);
      await client.layer('base', '', 'echo base > shared; echo base > file');
      client.within(await client.prepare('key'), (root) => writeFileSync(join(root, 'file'), 'own'));
    });

    afterEach(async () => {
      await subject.close();
      rmSync(scratch, { recursive: true, force: true });
    });

    if (!canRebase) {
      test('is refused where a snapshot holds all of its parent', async () => {
        await expect(commit('key', 'top', 'base')).rejects.toThrow(/cannot set a parent.*not implemented/);

        expect((await client.stat('key')).kind).toBe(Kind.ACTIVE);
      });
      return;
    }

    test('is below the snapshot from then on', async () => {
      await commit('key', 'top', 'base');

      expect(await client.stat('top')).toMatchObject({ kind: Kind.COMMITTED, parent: 'base' });
      await expect(client.remove('base')).rejects.toThrow('cannot remove snapshot with child');
      client.within(await client.view('look', 'top'), (root) => {
        expect(readFileSync(join(root, 'shared'), 'utf8')).toBe('base\n');
        expect(readFileSync(join(root, 'file'), 'utf8')).toBe('own');
      });
    });

    test('must be committed', async () => {
      await expect(commit('key', 'top', 'none')).rejects.toThrow(/^parent snapshot none does not exist: not found$/);
      await expect(commit('key', 'top', 'key')).rejects.toThrow(/key" is not committed: failed precondition$/);

      expect((await client.stat('key')).kind).toBe(Kind.ACTIVE);
    });

    test('does not replace another', async () => {
      await client.layer('other', '', 'true');
      await client.prepare('child', 'base');

      await commit('child', 'third', 'other');

      expect((await client.stat('third')).parent).toBe('base');
    });
  });
}
