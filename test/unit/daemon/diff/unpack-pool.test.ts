// Who waits for whom, and who stops.

import { mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { UnpackPool } from '../../../../daemon/diff/unpack-pool';
import { waitFor } from '../../../setup/command';
import { tar } from '../../../suites/tar-builder';

const ARCHIVE = tar([{ name: 'file', content: 'x' }]);
/** What follows is at the end of the second piece of the archive. */
const LARGE = { name: 'large', content: Buffer.alloc(2 * 256 * 1024 - 1536) };
/** An archive of zeros that is read for minutes; it takes no space. */
const ENDLESS_BYTES = 2 ** 39;
/** More than run at the same time on any machine. */
const MANY = 8;

let directory: string;
let pool: UnpackPool;
let count: number;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'unpack-pool-'));
  pool = new UnpackPool();
  count = 0;
});

afterEach(async () => {
  await pool.close();
  rmSync(directory, { recursive: true });
});

/** An endless blob begins with `archive`, and goes on with zeros. */
function begin(archive: Buffer | 'endless', isEndless = archive === 'endless') {
  const number = count++;
  const [blob, root] = [join(directory, `blob${number}`), join(directory, `root${number}`)];
  mkdirSync(root);
  writeFileSync(blob, archive === 'endless' ? '' : archive);
  if (isEndless) truncateSync(blob, ENDLESS_BYTES);
  const abort = new AbortController();
  const target = { root, whiteouts: 'delete', lowers: [] } as const;
  const result = pool.unpack({ blob, mayBeCompressed: true, target }, abort.signal);
  result.catch(() => {});
  return { result, root, abort };
}

test('a layer that comes while others are unpacked is unpacked after them', async () => {
  const first = Array.from({ length: MANY }, () => begin('endless'));
  const { result, root } = begin(ARCHIVE);
  expect(readdirSync(root)).toEqual([]);

  for (const { abort } of first) abort.abort();

  expect((await result).sizeBytes).toBe(ARCHIVE.length);
  expect(readdirSync(root)).toEqual(['file']);
});

test('a layer that waits is given up at once, and the next one moves up', async () => {
  const running = Array.from({ length: MANY }, () => begin('endless'));
  const waiting = begin('endless');
  const last = begin(ARCHIVE);

  waiting.abort.abort(new Error('no longer wanted'));

  await expect(waiting.result).rejects.toThrow('no longer wanted');
  for (const { abort } of running) abort.abort();
  expect((await last.result).sizeBytes).toBe(ARCHIVE.length);
});

test('a layer that is being unpacked stops', async () => {
  const { result, abort } = begin('endless');
  await setImmediate();

  abort.abort();

  await expect(result).rejects.toMatchObject({ kind: 'canceled' });
});

test('a layer stops within an entry', async () => {
  const skipped = { name: '.wh..wh.aufs', pax: { size: String(ENDLESS_BYTES) } };
  const { result, root, abort } = begin(tar([{ name: 'file' }, skipped]), true);
  await waitFor('the first entry', () => readdirSync(root).length > 0);

  abort.abort();

  await expect(result).rejects.toMatchObject({ kind: 'canceled' });
});

test('a layer that is only skipped stops', async () => {
  const { result, root, abort } = begin(gzipSync(tar([LARGE])), true);
  await waitFor('the first entry', () => readdirSync(root).length > 0);

  abort.abort();

  await expect(result).rejects.toMatchObject({ kind: 'canceled' });
});

test('a layer that is refused is not read to its end', async () => {
  const { result } = begin(gzipSync(tar([LARGE, { name: '../x' }])), true);

  await expect(result).rejects.toThrow(/path leads out/);
});

test('close() stops what runs, and refuses what waits and what comes', async () => {
  const all = Array.from({ length: MANY }, () => begin('endless'));

  await pool.close();

  const results = await Promise.allSettled(all.map(({ result }) => result));
  expect(results.map(({ status }) => status)).toEqual(all.map(() => 'rejected'));
  await expect(begin(ARCHIVE).result).rejects.toThrow(/daemon is stopping/);
});

test('a failure does not keep others from their turn', async () => {
  for (let left = MANY; left > 0; left--) {
    await expect(begin(Buffer.alloc(1024, 'x')).result).rejects.toMatchObject({ kind: 'invalid argument' });
  }
});

test('a blob that is not there is told by its path', async () => {
  const target = { root: directory, whiteouts: 'delete', lowers: [] } as const;
  const request = { blob: join(directory, 'missing'), mayBeCompressed: true, target };

  await expect(pool.unpack(request, new AbortController().signal)).rejects.toMatchObject({
    kind: 'not found',
    message: expect.stringContaining(request.blob),
  });
});
