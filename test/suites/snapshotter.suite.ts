// The contract of a snapshotter, through the Snapshots service: every driver in process and over gRPC passes it. Messages
// are those of containerd 1.6.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorKind, messageOf } from '../../proto/errors';
import { SnapshotCommit, SnapshotPrepare, SnapshotRemove } from '../../proto/generated/containerd.events';
import { Kind, SnapshotsService } from '../../proto/generated/containerd.services.snapshots.v1';
import type { Headers } from './api';
import { type SnapshotClient, type SnapshotterSubject, snapshotClient } from './snapshot-client';
import { readTree, readXattrs } from './tree';

const FULL = 'containerd.io/snapshot.ref';

export function snapshotterSuite(name: string, snapshotter: string, open: () => Promise<SnapshotterSubject>): void {
  describe(`snapshotter ${snapshotter}, ${name}`, () => {
    let subject: SnapshotterSubject;
    let scratch: string;
    let client: SnapshotClient;

    beforeEach(async () => {
      subject = await open();
      scratch = mkdtempSync(join(tmpdir(), 'snapshots-'));
      client = snapshotClient(subject.api, snapshotter, scratch);
    });

    afterEach(async () => {
      await subject.close();
      rmSync(scratch, { recursive: true, force: true });
    });

    test('prepare() gives a writable directory, client.commit() makes it a parent for others', async () => {
      await client.layer('base', '', 'echo one > file; mkdir dir; echo two > dir/file');

      const mounts = await client.prepare('child', 'base');

      const seen = client.within(mounts, (root) => {
        writeFileSync(join(root, 'file'), 'changed\n');
        rmSync(join(root, 'dir/file'));
        return readFileSync(join(root, 'file'), 'utf8');
      });
      expect(seen).toBe('changed\n');
      await client.commit('second', 'child');
      client.within(await client.view('look', 'second'), (root) => {
        expect(readFileSync(join(root, 'file'), 'utf8')).toBe('changed\n');
        expect(Object.keys(readTree(root))).toEqual(['dir', 'file']);
      });
      client.within(await client.view('look-base', 'base'), (root) => {
        expect(readFileSync(join(root, 'file'), 'utf8')).toBe('one\n');
      });
    });

    test('prepare() keeps everything that files are made of', async () => {
      await client.layer(
        'base',
        '',
        `printf x > suid; chown 5:6 suid; chmod 6755 suid; ln suid link; setfattr -n user.a -v b suid; mkfifo pipe
        mknod null c 1 3; ln -s /nowhere symlink; chown -h 7:8 symlink; mkdir -m 1777 tmp; truncate -s 1M sparse
        touch -d @1000000000.5 suid tmp; setcap cap_net_raw+ep sparse; touch -h -d @1000000001.25 symlink`,
      );
      const [tree, xattrs] = client.within(await client.view('base-view', 'base'), (root) => [
        readTree(root),
        readXattrs(root),
      ]);

      const copy = client.within(await client.prepare('child', 'base'), (root) => [
        readTree(root),
        readXattrs(root),
        statSync(join(root, 'sparse')).blocks,
      ]);

      expect(copy[0]).toEqual(tree);
      expect(copy[1]).toEqual(xattrs);
      expect(xattrs.join()).toContain('security.capability');
      expect(copy[2]).toBeLessThan(64);
    });

    test('view() is read-only, with and without a parent', async () => {
      await client.layer('base', '', 'echo one > file');
      await client.layer('second', 'base', 'echo two > file2');

      for (const [key, parent] of [
        ['none', ''],
        ['one', 'base'],
        ['two', 'second'],
      ] as const) {
        client.within(await client.view(key, parent), (root) => {
          expect(() => mkdirSync(join(root, 'new'))).toThrow(/EROFS/);
        });
        expect((await client.stat(key)).kind).toBe(Kind.VIEW);
      }
    });

    test('mounts() gives what client.prepare() gave', async () => {
      await client.layer('base', '', 'true');

      expect(await client.mounts('x').catch(messageOf)).toBe('snapshot x does not exist: not found');
      for (const parent of ['', 'base'])
        expect(await client.prepare(`k${parent}`, parent)).toEqual(await client.mounts(`k${parent}`));
      for (const parent of ['', 'base'])
        expect(await client.view(`v${parent}`, parent)).toEqual(await client.mounts(`v${parent}`));
      await expect(client.mounts('base')).rejects.toThrow(
        /^failed to get active mount: requested snapshot default\/\d+\/base not active or view: failed precondition$/,
      );
    });

    test('a new root directory has mode 0755 and the owner of the parent', async () => {
      const umask = process.umask(0o077);
      try {
        await client.layer('base', '', 'chown 12:34 .');
      } finally {
        process.umask(umask);
      }

      client.within(await client.prepare('child', 'base'), (root) =>
        expect(statSync(root)).toMatchObject({ uid: 12, gid: 34 }),
      );
      client.within(await client.view('fresh'), (root) =>
        expect((statSync(root).mode & 0o7777).toString(8)).toBe('755'),
      );
    });

    test('keys and names are any text and share one space', async () => {
      const key = 'extract-1 sha256:ab/../ü "quoted"';
      await client.prepare(key);
      await client.commit('a name / with, things', key);

      expect((await client.list()).map(({ name }) => name)).toEqual(['a name / with, things']);
      await client.prepare(key);
      await expect(client.view('a name / with, things')).rejects.toThrow(
        'snapshot "a name / with, things": already exists',
      );
      await expect(client.prepare('')).rejects.toThrow(/must not be empty: invalid argument/);
      await expect(client.prepare('x'.repeat(40_000))).rejects.toThrow(/longer than 32768 bytes: invalid argument/);
    });

    test('prepare() and client.view() refuse an existing key and a bad parent', async () => {
      await client.prepare('active');
      await client.view('a-view');

      await expect(client.prepare('active')).rejects.toThrow(/^snapshot "active": already exists$/);
      await expect(client.view('active')).rejects.toThrow(/^snapshot "active": already exists$/);
      await expect(client.prepare('k', 'nope')).rejects.toThrow(/^parent snapshot nope does not exist: not found$/);
      for (const parent of ['active', 'a-view']) {
        const refused = await client.prepare('k', parent).catch((error: unknown) => error);
        expect(errorKind(refused)).toBe('invalid argument');
        expect(messageOf(refused)).toMatch(
          new RegExp(
            `^failed to create snapshot: parent "default/\\d+/${parent}" is not committed snapshot: invalid argument$`,
          ),
        );
      }
      expect(await subject.bench.directories(snapshotter)).toHaveLength(2);
    });

    test('commit() refuses an existing name and what is not active', async () => {
      await client.layer('base', '', 'true');
      await client.view('a-view');
      await client.prepare('active');

      await expect(client.commit('base', 'active')).rejects.toThrow(/^snapshot "base": already exists$/);
      await expect(client.commit('base', 'unknown')).rejects.toThrow(/^snapshot "base": already exists$/);
      await expect(client.commit('active', 'active')).rejects.toThrow(/^snapshot "active": already exists$/);
      await expect(client.commit('new', 'unknown')).rejects.toThrow(/^snapshot unknown does not exist: not found$/);
      for (const key of ['a-view', 'base']) {
        await expect(client.commit('new', key)).rejects.toThrow(
          new RegExp(`^failed to commit snapshot: snapshot "default/\\d+/${key}" is not active: failed precondition$`),
        );
      }
      expect((await client.stat('active')).kind).toBe(Kind.ACTIVE);
    });

    test('commit() takes only its own labels and the time of the commit', async () => {
      await client.prepare('key', '', { 'containerd.io/gc.root': 'x', of: 'key' });
      const active = await client.stat('key');

      await client.commit('name', 'key', { of: 'name', empty: '' });

      expect(active).toMatchObject({ name: 'key', parent: '', kind: Kind.ACTIVE, labels: { of: 'key' } });
      const committed = await client.stat('name');
      expect(committed).toMatchObject({ name: 'name', kind: Kind.COMMITTED });
      expect({ ...committed.labels }).toEqual({ of: 'name' });
      expect(committed.createdAt).toEqual(committed.updatedAt);
      expect(Number(committed.createdAt?.seconds)).toBeGreaterThanOrEqual(Number(active.createdAt?.seconds));
      await expect(client.stat('key')).rejects.toThrow('snapshot key does not exist: not found');
    });

    test('update() changes labels and nothing else', async () => {
      await client.layer('base', '', 'true');
      await client.prepare('key', 'base', { a: '1', b: '2', 'c.d/e': '3' });
      const before = await client.stat('key');

      const masked = await client.update(
        { name: 'key', labels: { a: 'x', 'c.d/e': '' }, kind: Kind.VIEW, parent: 'zzz' },
        ['labels.a', 'labels.c.d/e'],
      );
      expect({ ...masked.labels }).toEqual({ a: 'x', b: '2' });
      expect(masked).toMatchObject({ kind: Kind.ACTIVE, parent: 'base', createdAt: before.createdAt });
      expect({ ...(await client.update({ name: 'key', labels: { z: '1' } })).labels }).toEqual({ z: '1' });
      expect({ ...(await client.update({ name: 'key', labels: { y: '1' } }, ['labels'])).labels }).toEqual({ y: '1' });
      expect({ ...(await client.stat('key')).labels }).toEqual({ y: '1' });
      await expect(client.update({ name: 'key' }, ['parent'])).rejects.toThrow(
        /cannot update "parent" field.*invalid argument/,
      );
      await expect(client.update({ name: '' })).rejects.toThrow(/invalid argument/);
      await expect(client.update({ name: 'none' })).rejects.toThrow('snapshot none does not exist: not found');
      await expect(client.update({ name: 'key', labels: { k: 'v'.repeat(4096) } })).rejects.toThrow(/invalid argument/);
    });

    test('remove() refuses a parent of others, and takes any other kind', async () => {
      await client.layer('base', '', 'true');
      await client.prepare('child', 'base');
      await client.view('look', 'base');

      await expect(client.remove('base')).rejects.toThrow(/^cannot remove snapshot with child: failed precondition$/);
      await client.remove('child');
      await expect(client.remove('base')).rejects.toThrow(/cannot remove snapshot with child/);
      await client.remove('look');
      await client.remove('base');
      await expect(client.remove('base')).rejects.toThrow(/^snapshot base does not exist: not found$/);
      expect(await client.list()).toEqual([]);
      await client.cleanup();
      expect(await subject.bench.directories(snapshotter)).toEqual([]);
    });

    test('usage() counts what a snapshot itself takes', async () => {
      await client.layer('base', '', 'head -c 1000000 /dev/urandom > big; ln big again; mkdir dir');
      client.within(await client.prepare('child', 'base'), (root) =>
        writeFileSync(join(root, 'small'), 'x'.repeat(50_000)),
      );

      const base = await client.usage('base');
      const child = await client.usage('child');

      expect(Number(base.size)).toBeGreaterThan(1_000_000);
      expect(Number(base.size)).toBeLessThan(1_100_000);
      expect(base.inodes).toBe(3n);
      expect(child.size).toBeGreaterThanOrEqual(50_000n);
      await client.view('look', 'base');
      expect(await client.usage('look')).toEqual({ size: 0n, inodes: 0n });
      await expect(client.usage('none')).rejects.toThrow('snapshot none does not exist: not found');
    });

    test('list() is ordered, filtered and of one namespace', async () => {
      await client.layer('b', '', 'true');
      await client.prepare('a', 'b', { l: '1', 'x.y/z': '2' });
      await client.view('c', 'b');
      await client.prepare('other', '', {}, { namespace: 'elsewhere' });
      const names = async (...filters: string[]) => (await client.list(filters)).map(({ name }) => name);

      expect(await names()).toEqual(['a', 'b', 'c']);
      expect(await names('kind==active')).toEqual(['a']);
      expect(await names('kind==view', 'kind==committed')).toEqual(['b', 'c']);
      expect(await names('parent==b,kind==view')).toEqual(['c']);
      expect(await names('name~=/[ab]/')).toEqual(['a', 'b']);
      expect(await names('labels.l')).toEqual(['a']);
      expect(await names('labels."x.y/z"==2')).toEqual(['a']);
      expect(await names('parent')).toEqual(['a', 'b', 'c']);
      expect(errorKind(await client.list(['kind=']).catch((error: unknown) => error))).toBe('unknown');
      expect((await client.list([], { namespace: 'elsewhere' })).map(({ name }) => name)).toEqual(['other']);
    });

    test('list() comes in batches of 100', async () => {
      for (let index = 0; index < 205; index++) await client.view(`v${String(index).padStart(3, '0')}`);

      const answers = await subject.api.list(SnapshotsService.list, { snapshotter });

      expect(answers.map(({ info }) => info.length)).toEqual([100, 100, 5]);
      expect(answers[2]?.info[4]?.name).toBe('v204');
    });

    test('namespaces do not see each other', async () => {
      const there = { namespace: 'there' };
      await client.prepare('key', '', {}, there);
      await client.prepare('key');

      await expect(client.stat('key', { namespace: 'third' })).rejects.toThrow(
        'snapshot key does not exist: not found',
      );
      await client.commit('base', 'key', {}, there);
      await expect(client.prepare('child', 'base')).rejects.toThrow('parent snapshot base does not exist: not found');
      expect(await client.list([], { namespace: 'third' })).toEqual([]);
    });

    test('prepare() answers for a target that exists already', async () => {
      await client.layer('target', '', 'true');

      await expect(client.prepare('key', '', { [FULL]: 'target' })).rejects.toThrow(
        /^target snapshot "target": already exists$/,
      );
      await expect(client.stat('key')).rejects.toThrow(/not found/);
      await client.prepare('key', '', { [FULL]: 'another' });
      expect((await client.stat('key')).labels[FULL]).toBe('another');
    });

    test('what is made or found under a lease belongs to it', async () => {
      const { bench } = subject;
      bench.lease('mine');
      const headers = { lease: 'mine' };
      const resources = () => bench.leased('mine', snapshotter);

      await client.prepare('key', '', {}, headers);
      expect(resources()).toEqual(['key']);
      await client.commit('name', 'key', {}, headers);
      expect(resources()).toEqual(['name']);
      await client.prepare('free');
      await client.prepare('free', '', {}, headers).catch(() => {});
      await client.layer('target', '', 'true');
      await client.prepare('k2', '', { [FULL]: 'target' }, headers).catch(() => {});
      expect(resources()).toEqual(['free', 'name', 'target']);
      await subject.api.unary(SnapshotsService.remove, { snapshotter, key: 'free' }, headers);
      expect(resources()).toEqual(['name', 'target']);
      await expect(client.prepare('k3', '', {}, { lease: 'unknown' })).rejects.toThrow(/lease "unknown": not found/);
      await expect(client.stat('k3')).rejects.toThrow(/not found/);
    });

    test('events tell of prepare, commit and remove, not of views', async () => {
      await client.prepare('key');
      await client.commit('base', 'key');
      await client.view('look', 'base');
      await client.prepare('child', 'base');
      await client.remove('child');
      await client.prepare('child', 'none').catch(() => {});

      expect(subject.bench.events()).toEqual([
        ['default', '/snapshot/prepare', SnapshotPrepare.name, { key: 'key', parent: '', snapshotter }],
        ['default', '/snapshot/commit', SnapshotCommit.name, { key: 'key', name: 'base', snapshotter }],
        ['default', '/snapshot/prepare', SnapshotPrepare.name, { key: 'child', parent: 'base', snapshotter }],
        ['default', '/snapshot/remove', SnapshotRemove.name, { key: 'child', snapshotter }],
      ]);
    });

    test('every call wants a snapshotter that is loaded, and a namespace', async () => {
      const call = (id: string, headers: Headers = {}) =>
        subject.api.unary(SnapshotsService.stat, { snapshotter: id, key: 'k' }, headers);

      await expect(call('nope')).rejects.toThrow(/^snapshotter not loaded: nope: invalid argument$/);
      await expect(call('')).rejects.toThrow(/^snapshotter argument missing: invalid argument$/);
      expect(errorKind(await call(snapshotter, { namespace: '' }).catch((error: unknown) => error))).toBe(
        'failed precondition',
      );
    });

    test('one key is prepared once, whoever asks at the same time', async () => {
      await client.layer('base', '', 'echo x > file');

      const results = await Promise.allSettled(Array.from({ length: 8 }, () => client.prepare('key', 'base')));

      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      for (const result of results) {
        if (result.status === 'rejected') expect(messageOf(result.reason)).toBe('snapshot "key": already exists');
      }
      await client.cleanup();
      expect(await subject.bench.directories(snapshotter)).toHaveLength(2);
    });

    test('cleanup() removes directories without a record and leaves all others', async () => {
      await client.layer('base', '', 'echo x > file');
      await client.prepare('child', 'base');
      await subject.bench.strayDirectory(snapshotter, 4711);

      await client.cleanup();

      expect(await subject.bench.directories(snapshotter)).toHaveLength(2);
      client.within(await client.mounts('child'), (root) =>
        expect(readFileSync(join(root, 'file'), 'utf8')).toBe('x\n'),
      );
    });

    test("what a crash left behind is in nobody's way", async () => {
      await client.prepare('first');
      const [used = 0] = await subject.bench.directories(snapshotter);
      for (let id = used + 1; id < used + 4; id++) await subject.bench.strayDirectory(snapshotter, id);

      client.within(await client.prepare('second'), (root) => expect(readTree(root)).toEqual({}));
    });

    test('opening again keeps everything, and repairs a directory that a power cut took', async () => {
      await client.layer('base', '', 'echo x > file');
      await client.prepare('child', 'base');
      const [, lost = 0] = await subject.bench.directories(snapshotter);
      await subject.bench.loseDirectory(snapshotter, lost);

      await subject.bench.reopen();

      client.within(await client.mounts('child'), (root) => {
        expect(readFileSync(join(root, 'file'), 'utf8')).toBe('x\n');
        writeFileSync(join(root, 'new'), '');
      });
    });
  });
}
