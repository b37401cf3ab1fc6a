// Collections with real files, alone and in the middle of concurrent writers.

import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../../../../proto/errors';
import { ContentService, WriteAction } from '../../../../proto/generated/containerd.services.content.v1';
import { ImagesService } from '../../../../proto/generated/containerd.services.images.v1';
import { LeasesService } from '../../../../proto/generated/containerd.services.leases.v1';
import { type Api, directApi } from '../../../suites/api';
import { type Bench, openBench } from '../../../suites/content-bench';
import { digestOf, failure, writeBlob } from '../../../suites/content-client';
import { Records } from '../../../suites/records';

let bench: Bench;
let api: Api;

beforeEach(async () => {
  bench = await openBench();
  api = directApi(...bench.services);
});
afterEach(() => bench.close());

const blobFile = (digest: string) => bench.content.blobPath(digest);
const ingestCount = () => readdirSync(join(bench.content.root, 'ingest')).length;
const lease = async (labels: Record<string, string> = {}) =>
  (await api.unary(LeasesService.create, { labels })).lease?.id ?? '';
const otherLease = async () => (await api.unary(LeasesService.create, {}, { namespace: 'other' })).lease?.id ?? '';
const image = (name: string, digest: string, labels: Record<string, string> = {}) =>
  api.unary(ImagesService.create, { image: { name, labels, target: { digest, size: 1n, mediaType: 'x' } } });

