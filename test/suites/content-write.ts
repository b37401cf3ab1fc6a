// The part of the content contract that is about writing: digests, offsets, resumption, locks, commits and leases.

import { ContentService, WriteAction } from '../../proto/generated/containerd.services.content.v1';
import { LeasesService } from '../../proto/generated/containerd.services.leases.v1';
import { type ContentClient, digestOf, failure, fresh, retry, start, writeBlob } from './content-client';

const { STAT, WRITE, COMMIT } = WriteAction;

export function contentWriteCases(client: () => ContentClient): void {
  describe('Write', () => {
    it('commits what was written and answers each request', async () => {
      const data = fresh(3000);
      const ref = client().newRef();
      const dialog = client().write();

      const stat = await dialog.ask(start(ref, { total: 3000n, expected: digestOf(data) }));
      const first = await dialog.ask({ action: WRITE, data: data.subarray(0, 1000) });
      const second = await dialog.ask({ action: WRITE, offset: 1000n, data: data.subarray(1000) });
      const commit = await dialog.ask({ action: COMMIT, offset: 3000n, labels: { a: 'b' } });
      const rest = await dialog.end();

      expect(stat).toMatchObject({ action: STAT, offset: 0n, total: 3000n, digest: digestOf(Buffer.alloc(0)) });
      expect(stat.startedAt?.seconds).toBeGreaterThan(0n);
      expect(first).toMatchObject({ action: WRITE, offset: 1000n, digest: digestOf(data.subarray(0, 1000)) });
      expect(second).toMatchObject({ offset: 3000n, digest: digestOf(data) });
      expect(commit).toMatchObject({ action: COMMIT, offset: 3000n, digest: digestOf(data) });
      expect(rest).toEqual([commit]);
      expect(await client().info(digestOf(data))).toMatchObject({ size: 3000n, labels: { a: 'b' } });
      expect(await client().read({ digest: digestOf(data) })).toEqual(data);
      expect((await failure(client().api.unary(ContentService.status, { ref }))).kind).toBe('not found');
    });

    it('needs a ref in the first message', async () => {
      expect(await failure(client().write().ask({ action: STAT }))).toMatchObject({ kind: 'invalid argument' });
    });

    it('refuses a malformed digest', async () => {
      expect(
        await failure(
          client()
            .write()
            .ask(start(client().newRef(), { expected: 'sha256:abc' })),
        ),
      ).toMatchObject({
        kind: 'invalid argument',
      });
    });

    it('locks the ref until the stream ends', async () => {
      const ref = client().newRef();
      const holder = client().write();
      await holder.ask(start(ref));

      const second = await failure(client().write().ask(start(ref)));
      const elsewhere = await failure(client().write({ namespace: 'other' }).ask(start(ref)));
      await holder.end();
      const afterwards = await failure(retry(() => client().write().ask(start(ref))));

      expect(second.kind).toBe('unavailable');
      expect(second.message).toContain(`locked for`);
      expect(elsewhere.kind).toBe('ok');
      expect(afterwards.kind).toBe('ok');
    });

    it('releases the ref when the client cancels', async () => {
      const ref = client().newRef();
      const holder = client().write();
      await holder.ask({ action: WRITE, ref, data: Buffer.from('abc') });
      await holder.cancel();

      const stat = await retry(() => client().write().ask(start(ref)));

      expect(stat.offset).toBe(3n);
    });

    it('resumes what an earlier stream left', async () => {
      const data = fresh(2_000_000);
      const ref = client().newRef();
      const before = client().write();
      await before.ask({ action: WRITE, ref, data: data.subarray(0, 1_500_000) });
      await before.end();

      const dialog = client().write();
      const stat = await dialog.ask(start(ref));
      await dialog.ask({ action: WRITE, offset: 1_500_000n, data: data.subarray(1_500_000) });
      const commit = await dialog.ask({ action: COMMIT, offset: 2_000_000n, expected: digestOf(data) });

      expect(stat).toMatchObject({ offset: 1_500_000n, digest: digestOf(data.subarray(0, 1_500_000)) });
      expect(commit.digest).toBe(digestOf(data));
    });

    it('starts again when the total differs from before', async () => {
      const ref = client().newRef();
      const before = client().write();
      await before.ask({ action: WRITE, ref, total: 10n, data: Buffer.from('abc') });
      await before.end();

      const dialog = client().write();
      expect(await dialog.ask(start(ref, { total: 20n }))).toMatchObject({ offset: 0n, total: 20n });
      await dialog.end();
    });

    it('truncates at offset 0 and refuses any other wrong offset', async () => {
      const ref = client().newRef();
      const dialog = client().write();
      await dialog.ask({ action: WRITE, ref, data: Buffer.from('abc') });

      const again = await dialog.ask({ action: WRITE, data: Buffer.from('xy') });
      const wrong = await failure(dialog.ask({ action: WRITE, offset: 7n, data: Buffer.from('z') }));

      expect(again).toMatchObject({ offset: 2n, digest: digestOf(Buffer.from('xy')) });
      expect(wrong.kind).toBe('out of range');
      expect((await client().api.unary(ContentService.status, { ref })).status).toMatchObject({ offset: 2n });
    });

    it('refuses a commit of another size or digest and keeps the bytes', async () => {
      const ref = client().newRef();
      const size = await failure(
        client()
          .write()
          .ask({ action: COMMIT, ref, total: 5n, data: Buffer.from('abc') }),
      );
      const digest = await failure(
        retry(() =>
          client()
            .write()
            .ask({ action: COMMIT, ref, offset: 3n, expected: digestOf(Buffer.from('xyz')) }),
        ),
      );

      expect(size.kind).toBe('failed precondition');
      expect(size.message).toContain('failed size validation: 3 != 5');
      expect(digest.kind).toBe('failed precondition');
      expect(digest.message).toContain('unexpected commit digest sha256:ba7816bf');
      expect((await client().api.unary(ContentService.status, { ref })).status?.offset).toBe(3n);
    });

    it('refuses an expected digest that is there, at the open and later', async () => {
      const data = fresh();
      const digest = await writeBlob(client().api, data);

      const ref = client().newRef();
      const open = await failure(
        client()
          .write()
          .ask(start(ref, { expected: digest })),
      );
      const dialog = client().write();
      await dialog.ask({ action: WRITE, ref, data: data.subarray(0, 10) });
      const later = await failure(
        dialog.ask({ action: WRITE, offset: 10n, expected: digest, data: data.subarray(10) }),
      );

      expect(open).toEqual({ kind: 'already exists', message: `content ${digest}: already exists` });
      expect(later.kind).toBe('already exists');
      expect(later.message).toContain(`blob with expected digest ${digest} exists`);
      expect((await failure(client().api.unary(ContentService.status, { ref }))).kind).toBe('not found');
    });

    it('refuses a commit of a blob that is there and keeps its labels', async () => {
      const data = fresh();
      const digest = await writeBlob(client().api, data, { labels: { first: '1' } });
      const ref = client().newRef();

      const again = await failure(
        client()
          .write()
          .ask({ action: COMMIT, ref, data, labels: { second: '2' } }),
      );

      expect(again).toEqual({ kind: 'already exists', message: `content ${digest}: already exists` });
      expect((await client().info(digest))?.labels).toEqual({ first: '1' });
      expect((await failure(client().api.unary(ContentService.status, { ref }))).kind).toBe('not found');
    });

    it('takes the algorithm from the expected digest, wherever it comes', async () => {
      const [one, two] = [fresh(), fresh()];
      const early = client().write();
      await early.ask(start(client().newRef(), { expected: digestOf(one, 'sha512') }));
      const first = await early.ask({ action: COMMIT, data: one });
      const late = client().write();
      await late.ask({ action: WRITE, ref: client().newRef(), data: two });
      const second = await late.ask({ action: COMMIT, offset: 100n, expected: digestOf(two, 'sha512') });

      expect(first.digest).toBe(digestOf(one, 'sha512'));
      expect(second.digest).toBe(digestOf(two, 'sha512'));
      expect(await client().read({ digest: second.digest })).toEqual(two);
    });

    it('spares the upload of a blob that another namespace has', async () => {
      const data = fresh();
      const expected = await writeBlob(client().api, data);
      const dialog = client().write({ namespace: 'other' });

      const stat = await dialog.ask(start(client().newRef(), { expected }));
      const commit = await dialog.ask({ action: COMMIT, offset: 100n, total: 100n, expected, labels: { x: 'y' } });

      expect(stat).toMatchObject({ offset: 100n, digest: expected });
      expect(commit.digest).toBe(expected);
      expect(await client().info(expected, { namespace: 'other' })).toMatchObject({ size: 100n, labels: { x: 'y' } });
      expect((await client().info(expected))?.labels).toEqual({});
    });

    it('takes other bytes in place of a shared blob', async () => {
      const data = fresh();
      const expected = await writeBlob(client().api, data);
      const replaced = client().write({ namespace: 'third' });
      await replaced.ask(start(client().newRef(), { expected }));
      const other = await replaced.ask({ action: WRITE, data: Buffer.from('new') });
      const extended = client().write({ namespace: 'fourth' });
      await extended.ask(start(client().newRef(), { expected }));
      const longer = await extended.ask({ action: WRITE, offset: 100n, data: Buffer.from('more') });

      expect(other).toMatchObject({ offset: 3n, digest: digestOf(Buffer.from('new')) });
      expect(longer).toMatchObject({ offset: 104n, digest: digestOf(Buffer.concat([data, Buffer.from('more')])) });
      await replaced.end();
      await extended.end();
    });

    it('commits an empty blob', async () => {
      const digest = digestOf(Buffer.alloc(0));
      await client().write().ask({ action: COMMIT, ref: client().newRef() });

      expect((await client().info(digest))?.size).toBe(0n);
      expect(await client().api.list(ContentService.read, { digest })).toEqual([]);
    });

    it('refuses a label that is too long', async () => {
      const labels = { key: 'x'.repeat(4096) };
      expect(
        await failure(client().write().ask({ action: COMMIT, ref: client().newRef(), data: fresh(), labels })),
      ).toMatchObject({
        kind: 'invalid argument',
      });
    });

    it('takes messages of many megabytes', async () => {
      const data = fresh(12 << 20);
      const digest = await writeBlob(client().api, data);
      expect(digestOf(await client().read({ digest }))).toBe(digest);
    });

    it('lets many write at once', async () => {
      const blobs = Array.from({ length: 20 }, () => fresh(50_000));
      const digests = await Promise.all(blobs.map((data) => writeBlob(client().api, data)));
      const same = fresh(50_000);
      const race = await Promise.all(
        Array.from({ length: 8 }, (_, index) => failure(writeBlob(client().api, same, { ref: `race-${index}` }))),
      );

      expect(digests).toEqual(blobs.map((data) => digestOf(data)));
      expect(race.filter(({ kind }) => kind === 'ok')).toHaveLength(1);
      expect(race.filter(({ kind }) => kind === 'already exists')).toHaveLength(7);
    });
  });

  describe('leases', () => {
    it('hold ingests and then blobs', async () => {
      const { lease } = await client().api.unary(LeasesService.create, { id: `lease-${client().newRef()}` });
      const held = async () =>
        (await client().api.unary(LeasesService.listResources, { id: lease?.id ?? '' })).resources.map(
          ({ id, type }) => [type, id],
        );
      const data = fresh();
      const ref = client().newRef();
      const dialog = client().write({ lease: lease?.id });
      await dialog.ask(start(ref));
      const during = await held();
      await dialog.ask({ action: COMMIT, data });
      const there = await writeBlob(client().api, fresh());
      await failure(
        client()
          .write({ lease: lease?.id })
          .ask(start(client().newRef(), { expected: there })),
      );

      expect(during).toEqual([['ingests', ref]]);
      expect((await held()).sort()).toEqual(
        [
          ['content', digestOf(data)],
          ['content', there],
        ].sort(),
      );
    });

    it('that do not exist make writes fail', async () => {
      expect(await failure(client().write({ lease: 'none' }).ask(start(client().newRef())))).toEqual({
        kind: 'not found',
        message: 'lease "none": not found',
      });
    });
  });
}
