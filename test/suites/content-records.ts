// The part of the content contract that is about what is there: reading, records, filters, ingests at rest.

import { ContentService, WriteAction } from '../../proto/generated/containerd.services.content.v1';
import { type ContentClient, digestOf, failure, fresh, start, writeBlob } from './content-client';

const { WRITE, COMMIT } = WriteAction;

export function contentRecordCases(client: () => ContentClient): void {
  describe('Read', () => {
    it('reads ranges and clips them', async () => {
      const data = fresh(5000);
      const digest = await writeBlob(client().api, data);

      expect(await client().read({ digest, offset: 10n, size: 20n })).toEqual(data.subarray(10, 30));
      expect(await client().read({ digest, offset: 4990n, size: 100n })).toEqual(data.subarray(4990));
      expect(await client().read({ digest, offset: -5n })).toEqual(data);
      expect(await client().read({ digest, offset: 5000n })).toHaveLength(0);
      expect((await failure(client().read({ digest, offset: 5001n }))).kind).toBe('out of range');
    });

    it('sends chunks of at most 1 MiB with offsets that count from the first', async () => {
      const data = fresh((1 << 20) + 5000);
      const digest = await writeBlob(client().api, data);

      const chunks = await client().api.list(ContentService.read, { digest, offset: 1000n });

      expect(chunks.map((chunk) => [chunk.offset, chunk.data.length])).toEqual([
        [0n, 1 << 20],
        [1n << 20n, 4000],
      ]);
    });
  });

  describe('records', () => {
    it('are of one namespace', async () => {
      const digest = await writeBlob(client().api, fresh());
      expect((await failure(client().info(digest, { namespace: 'empty' }))).message).toBe(
        `content digest ${digest}: not found`,
      );
    });

    it.each(['info', 'delete', 'read', 'update'] as const)('%s refuses bad and unknown digests', async (method) => {
      const call = (digest: string) => {
        if (method === 'read') return client().api.list(ContentService.read, { digest });
        if (method === 'update') return client().api.unary(ContentService.update, { info: { digest } });
        return method === 'info'
          ? client().api.unary(ContentService.info, { digest })
          : client().api.unary(ContentService.delete, { digest });
      };
      expect((await failure(call('nonsense'))).kind).toBe('invalid argument');
      expect((await failure(call(digestOf(fresh())))).kind).toBe('not found');
    });

    it('Update changes labels through masks', async () => {
      const digest = await writeBlob(client().api, fresh(), { labels: { 'a.b/c': '1', keep: '2' } });
      const update = async (labels: Record<string, string>, paths: string[]) =>
        (await client().api.unary(ContentService.update, { info: { digest, labels, size: 7n }, updateMask: { paths } }))
          .info;
      const before = await client().info(digest);

      expect((await update({ 'a.b/c': '3', other: '4' }, ['labels.a.b/c']))?.labels).toEqual({
        'a.b/c': '3',
        keep: '2',
      });
      expect((await update({}, ['labels.keep']))?.labels).toEqual({ 'a.b/c': '3' });
      expect((await update({ x: 'y' }, ['labels']))?.labels).toEqual({ x: 'y' });
      const last = await update({ z: 'z' }, []);
      expect(last).toMatchObject({ labels: { z: 'z' }, size: 100n, createdAt: before?.createdAt });
      expect(await client().info(digest)).toEqual(last);
      expect((await failure(update({}, ['size']))).kind).toBe('invalid argument');
    });

    it('Delete removes the record', async () => {
      const digest = await writeBlob(client().api, fresh());
      await client().api.unary(ContentService.delete, { digest });
      expect((await failure(client().info(digest))).kind).toBe('not found');
    });

    it('List filters and comes in batches', async () => {
      const headers = { namespace: 'listing' };
      const digests: string[] = [];
      for (let index = 0; index < 105; index += 1) {
        digests.push(await writeBlob(client().api, fresh(), { ...headers, labels: { number: String(index) } }));
      }
      const list = (filters: string[]) => client().api.list(ContentService.list, { filters }, headers);

      const all = await list([]);
      expect(all.map(({ info: batch }) => batch.length)).toEqual([100, 5]);
      expect(all.flatMap(({ info: batch }) => batch.map(({ digest }) => digest))).toEqual([...digests].sort());
      expect((await list(['labels.number==7'])).flatMap(({ info: batch }) => batch)).toMatchObject([
        { digest: digests[7] },
      ]);
      expect(await list([`digest==${digests[3]}`, `digest==${digests[4]}`])).toMatchObject([{ info: [{}, {}] }]);
      expect(await list(['labels.none'])).toEqual([]);
      expect((await failure(list(['===']))).kind).toBe('invalid argument');
    });
  });

  describe('ingests', () => {
    it('are listed with their offsets, open or not', async () => {
      const headers = { namespace: 'ingests' };
      const closed = client().write(headers);
      await closed.ask({ action: WRITE, ref: 'closed', total: 9n, data: Buffer.from('abc') });
      await closed.end();
      const open = client().write(headers);
      await open.ask({ action: WRITE, ref: 'open', data: Buffer.from('abcde') });
      const list = async (filters: string[]) =>
        (await client().api.unary(ContentService.listStatuses, { filters }, headers)).statuses;

      expect(await list([''])).toMatchObject([
        { ref: 'closed', offset: 3n, total: 9n, expected: '' },
        { ref: 'open', offset: 5n, total: 0n },
      ]);
      expect(await list(['ref==open'])).toHaveLength(1);
      expect((await client().api.unary(ContentService.status, { ref: 'closed' }, headers)).status?.offset).toBe(3n);
      await open.end();
    });

    it('Abort drops an ingest', async () => {
      const ref = client().newRef();
      const dialog = client().write();
      await dialog.ask({ action: WRITE, ref, data: Buffer.from('abc') });
      await dialog.end();

      await client().api.unary(ContentService.abort, { ref });

      expect((await failure(client().api.unary(ContentService.status, { ref }))).message).toBe(
        `reference ${ref}: not found`,
      );
      expect((await failure(client().api.unary(ContentService.abort, { ref }))).kind).toBe('not found');
      const again = client().write();
      expect((await again.ask(start(ref))).offset).toBe(0n);
      await again.end();
    });

    it('that are aborted under a writer cannot be committed', async () => {
      const ref = client().newRef();
      const data = fresh();
      const dialog = client().write();
      await dialog.ask({ action: WRITE, ref, data });
      await client().api.unary(ContentService.abort, { ref });

      expect((await failure(dialog.ask({ action: COMMIT, offset: 100n }))).kind).toBe('not found');
      expect((await failure(client().info(digestOf(data)))).kind).toBe('not found');
    });
  });

  it('needs a namespace', async () => {
    const headers = { namespace: '' };
    expect((await failure(client().info(digestOf(fresh()), headers))).kind).toBe('failed precondition');
    expect((await failure(client().write(headers).ask(start('x')))).kind).toBe('failed precondition');
    expect((await failure(client().info(digestOf(fresh()), { namespace: 'a b' }))).kind).toBe('invalid argument');
  });
}