describe('Collector', () => {
  it('removes files only when no namespace has them', async () => {
    const data = Buffer.from('shared');
    const digest = await writeBlob(api, data);
    await writeBlob(api, data, { namespace: 'other' });
    const other = await api.unary(LeasesService.create, { id: 'keep' }, { namespace: 'other' });
    await api.unary(
      LeasesService.addResource,
      { id: other.lease?.id ?? '', resource: { type: 'content', id: digest } },
      { namespace: 'other' },
    );

    const first = await bench.collector.run();
    const between = existsSync(blobFile(digest));
    await api.unary(LeasesService.delete, { id: 'keep', sync: true }, { namespace: 'other' });

    expect(first.removed).toEqual([{ namespace: 'default', type: 'content', key: digest }]);
    expect(between).toBe(true);
    expect(existsSync(blobFile(digest))).toBe(false);
  });

  it('removes what a crash left: files and directories without records', async () => {
    const orphan = digestOf(Buffer.from('orphan'));
    writeFileSync(blobFile(orphan), 'orphan');
    mkdirSync(join(bench.content.root, 'ingest', 'left'));
    writeFileSync(join(bench.content.root, 'ingest', 'left', 'data'), 'x');

    await bench.collector.run();

    expect(existsSync(blobFile(orphan))).toBe(false);
    expect(ingestCount()).toBe(0);
  });

  it('tells in a thorough run what it removed, and which blobs have lost their file', async () => {
    const id = await lease();
    const kept = await writeBlob(api, Buffer.from('kept'), { lease: id });
    const lost = await writeBlob(api, Buffer.from('lost'), { lease: id });
    await writeBlob(api, Buffer.from('lost'), { namespace: 'other', lease: await otherLease() });
    await bench.collector.run();
    const orphan = digestOf(Buffer.from('orphan'));
    writeFileSync(blobFile(orphan), Buffer.alloc(10_000, 'x'));
    mkdirSync(join(bench.content.root, 'ingest', 'left'));
    rmSync(blobFile(lost));

    const quick = await bench.collector.run();
    const thorough = await bench.collector.runThoroughly();

    expect(quick).toMatchObject({ removed: [], swept: [], lost: [] });
    expect(thorough).toMatchObject({ removed: [], failures: [] });
    expect(thorough.swept).toEqual([
      { type: 'content', count: 1, sizeBytes: expect.any(BigInt) },
      { type: 'ingests', count: 1, sizeBytes: 0n },
    ]);
    expect(thorough.swept[0]?.sizeBytes).toBeGreaterThanOrEqual(10_000n);
    expect(thorough.lost).toEqual([
      { namespace: 'default', type: 'content', key: lost },
      { namespace: 'other', type: 'content', key: lost },
    ]);
    expect(existsSync(blobFile(orphan))).toBe(false);
    expect(existsSync(blobFile(kept))).toBe(true);
    // What a lost blob refers to must not go with it.
    expect((await api.unary(ContentService.info, { digest: lost })).info?.digest).toBe(lost);
  });

  it('looks through all data when it starts, and goes on when some of it cannot be looked at', async () => {
    const id = await lease();
    const lost = await writeBlob(api, Buffer.from('lost'), { lease: id });
    rmSync(blobFile(lost));
    const errors: unknown[] = [];
    const sweep = async () => {
      throw new Error('no plug-in');
    };
    bench.collector.addSweeper({ type: 'snapshots/remote', sweep });
    const spy = jest.spyOn(console, 'error').mockImplementation((error: unknown) => void errors.push(error));

    const { lost: found, failures } = await bench.collector.run();
    spy.mockRestore();

    expect(found).toEqual([{ namespace: 'default', type: 'content', key: lost }]);
    expect(failures.map(messageOf)).toEqual(['no plug-in']);
    expect(errors).toHaveLength(1);
  });

  it('keeps an ingest with an open writer whose lease is gone, until it is closed', async () => {
    const id = await lease();
    const dialog = api.dialog(ContentService.write, { lease: id });
    await dialog.ask({ action: WriteAction.WRITE, ref: 'r', data: Buffer.from('abc') });
    await api.unary(LeasesService.delete, { id, sync: true });
    const during = ingestCount();
    await dialog.end();

    await bench.collector.run();

    expect(during).toBe(1);
    expect(ingestCount()).toBe(0);
    expect((await failure(api.unary(ContentService.status, { ref: 'r' }))).kind).toBe('not found');
  });

  it('sync deletions wait until files are gone', async () => {
    const digest = await writeBlob(api, Buffer.from('sync'), { lease: await lease() });
    await image('i', digest);
    for (const { id } of (await api.unary(LeasesService.list, {})).leases)
      await api.unary(LeasesService.delete, { id });
    await bench.collector.run();
    const kept = existsSync(blobFile(digest));

    await api.unary(ImagesService.delete, { name: 'i', sync: true });

    expect(kept).toBe(true);
    expect(existsSync(blobFile(digest))).toBe(false);
  });

  it('an empty lease created and deleted with sync runs a collection', async () => {
    const digest = await writeBlob(api, Buffer.from('now'));
    await api.unary(LeasesService.delete, { id: await lease(), sync: true });
    expect(existsSync(blobFile(digest))).toBe(false);
  });

  it('publishes the removal of images and snapshots, not of content', async () => {
    await writeBlob(api, Buffer.from('c'));
    await image('old', digestOf(Buffer.from('c')), { 'containerd.io/gc.expire': '2001-01-01T00:00:00Z' });
    new Records(bench.db, 'default').snapshot('base').snapshot('top', 'base');
    const since = [...bench.events.replayFrom(0n)].length;

    await bench.collector.run();

    const topics = [...bench.events.replayFrom(0n)].slice(since).map(({ envelope }) => envelope.topic);
    expect(topics.sort()).toEqual(['/images/delete', '/snapshot/remove', '/snapshot/remove']);
  });

  it('calls a sweeper in the first run and when its records went', async () => {
    const calls: string[] = [];
    const sweep = async (type: string) => {
      calls.push(type);
      return [];
    };
    const sweeper = (type: string) => ({ type, sweep: () => sweep(type) });
    for (const type of ['content', 'snapshots', 'snapshots/native', 'other']) bench.collector.addSweeper(sweeper(type));
    const run = async () => {
      calls.length = 0;
      await bench.collector.run();
      return [...calls].sort();
    };

    expect(await run()).toEqual(['content', 'other', 'snapshots', 'snapshots/native']);
    expect(await run()).toEqual([]);
    new Records(bench.db, 'default').snapshot('s', undefined, {}, 'native');
    expect(await run()).toEqual(['snapshots', 'snapshots/native']);
    const digest = await writeBlob(api, Buffer.from('x'));
    await api.unary(ContentService.delete, { digest });
    expect(await run()).toEqual(['content']);
  });

  it('collects by itself after deletions and when a lease expires', async () => {
    bench.collector.start();
    const temporary = await lease();
    const loose = await writeBlob(api, Buffer.from('loose'), { lease: temporary });
    const before = [...bench.removed];

    await api.unary(LeasesService.delete, { id: temporary });
    await until(() => bench.removed.some(({ key }) => key === loose));
    // Time to write under it, also on a slow disk.
    const soon = new Date(Date.now() + 3000).toISOString();
    const held = await writeBlob(api, Buffer.from('held'), { lease: await lease({ 'containerd.io/gc.expire': soon }) });

    await until(() => bench.removed.some(({ key }) => key === held));
    expect(before).toEqual([]);
    expect(bench.removed.some(({ type }) => type === 'leases')).toBe(true);
  });

  it('takes nothing acknowledged from under concurrent writers', async () => {
    let isOver = false;
    const collecting = (async () => {
      while (!isOver) await bench.collector.run();
    })();

    const writers = Array.from({ length: 6 }, async (_, writer) => {
      const id = await lease();
      const mine: Buffer[] = [];
      for (let round = 0; round < 25; round += 1) {
        // Half of the blobs are the same for all writers, so that they meet at the same files.
        const data = Buffer.from(round % 2 === 0 ? `common ${round}` : `own ${writer} ${round}`);
        const result = await failure(writeBlob(api, data, { lease: id, ref: `ref-${writer}-${round}` }));
        expect(['ok', 'already exists']).toContain(result.kind);
        mine.push(data);
        if (round % 10 === 9) {
          for (const blob of mine) {
            const chunks = await api.list(ContentService.read, { digest: digestOf(blob) });
            expect(Buffer.concat(chunks.map((chunk) => chunk.data))).toEqual(blob);
          }
        }
      }
      await api.unary(LeasesService.delete, { id });
    });
    await Promise.all(writers);
    isOver = true;
    await collecting;
    await bench.collector.run();

    expect(readdirSync(join(bench.content.root, 'blobs', 'sha256'))).toEqual([]);
    expect(ingestCount()).toBe(0);
  });
});

async function until(isTrue: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!isTrue()) {
    if (Date.now() > deadline) throw new Error('waited too long');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
