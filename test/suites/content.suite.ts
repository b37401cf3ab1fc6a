// The contract of the content store, as containerd's clients know it: digests, offsets, resumption, locks, commits,
// leases and errors. Runs on the services in process and through gRPC.

import { createHash, randomBytes } from 'node:crypto';
import type { Input } from '../../proto/codec';
import { errorKind, messageOf } from '../../proto/errors';
import {
  ContentService,
  WriteAction,
  type WriteContentRequest,
} from '../../proto/generated/containerd.services.content.v1';
import { LeasesService } from '../../proto/generated/containerd.services.leases.v1';
import type { Api, Headers } from './api';

const { STAT, WRITE, COMMIT } = WriteAction;

export interface ContentFixture {
  readonly api: Api;
  close(): Promise<void>;
}

export function digestOf(data: Uint8Array, algorithm = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(data).digest('hex')}`;
}

/** Writes a blob in one go, as a client does that knows all of it. */
export async function writeBlob(
  api: Api,
  data: Uint8Array,
  options: Headers & { ref?: string; labels?: Record<string, string> } = {},
): Promise<string> {
  const expected = digestOf(data);
  const dialog = api.dialog(ContentService.write, options);
  const ref = options.ref ?? `ref-${expected}`;
  await dialog.ask({
    action: COMMIT,
    ref,
    expected,
    total: BigInt(data.length),
    data: Buffer.from(data),
    labels: options.labels ?? {},
  });
  await dialog.end();
  return expected;
}

export async function failure(promise: Promise<unknown>): Promise<{ kind: string | undefined; message: string }> {
  try {
    await promise;
  } catch (error) {
    return { kind: errorKind(error), message: messageOf(error) };
  }
  return { kind: 'ok', message: '' };
}

export function contentSuite(name: string, open: () => Promise<ContentFixture>): void {
  describe(`content store (${name})`, () => {
    let fixture: ContentFixture;
    let api: Api;
    let count = 0;

    beforeAll(async () => {
      fixture = await open();
      api = fixture.api;
    });
    afterAll(async () => {
      await api.close();
      await fixture.close();
    });

    const fresh = (size = 100) => randomBytes(size);
    const newRef = () => `ref-${++count}`;
    const write = (headers?: Headers) => api.dialog(ContentService.write, headers);
    const info = async (digest: string, headers?: Headers) =>
      (await api.unary(ContentService.info, { digest }, headers)).info;
    const read = async (request: { digest: string; offset?: bigint; size?: bigint }) =>
      Buffer.concat((await api.list(ContentService.read, request)).map(({ data }) => data));
    const start = (ref: string, rest: Partial<Input<WriteContentRequest>> = {}) => ({ action: STAT, ref, ...rest });

    describe('Write', () => {
      it('commits what was written and answers each request', async () => {
        const data = fresh(3000);
        const ref = newRef();
        const dialog = write();

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
        expect(await info(digestOf(data))).toMatchObject({ size: 3000n, labels: { a: 'b' } });
        expect(await read({ digest: digestOf(data) })).toEqual(data);
        expect((await failure(api.unary(ContentService.status, { ref }))).kind).toBe('not found');
      });

      it('needs a ref in the first message', async () => {
        expect(await failure(write().ask({ action: STAT }))).toMatchObject({ kind: 'invalid argument' });
      });

      it('refuses a malformed digest', async () => {
        expect(await failure(write().ask(start(newRef(), { expected: 'sha256:abc' })))).toMatchObject({
          kind: 'invalid argument',
        });
      });

      it('locks the ref until the stream ends', async () => {
        const ref = newRef();
        const holder = write();
        await holder.ask(start(ref));

        const second = await failure(write().ask(start(ref)));
        const elsewhere = await failure(write({ namespace: 'other' }).ask(start(ref)));
        await holder.end();
        const afterwards = await failure(retry(() => write().ask(start(ref))));

        expect(second.kind).toBe('unavailable');
        expect(second.message).toContain(`locked for`);
        expect(elsewhere.kind).toBe('ok');
        expect(afterwards.kind).toBe('ok');
      });

      it('releases the ref when the client cancels', async () => {
        const ref = newRef();
        const holder = write();
        await holder.ask({ action: WRITE, ref, data: Buffer.from('abc') });
        await holder.cancel();

        const stat = await retry(() => write().ask(start(ref)));

        expect(stat.offset).toBe(3n);
      });

      it('resumes what an earlier stream left', async () => {
        const data = fresh(2_000_000);
        const ref = newRef();
        const before = write();
        await before.ask({ action: WRITE, ref, data: data.subarray(0, 1_500_000) });
        await before.end();

        const dialog = write();
        const stat = await dialog.ask(start(ref));
        await dialog.ask({ action: WRITE, offset: 1_500_000n, data: data.subarray(1_500_000) });
        const commit = await dialog.ask({ action: COMMIT, offset: 2_000_000n, expected: digestOf(data) });

        expect(stat).toMatchObject({ offset: 1_500_000n, digest: digestOf(data.subarray(0, 1_500_000)) });
        expect(commit.digest).toBe(digestOf(data));
      });

      it('starts again when the total differs from before', async () => {
        const ref = newRef();
        const before = write();
        await before.ask({ action: WRITE, ref, total: 10n, data: Buffer.from('abc') });
        await before.end();

        const dialog = write();
        expect(await dialog.ask(start(ref, { total: 20n }))).toMatchObject({ offset: 0n, total: 20n });
        await dialog.end();
      });

      it('truncates at offset 0 and refuses any other wrong offset', async () => {
        const ref = newRef();
        const dialog = write();
        await dialog.ask({ action: WRITE, ref, data: Buffer.from('abc') });

        const again = await dialog.ask({ action: WRITE, data: Buffer.from('xy') });
        const wrong = await failure(dialog.ask({ action: WRITE, offset: 7n, data: Buffer.from('z') }));

        expect(again).toMatchObject({ offset: 2n, digest: digestOf(Buffer.from('xy')) });
        expect(wrong.kind).toBe('out of range');
        expect((await api.unary(ContentService.status, { ref })).status).toMatchObject({ offset: 2n });
      });

      it('refuses a commit of another size or digest and keeps the bytes', async () => {
        const ref = newRef();
        const size = await failure(write().ask({ action: COMMIT, ref, total: 5n, data: Buffer.from('abc') }));
        const digest = await failure(
          retry(() => write().ask({ action: COMMIT, ref, offset: 3n, expected: digestOf(Buffer.from('xyz')) })),
        );

        expect(size.kind).toBe('failed precondition');
        expect(size.message).toContain('failed size validation: 3 != 5');
        expect(digest.kind).toBe('failed precondition');
        expect(digest.message).toContain('unexpected commit digest sha256:ba7816bf');
        expect((await api.unary(ContentService.status, { ref })).status?.offset).toBe(3n);
      });

      it('refuses an expected digest that is there, at the open and later', async () => {
        const data = fresh();
        const digest = await writeBlob(api, data);

        const ref = newRef();
        const open = await failure(write().ask(start(ref, { expected: digest })));
        const dialog = write();
        await dialog.ask({ action: WRITE, ref, data: data.subarray(0, 10) });
        const later = await failure(
          dialog.ask({ action: WRITE, offset: 10n, expected: digest, data: data.subarray(10) }),
        );

        expect(open).toEqual({ kind: 'already exists', message: `content ${digest}: already exists` });
        expect(later.kind).toBe('already exists');
        expect(later.message).toContain(`blob with expected digest ${digest} exists`);
        expect((await failure(api.unary(ContentService.status, { ref }))).kind).toBe('not found');
      });

      it('refuses a commit of a blob that is there and keeps its labels', async () => {
        const data = fresh();
        const digest = await writeBlob(api, data, { labels: { first: '1' } });
        const ref = newRef();

        const again = await failure(write().ask({ action: COMMIT, ref, data, labels: { second: '2' } }));

        expect(again).toEqual({ kind: 'already exists', message: `content ${digest}: already exists` });
        expect((await info(digest))?.labels).toEqual({ first: '1' });
        expect((await failure(api.unary(ContentService.status, { ref }))).kind).toBe('not found');
      });

      it('takes the algorithm from the expected digest, wherever it comes', async () => {
        const [one, two] = [fresh(), fresh()];
        const early = write();
        await early.ask(start(newRef(), { expected: digestOf(one, 'sha512') }));
        const first = await early.ask({ action: COMMIT, data: one });
        const late = write();
        await late.ask({ action: WRITE, ref: newRef(), data: two });
        const second = await late.ask({ action: COMMIT, offset: 100n, expected: digestOf(two, 'sha512') });

        expect(first.digest).toBe(digestOf(one, 'sha512'));
        expect(second.digest).toBe(digestOf(two, 'sha512'));
        expect(await read({ digest: second.digest })).toEqual(two);
      });

      it('spares the upload of a blob that another namespace has', async () => {
        const data = fresh();
        const expected = await writeBlob(api, data);
        const dialog = write({ namespace: 'other' });

        const stat = await dialog.ask(start(newRef(), { expected }));
        const commit = await dialog.ask({ action: COMMIT, offset: 100n, total: 100n, expected, labels: { x: 'y' } });

        expect(stat).toMatchObject({ offset: 100n, digest: expected });
        expect(commit.digest).toBe(expected);
        expect(await info(expected, { namespace: 'other' })).toMatchObject({ size: 100n, labels: { x: 'y' } });
        expect((await info(expected))?.labels).toEqual({});
      });

      it('takes other bytes in place of a shared blob', async () => {
        const data = fresh();
        const expected = await writeBlob(api, data);
        const replaced = write({ namespace: 'third' });
        await replaced.ask(start(newRef(), { expected }));
        const other = await replaced.ask({ action: WRITE, data: Buffer.from('new') });
        const extended = write({ namespace: 'fourth' });
        await extended.ask(start(newRef(), { expected }));
        const longer = await extended.ask({ action: WRITE, offset: 100n, data: Buffer.from('more') });

        expect(other).toMatchObject({ offset: 3n, digest: digestOf(Buffer.from('new')) });
        expect(longer).toMatchObject({ offset: 104n, digest: digestOf(Buffer.concat([data, Buffer.from('more')])) });
        await replaced.end();
        await extended.end();
      });

      it('commits an empty blob', async () => {
        const digest = digestOf(Buffer.alloc(0));
        await write().ask({ action: COMMIT, ref: newRef() });

        expect((await info(digest))?.size).toBe(0n);
        expect(await api.list(ContentService.read, { digest })).toEqual([]);
      });

      it('refuses a label that is too long', async () => {
        const labels = { key: 'x'.repeat(4096) };
        expect(await failure(write().ask({ action: COMMIT, ref: newRef(), data: fresh(), labels }))).toMatchObject({
          kind: 'invalid argument',
        });
      });

      it('takes messages of many megabytes', async () => {
        const data = fresh(12 << 20);
        const digest = await writeBlob(api, data);
        expect(digestOf(await read({ digest }))).toBe(digest);
      });

      it('lets many write at once', async () => {
        const blobs = Array.from({ length: 20 }, () => fresh(50_000));
        const digests = await Promise.all(blobs.map((data) => writeBlob(api, data)));
        const same = fresh(50_000);
        const race = await Promise.all(
          Array.from({ length: 8 }, (_, index) => failure(writeBlob(api, same, { ref: `race-${index}` }))),
        );

        expect(digests).toEqual(blobs.map((data) => digestOf(data)));
        expect(race.filter(({ kind }) => kind === 'ok')).toHaveLength(1);
        expect(race.filter(({ kind }) => kind === 'already exists')).toHaveLength(7);
      });
    });

    describe('leases', () => {
      it('hold ingests and then blobs', async () => {
        const { lease } = await api.unary(LeasesService.create, { id: `lease-${newRef()}` });
        const held = async () =>
          (await api.unary(LeasesService.listResources, { id: lease?.id ?? '' })).resources.map(({ id, type }) => [
            type,
            id,
          ]);
        const data = fresh();
        const ref = newRef();
        const dialog = write({ lease: lease?.id });
        await dialog.ask(start(ref));
        const during = await held();
        await dialog.ask({ action: COMMIT, data });
        const there = await writeBlob(api, fresh());
        await failure(write({ lease: lease?.id }).ask(start(newRef(), { expected: there })));

        expect(during).toEqual([['ingests', ref]]);
        expect((await held()).sort()).toEqual(
          [
            ['content', digestOf(data)],
            ['content', there],
          ].sort(),
        );
      });

      it('that do not exist make writes fail', async () => {
        expect(await failure(write({ lease: 'none' }).ask(start(newRef())))).toEqual({
          kind: 'not found',
          message: 'lease "none": not found',
        });
      });
    });

    describe('Read', () => {
      it('reads ranges and clips them', async () => {
        const data = fresh(5000);
        const digest = await writeBlob(api, data);

        expect(await read({ digest, offset: 10n, size: 20n })).toEqual(data.subarray(10, 30));
        expect(await read({ digest, offset: 4990n, size: 100n })).toEqual(data.subarray(4990));
        expect(await read({ digest, offset: -5n })).toEqual(data);
        expect(await read({ digest, offset: 5000n })).toHaveLength(0);
        expect((await failure(read({ digest, offset: 5001n }))).kind).toBe('out of range');
      });

      it('sends chunks of at most 1 MiB with offsets that count from the first', async () => {
        const data = fresh((1 << 20) + 5000);
        const digest = await writeBlob(api, data);

        const chunks = await api.list(ContentService.read, { digest, offset: 1000n });

        expect(chunks.map((chunk) => [chunk.offset, chunk.data.length])).toEqual([
          [0n, 1 << 20],
          [1n << 20n, 4000],
        ]);
      });
    });

    describe('records', () => {
      it('are of one namespace', async () => {
        const digest = await writeBlob(api, fresh());
        expect((await failure(info(digest, { namespace: 'empty' }))).message).toBe(
          `content digest ${digest}: not found`,
        );
      });

      it.each(['info', 'delete', 'read', 'update'] as const)('%s refuses bad and unknown digests', async (method) => {
        const call = (digest: string) => {
          if (method === 'read') return api.list(ContentService.read, { digest });
          if (method === 'update') return api.unary(ContentService.update, { info: { digest } });
          return method === 'info'
            ? api.unary(ContentService.info, { digest })
            : api.unary(ContentService.delete, { digest });
        };
        expect((await failure(call('nonsense'))).kind).toBe('invalid argument');
        expect((await failure(call(digestOf(fresh())))).kind).toBe('not found');
      });

      it('Update changes labels through masks', async () => {
        const digest = await writeBlob(api, fresh(), { labels: { 'a.b/c': '1', keep: '2' } });
        const update = async (labels: Record<string, string>, paths: string[]) =>
          (await api.unary(ContentService.update, { info: { digest, labels, size: 7n }, updateMask: { paths } })).info;
        const before = await info(digest);

        expect((await update({ 'a.b/c': '3', other: '4' }, ['labels.a.b/c']))?.labels).toEqual({
          'a.b/c': '3',
          keep: '2',
        });
        expect((await update({}, ['labels.keep']))?.labels).toEqual({ 'a.b/c': '3' });
        expect((await update({ x: 'y' }, ['labels']))?.labels).toEqual({ x: 'y' });
        const last = await update({ z: 'z' }, []);
        expect(last).toMatchObject({ labels: { z: 'z' }, size: 100n, createdAt: before?.createdAt });
        expect(await info(digest)).toEqual(last);
        expect((await failure(update({}, ['size']))).kind).toBe('invalid argument');
      });

      it('Delete removes the record', async () => {
        const digest = await writeBlob(api, fresh());
        await api.unary(ContentService.delete, { digest });
        expect((await failure(info(digest))).kind).toBe('not found');
      });

      it('List filters and comes in batches', async () => {
        const headers = { namespace: 'listing' };
        const digests: string[] = [];
        for (let index = 0; index < 105; index += 1) {
          digests.push(await writeBlob(api, fresh(), { ...headers, labels: { number: String(index) } }));
        }
        const list = (filters: string[]) => api.list(ContentService.list, { filters }, headers);

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
        const closed = write(headers);
        await closed.ask({ action: WRITE, ref: 'closed', total: 9n, data: Buffer.from('abc') });
        await closed.end();
        const open = write(headers);
        await open.ask({ action: WRITE, ref: 'open', data: Buffer.from('abcde') });
        const list = async (filters: string[]) =>
          (await api.unary(ContentService.listStatuses, { filters }, headers)).statuses;

        expect(await list([''])).toMatchObject([
          { ref: 'closed', offset: 3n, total: 9n, expected: '' },
          { ref: 'open', offset: 5n, total: 0n },
        ]);
        expect(await list(['ref==open'])).toHaveLength(1);
        expect((await api.unary(ContentService.status, { ref: 'closed' }, headers)).status?.offset).toBe(3n);
        await open.end();
      });

      it('Abort drops an ingest', async () => {
        const ref = newRef();
        const dialog = write();
        await dialog.ask({ action: WRITE, ref, data: Buffer.from('abc') });
        await dialog.end();

        await api.unary(ContentService.abort, { ref });

        expect((await failure(api.unary(ContentService.status, { ref }))).message).toBe(`reference ${ref}: not found`);
        expect((await failure(api.unary(ContentService.abort, { ref }))).kind).toBe('not found');
        const again = write();
        expect((await again.ask(start(ref))).offset).toBe(0n);
        await again.end();
      });

      it('that are aborted under a writer cannot be committed', async () => {
        const ref = newRef();
        const data = fresh();
        const dialog = write();
        await dialog.ask({ action: WRITE, ref, data });
        await api.unary(ContentService.abort, { ref });

        expect((await failure(dialog.ask({ action: COMMIT, offset: 100n }))).kind).toBe('not found');
        expect((await failure(info(digestOf(data)))).kind).toBe('not found');
      });
    });

    it('needs a namespace', async () => {
      const headers = { namespace: '' };
      expect((await failure(info(digestOf(fresh()), headers))).kind).toBe('failed precondition');
      expect((await failure(write(headers).ask(start('x')))).kind).toBe('failed precondition');
      expect((await failure(info(digestOf(fresh()), { namespace: 'a b' }))).kind).toBe('invalid argument');
    });
  });
}

/** A stream's end reaches the server a moment after the client: tries again while the ref is locked. */
async function retry<T>(action: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + 5000;
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (errorKind(error) !== 'unavailable' || Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
