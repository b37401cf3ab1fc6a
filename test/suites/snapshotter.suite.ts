// The contract of a snapshotter, through the Snapshots service: every driver in process and over gRPC passes it. Messages
// are those of containerd 1.6.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Input } from '../../proto/codec';
import { errorKind, messageOf } from '../../proto/errors';
import { SnapshotCommit, SnapshotPrepare, SnapshotRemove } from '../../proto/generated/containerd.events';
import { type Info, Kind, SnapshotsService } from '../../proto/generated/containerd.services.snapshots.v1';
import type { Mount } from '../../proto/generated/containerd.types';
import type { Api, Headers } from './api';
import type { SnapshotBench } from './snapshot-bench';
import { readTree, readXattrs } from './tree';

export interface SnapshotterSubject {
  readonly api: Api;
  readonly bench: SnapshotBench;
  close(): Promise<void>;
}

const FULL = 'containerd.io/snapshot.ref';

export function snapshotterSuite(name: string, snapshotter: string, open: () => Promise<SnapshotterSubject>): void {
  describe(`snapshotter ${snapshotter}, ${name}`, () => {
    let subject: SnapshotterSubject;
    let scratch: string;

    beforeEach(async () => {
      subject = await open();
      scratch = mkdtempSync(join(tmpdir(), 'snapshots-'));
    });

    afterEach(async () => {
      await subject.close();
      rmSync(scratch, { recursive: true, force: true });
    });

    const prepare = async (key: string, parent = '', labels: Record<string, string> = {}, headers: Headers = {}) =>
      (await subject.api.unary(SnapshotsService.prepare, { snapshotter, key, parent, labels }, headers)).mounts;
    const view = async (key: string, parent = '') =>
      (await subject.api.unary(SnapshotsService.view, { snapshotter, key, parent }, {})).mounts;
    const mountsOf = async (key: string) =>
      (await subject.api.unary(SnapshotsService.mounts, { snapshotter, key })).mounts;
    const commit = (committed: string, key: string, labels: Record<string, string> = {}, headers: Headers = {}) =>
      subject.api.unary(SnapshotsService.commit, { snapshotter, name: committed, key, labels }, headers);
    const remove = (key: string) => subject.api.unary(SnapshotsService.remove, { snapshotter, key });
    const stat = async (key: string, headers: Headers = {}) =>
      (await subject.api.unary(SnapshotsService.stat, { snapshotter, key }, headers)).info as Info;
    const update = async (info: Input<Info>, paths?: string[]) => {
      const request = { snapshotter, info, ...(paths === undefined ? {} : { updateMask: { paths } }) };
      return (await subject.api.unary(SnapshotsService.update, request)).info as Info;
    };
    const usage = (key: string) => subject.api.unary(SnapshotsService.usage, { snapshotter, key });
    const list = async (filters: string[] = [], headers: Headers = {}) =>
      (await subject.api.list(SnapshotsService.list, { snapshotter, filters }, headers)).flatMap(({ info }) => info);
    const cleanup = () => subject.api.unary(SnapshotsService.cleanup, { snapshotter });

    /** Runs `body` with the mounts mounted. */
    const within = <T>(mounts: readonly Mount[], body: (root: string) => T): T => {
      const root = mkdtempSync(join(scratch, 'mount-'));
      for (const { type, source, options } of mounts) {
        const flags = type === 'bind' ? options : options;
        execFileSync('mount', ['-t', type, source, '-o', flags.join(','), root]);
      }
      try {
        return body(root);
      } finally {
        execFileSync('umount', [root]);
      }
    };
    /** A committed layer made by shell commands. */
    const layer = async (committed: string, parent: string, commands: string) => {
      const mounts = await prepare(`${committed}-key`, parent);
      within(mounts, (root) => execFileSync('sh', ['-ec', commands], { cwd: root }));
      await commit(committed, `${committed}-key`);
    };

    test('prepare() gives a writable directory, commit() makes it a parent for others', async () => {
      await layer('base', '', 'echo one > file; mkdir dir; echo two > dir/file');

      const mounts = await prepare('child', 'base');

      const seen = within(mounts, (root) => {
        writeFileSync(join(root, 'file'), 'changed\n');
        rmSync(join(root, 'dir/file'));
        return readFileSync(join(root, 'file'), 'utf8');
      });
      expect(seen).toBe('changed\n');
      await commit('second', 'child');
      within(await view('look', 'second'), (root) => {
        expect(readFileSync(join(root, 'file'), 'utf8')).toBe('changed\n');
        expect(Object.keys(readTree(root))).toEqual(['dir', 'file']);
      });
      within(await view('look-base', 'base'), (root) => {
        expect(readFileSync(join(root, 'file'), 'utf8')).toBe('one\n');
      });
    });

    test('prepare() keeps everything that files are made of', async () => {
      await layer(
        'base',
        '',
        `printf x > suid; chown 5:6 suid; chmod 6755 suid; ln suid link; setfattr -n user.a -v b suid; mkfifo pipe
        mknod null c 1 3; ln -s /nowhere symlink; chown -h 7:8 symlink; mkdir -m 1777 tmp; truncate -s 1M sparse
        touch -d @1000000000.5 suid tmp; setcap cap_net_raw+ep sparse; touch -h -d @1000000001.25 symlink`,
      );
      const [tree, xattrs] = within(await view('base-view', 'base'), (root) => [readTree(root), readXattrs(root)]);

      const copy = within(await prepare('child', 'base'), (root) => [
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
      await layer('base', '', 'echo one > file');
      await layer('second', 'base', 'echo two > file2');

      for (const [key, parent] of [
        ['none', ''],
        ['one', 'base'],
        ['two', 'second'],
      ] as const) {
        within(await view(key, parent), (root) => {
          expect(() => mkdirSync(join(root, 'new'))).toThrow(/EROFS/);
        });
        expect((await stat(key)).kind).toBe(Kind.VIEW);
      }
    });

    test('mounts() gives what prepare() gave', async () => {
      await layer('base', '', 'true');

      expect(await mountsOf('x').catch(messageOf)).toBe('snapshot x does not exist: not found');
      for (const parent of ['', 'base'])
        expect(await prepare(`k${parent}`, parent)).toEqual(await mountsOf(`k${parent}`));
      for (const parent of ['', 'base']) expect(await view(`v${parent}`, parent)).toEqual(await mountsOf(`v${parent}`));
      await expect(mountsOf('base')).rejects.toThrow(
        /^failed to get active mount: requested snapshot default\/\d+\/base not active or view: failed precondition$/,
      );
    });

    test('a new root directory has mode 0755 and the owner of the parent', async () => {
      const umask = process.umask(0o077);
      try {
        await layer('base', '', 'chown 12:34 .');
      } finally {
        process.umask(umask);
      }

      within(await prepare('child', 'base'), (root) => expect(statSync(root)).toMatchObject({ uid: 12, gid: 34 }));
      within(await view('fresh'), (root) => expect((statSync(root).mode & 0o7777).toString(8)).toBe('755'));
    });

    test('keys and names are any text and share one space', async () => {
      const key = 'extract-1 sha256:ab/../ü "quoted"';
      await prepare(key);
      await commit('a name / with, things', key);

      expect((await list()).map(({ name }) => name)).toEqual(['a name / with, things']);
      await prepare(key);
      await expect(view('a name / with, things')).rejects.toThrow('snapshot "a name / with, things": already exists');
      await expect(prepare('')).rejects.toThrow(/must not be empty: invalid argument/);
      await expect(prepare('x'.repeat(40_000))).rejects.toThrow(/longer than 32768 bytes: invalid argument/);
    });

    test('prepare() and view() refuse an existing key and a bad parent', async () => {
      await prepare('active');
      await view('a-view');

      await expect(prepare('active')).rejects.toThrow(/^snapshot "active": already exists$/);
      await expect(view('active')).rejects.toThrow(/^snapshot "active": already exists$/);
      await expect(prepare('k', 'nope')).rejects.toThrow(/^parent snapshot nope does not exist: not found$/);
      for (const parent of ['active', 'a-view']) {
        const refused = await prepare('k', parent).catch((error: unknown) => error);
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
      await layer('base', '', 'true');
      await view('a-view');
      await prepare('active');

      await expect(commit('base', 'active')).rejects.toThrow(/^snapshot "base": already exists$/);
      await expect(commit('base', 'unknown')).rejects.toThrow(/^snapshot "base": already exists$/);
      await expect(commit('active', 'active')).rejects.toThrow(/^snapshot "active": already exists$/);
      await expect(commit('new', 'unknown')).rejects.toThrow(/^snapshot unknown does not exist: not found$/);
      for (const key of ['a-view', 'base']) {
        await expect(commit('new', key)).rejects.toThrow(
          new RegExp(`^failed to commit snapshot: snapshot "default/\\d+/${key}" is not active: failed precondition$`),
        );
      }
      const request = { snapshotter, name: 'new', key: 'active', parent: 'base' };
      await expect(subject.api.unary(SnapshotsService.commit, request)).rejects.toThrow(
        /cannot set a parent.*not implemented/,
      );
      expect((await stat('active')).kind).toBe(Kind.ACTIVE);
    });

    test('commit() takes only its own labels and the time of the commit', async () => {
      await prepare('key', '', { 'containerd.io/gc.root': 'x', of: 'key' });
      const active = await stat('key');

      await commit('name', 'key', { of: 'name', empty: '' });

      expect(active).toMatchObject({ name: 'key', parent: '', kind: Kind.ACTIVE, labels: { of: 'key' } });
      const committed = await stat('name');
      expect(committed).toMatchObject({ name: 'name', kind: Kind.COMMITTED });
      expect({ ...committed.labels }).toEqual({ of: 'name' });
      expect(committed.createdAt).toEqual(committed.updatedAt);
      expect(Number(committed.createdAt?.seconds)).toBeGreaterThanOrEqual(Number(active.createdAt?.seconds));
      await expect(stat('key')).rejects.toThrow('snapshot key does not exist: not found');
    });

    test('update() changes labels and nothing else', async () => {
      await layer('base', '', 'true');
      await prepare('key', 'base', { a: '1', b: '2', 'c.d/e': '3' });
      const before = await stat('key');

      const masked = await update({ name: 'key', labels: { a: 'x', 'c.d/e': '' }, kind: Kind.VIEW, parent: 'zzz' }, [
        'labels.a',
        'labels.c.d/e',
      ]);
      expect({ ...masked.labels }).toEqual({ a: 'x', b: '2' });
      expect(masked).toMatchObject({ kind: Kind.ACTIVE, parent: 'base', createdAt: before.createdAt });
      expect({ ...(await update({ name: 'key', labels: { z: '1' } })).labels }).toEqual({ z: '1' });
      expect({ ...(await update({ name: 'key', labels: { y: '1' } }, ['labels'])).labels }).toEqual({ y: '1' });
      expect({ ...(await stat('key')).labels }).toEqual({ y: '1' });
      await expect(update({ name: 'key' }, ['parent'])).rejects.toThrow(
        /cannot update "parent" field.*invalid argument/,
      );
      await expect(update({ name: '' })).rejects.toThrow(/invalid argument/);
      await expect(update({ name: 'none' })).rejects.toThrow('snapshot none does not exist: not found');
      await expect(update({ name: 'key', labels: { k: 'v'.repeat(4096) } })).rejects.toThrow(/invalid argument/);
    });

    test('remove() refuses a parent of others, and takes any other kind', async () => {
      await layer('base', '', 'true');
      await prepare('child', 'base');
      await view('look', 'base');

      await expect(remove('base')).rejects.toThrow(/^cannot remove snapshot with child: failed precondition$/);
      await remove('child');
      await expect(remove('base')).rejects.toThrow(/cannot remove snapshot with child/);
      await remove('look');
      await remove('base');
      await expect(remove('base')).rejects.toThrow(/^snapshot base does not exist: not found$/);
      expect(await list()).toEqual([]);
      await cleanup();
      expect(await subject.bench.directories(snapshotter)).toEqual([]);
    });

    test('usage() counts what a snapshot itself takes', async () => {
      await layer('base', '', 'head -c 1000000 /dev/urandom > big; ln big again; mkdir dir');
      within(await prepare('child', 'base'), (root) => writeFileSync(join(root, 'small'), 'x'.repeat(50_000)));

      const base = await usage('base');
      const child = await usage('child');

      expect(Number(base.size)).toBeGreaterThan(1_000_000);
      expect(Number(base.size)).toBeLessThan(1_100_000);
      expect(base.inodes).toBe(3n);
      expect(child.size).toBeGreaterThanOrEqual(50_000n);
      await view('look', 'base');
      expect(await usage('look')).toEqual({ size: 0n, inodes: 0n });
      await expect(usage('none')).rejects.toThrow('snapshot none does not exist: not found');
    });

    test('list() is ordered, filtered and of one namespace', async () => {
      await layer('b', '', 'true');
      await prepare('a', 'b', { l: '1', 'x.y/z': '2' });
      await view('c', 'b');
      await prepare('other', '', {}, { namespace: 'elsewhere' });
      const names = async (...filters: string[]) => (await list(filters)).map(({ name }) => name);

      expect(await names()).toEqual(['a', 'b', 'c']);
      expect(await names('kind==active')).toEqual(['a']);
      expect(await names('kind==view', 'kind==committed')).toEqual(['b', 'c']);
      expect(await names('parent==b,kind==view')).toEqual(['c']);
      expect(await names('name~=/[ab]/')).toEqual(['a', 'b']);
      expect(await names('labels.l')).toEqual(['a']);
      expect(await names('labels."x.y/z"==2')).toEqual(['a']);
      expect(await names('parent')).toEqual(['a', 'b', 'c']);
      expect(errorKind(await list(['kind=']).catch((error: unknown) => error))).toBe('unknown');
      expect((await list([], { namespace: 'elsewhere' })).map(({ name }) => name)).toEqual(['other']);
    });

    test('list() comes in batches of 100', async () => {
      for (let index = 0; index < 205; index++) await view(`v${String(index).padStart(3, '0')}`);

      const answers = await subject.api.list(SnapshotsService.list, { snapshotter });

      expect(answers.map(({ info }) => info.length)).toEqual([100, 100, 5]);
      expect(answers[2]?.info[4]?.name).toBe('v204');
    });

    test('namespaces do not see each other', async () => {
      const there = { namespace: 'there' };
      await prepare('key', '', {}, there);
      await prepare('key');

      await expect(stat('key', { namespace: 'third' })).rejects.toThrow('snapshot key does not exist: not found');
      await commit('base', 'key', {}, there);
      await expect(prepare('child', 'base')).rejects.toThrow('parent snapshot base does not exist: not found');
      expect(await list([], { namespace: 'third' })).toEqual([]);
    });

    test('prepare() answers for a target that exists already', async () => {
      await layer('target', '', 'true');

      await expect(prepare('key', '', { [FULL]: 'target' })).rejects.toThrow(
        /^target snapshot "target": already exists$/,
      );
      await expect(stat('key')).rejects.toThrow(/not found/);
      await prepare('key', '', { [FULL]: 'another' });
      expect((await stat('key')).labels[FULL]).toBe('another');
    });

    test('what is made or found under a lease belongs to it', async () => {
      const { bench } = subject;
      bench.lease('mine');
      const headers = { lease: 'mine' };
      const resources = () => bench.leased('mine', snapshotter);

      await prepare('key', '', {}, headers);
      expect(resources()).toEqual(['key']);
      await commit('name', 'key', {}, headers);
      expect(resources()).toEqual(['name']);
      await prepare('free');
      await prepare('free', '', {}, headers).catch(() => {});
      await layer('target', '', 'true');
      await prepare('k2', '', { [FULL]: 'target' }, headers).catch(() => {});
      expect(resources()).toEqual(['free', 'name', 'target']);
      await subject.api.unary(SnapshotsService.remove, { snapshotter, key: 'free' }, headers);
      expect(resources()).toEqual(['name', 'target']);
      await expect(prepare('k3', '', {}, { lease: 'unknown' })).rejects.toThrow(/lease "unknown": not found/);
      await expect(stat('k3')).rejects.toThrow(/not found/);
    });

    test('events tell of prepare, commit and remove, not of views', async () => {
      await prepare('key');
      await commit('base', 'key');
      await view('look', 'base');
      await prepare('child', 'base');
      await remove('child');
      await prepare('child', 'none').catch(() => {});

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
      await layer('base', '', 'echo x > file');

      const results = await Promise.allSettled(Array.from({ length: 8 }, () => prepare('key', 'base')));

      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      for (const result of results) {
        if (result.status === 'rejected') expect(messageOf(result.reason)).toBe('snapshot "key": already exists');
      }
      await cleanup();
      expect(await subject.bench.directories(snapshotter)).toHaveLength(2);
    });

    test('cleanup() removes directories without a record and leaves all others', async () => {
      await layer('base', '', 'echo x > file');
      await prepare('child', 'base');
      await subject.bench.strayDirectory(snapshotter, 4711);

      await cleanup();

      expect(await subject.bench.directories(snapshotter)).toHaveLength(2);
      within(await mountsOf('child'), (root) => expect(readFileSync(join(root, 'file'), 'utf8')).toBe('x\n'));
    });

    test("what a crash left behind is in nobody's way", async () => {
      await prepare('first');
      const [used = 0] = await subject.bench.directories(snapshotter);
      for (let id = used + 1; id < used + 4; id++) await subject.bench.strayDirectory(snapshotter, id);

      within(await prepare('second'), (root) => expect(readTree(root)).toEqual({}));
    });

    test('opening again keeps everything, and repairs a directory that a power cut took', async () => {
      await layer('base', '', 'echo x > file');
      await prepare('child', 'base');
      const [, lost = 0] = await subject.bench.directories(snapshotter);
      await subject.bench.loseDirectory(snapshotter, lost);

      await subject.bench.reopen();

      within(await mountsOf('child'), (root) => {
        expect(readFileSync(join(root, 'file'), 'utf8')).toBe('x\n');
        writeFileSync(join(root, 'new'), '');
      });
    });
  });
}
