// Blobs whose file is missing or has other bytes: they can be written again, in place, whoever refers to them.

import { chmodSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { FileDigests } from '../../../../daemon/content/file-digests';
import { ContentService, WriteAction } from '../../../../proto/generated/containerd.services.content.v1';
import { type Api, directApi } from '../../../suites/api';
import { type Bench, openBench } from '../../../suites/content-bench';
import { digestOf, failure, fresh, writeBlob } from '../../../suites/content-client';

let bench: Bench;
let api: Api;

beforeEach(async () => {
  bench = await openBench();
  api = directApi(...bench.services);
});
afterEach(() => bench.close());

const labels = { kept: 'yes', 'containerd.io/gc.root': 'x' };
const fileOf = (digest: string) => bench.content.blobPath(digest);
const read = async (digest: string) =>
  Buffer.concat((await api.list(ContentService.read, { digest })).map(({ data }) => data));

/** As a client that knows the digest and pulls. */
async function writeAgain(data: Buffer, namespace = 'default'): Promise<string | undefined> {
  const dialog = api.dialog(ContentService.write, { namespace });
  const expected = digestOf(data);
  const result = await failure(
    (async () => {
      const total = BigInt(data.length);
      await dialog.ask({ action: WriteAction.STAT, ref: 'again', expected, total });
      await dialog.ask({ action: WriteAction.COMMIT, offset: 0n, data, expected, total });
    })(),
  );
  return result.kind;
}

/** Other bytes of the same length. */
function corrupt(digest: string): void {
  const file = fileOf(digest);
  const bytes = readFileSync(file);
  bytes[0] = (bytes[0] ?? 0) ^ 1;
  chmodSync(file, 0o644);
  writeFileSync(file, bytes);
}

describe('ContentStore with a damaged blob', () => {
  it.each([
    ['missing', (digest: string) => rmSync(fileOf(digest))],
    ['cut off', (digest: string) => truncateSync(fileOf(digest), 10)],
  ])('takes one that is %s again, and keeps its record', async (_, damage) => {
    const data = fresh(5000);
    const digest = await writeBlob(api, data, { labels });
    damage(digest);

    expect(await writeAgain(data)).toBe('already exists');

    expect(readFileSync(fileOf(digest))).toEqual(data);
    expect((await api.unary(ContentService.info, { digest })).info?.labels).toEqual(labels);
    expect((await api.unary(ContentService.listStatuses, {})).statuses).toEqual([]);
  });

  it('replaces wrong bytes once they are known, and leaves a good blob alone', async () => {
    const data = fresh(5000);
    const digest = await writeBlob(api, data, { labels });
    corrupt(digest);
    await read(digest);
    await writeAgain(data);
    const unknown = readFileSync(fileOf(digest));

    bench.content.markDamaged(digest);
    const kind = await writeAgain(data);
    const inode = readFileSync(fileOf(digest));
    // A file that was open before is not asked any more.
    const again = await read(digest);

    expect(unknown).not.toEqual(data);
    expect(kind).toBe('already exists');
    expect(inode).toEqual(data);
    expect(again).toEqual(data);
  });

  it('does not share wrong bytes with another namespace', async () => {
    const data = fresh(5000);
    const digest = await writeBlob(api, data, { labels });
    corrupt(digest);
    bench.content.markDamaged(digest);

    expect(await writeAgain(data, 'other')).toBe('ok');

    expect(readFileSync(fileOf(digest))).toEqual(data);
    expect(await writeAgain(data)).toBe('already exists');
  });

  it('lets who reads the old file come to its end', async () => {
    const data = fresh(5000);
    const digest = await writeBlob(api, data, { labels });
    corrupt(digest);
    const old = readFileSync(fileOf(digest));
    const pieces: Buffer[] = [];
    async function* half(file: FileHandle) {
      yield (await file.read(Buffer.alloc(2500), 0, 2500, 0)).buffer;
      bench.content.markDamaged(digest);
      await writeAgain(data);
      yield (await file.read(Buffer.alloc(2500), 0, 2500, 2500)).buffer;
    }

    for await (const piece of bench.content.readBlob(digest, half)) pieces.push(piece);

    expect(Buffer.concat(pieces)).toEqual(old);
    expect(await read(digest)).toEqual(data);
  });
});

describe('FileDigests', () => {
  it('reads files to their end, one after the other, and tells of those that it cannot read', async () => {
    await using digests = new FileDigests();
    const data = fresh((3 << 20) + 17);
    const digest = await writeBlob(api, data, { labels });
    const job = (path: string, algorithm = 'sha256') => digests.of({ path, algorithm }, new AbortController().signal);

    expect(await job(fileOf(digest))).toEqual({ digest, sizeBytes: data.length });
    expect(await job(`${fileOf(digest)}-not`)).toMatchObject({ code: 'ENOENT' });
    expect(await job(bench.directory)).toMatchObject({ code: 'EISDIR' });
    expect(await job(fileOf(digest), 'sha512')).toMatchObject({ digest: digestOf(data, 'sha512') });
  });

  it('ends with the signal', async () => {
    await using digests = new FileDigests();
    const stop = new AbortController();
    const asked = digests.of({ path: '/dev/zero', algorithm: 'sha256' }, stop.signal);

    stop.abort(new Error('enough'));

    await expect(asked).rejects.toThrow('enough');
  });
});
