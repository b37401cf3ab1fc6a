import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { HttpAnswer } from '../../../../daemon/registry/http/exchange';
import { failureAt } from '../../../../daemon/registry/http/failure';
import { RANGE_BYTES, RangeBudget, Ranges, type RangesOptions } from '../../../../daemon/registry/http/ranges';

const PLACE = { host: 'registry.test', doing: 'fetch app' };
const LIMITS = { stallMs: 30_000, bytesPerSecondMin: 0 };
const SIZE = 12 * RANGE_BYTES + 1234;
const BLOB = randomBytes(SIZE);
const NEVER = new AbortController().signal;

function answerOf(bytes: Uint8Array): HttpAnswer {
  const body = Readable.from([bytes.subarray(0, 1000), bytes.subarray(1000)]) as unknown as HttpAnswer['body'];
  return { status: 206, headers: {}, challenges: [], url: '', body };
}

function ranges(more: Partial<RangesOptions> = {}): Ranges {
  return new Ranges({
    from: 100,
    sizeBytes: SIZE,
    budget: new RangeBudget(),
    limits: LIMITS,
    place: PLACE,
    signal: NEVER,
    open: async (first, last) => answerOf(BLOB.subarray(first, last + 1)),
    ...more,
  });
}

async function read(all: Ranges): Promise<Buffer> {
  const parts: Buffer[] = [];
  try {
    // The memory of a part is used again.
    for await (const buffer of all.buffers()) parts.push(Buffer.from(buffer));
  } finally {
    await all[Symbol.asyncDispose]();
  }
  return Buffer.concat(parts);
}

test('buffers() come in order, however the answers come', async () => {
  let count = 0;
  const open = async (first: number, last: number) => {
    count += 1;
    // Every second one waits for others to overtake it.
    if (count % 2 === 1) await new Promise((resolve) => setTimeout(resolve, 5));
    return answerOf(BLOB.subarray(first, last + 1));
  };

  expect((await read(ranges({ open }))).equals(BLOB.subarray(100))).toBe(true);
});

test('buffers() asks again for a range that broke, and gives up in the end', async () => {
  let broken = 2;
  const open = async (first: number, last: number) => {
    if (first > RANGE_BYTES && broken > 0) {
      broken -= 1;
      throw failureAt(PLACE, 'unavailable', 'broken', { canRetry: true });
    }
    return answerOf(BLOB.subarray(first, last + 1));
  };
  const never = async () => {
    throw failureAt(PLACE, 'not found', 'gone');
  };

  expect((await read(ranges({ open }))).equals(BLOB.subarray(100))).toBe(true);
  await expect(read(ranges({ open: never }))).rejects.toThrow('gone');
});

test.each([
  ['more', 1, /more bytes than asked for/],
  ['fewer', -1, /ended after \d+ of \d+ bytes/],
])('buffers() refuses a range with %s bytes', async (_, difference, words) => {
  const open = async (first: number, last: number) =>
    answerOf(Buffer.alloc(Math.max(0, last - first + 1 + difference), 1));

  await expect(read(ranges({ open }))).rejects.toThrow(words);
});

test('the memory of all downloads together is bounded, and all of it comes back', async () => {
  const budget = new RangeBudget();
  let held = 0;
  let heldMax = 0;
  const acquire = budget.acquire.bind(budget);
  budget.acquire = async (signal) => {
    const { buffer, release } = await acquire(signal);
    held += 1;
    heldMax = Math.max(heldMax, held);
    return {
      buffer,
      release: () => {
        held -= 1;
        release();
      },
    };
  };
  const failing = async (first: number, last: number) => {
    if (first > 3 * RANGE_BYTES) throw failureAt(PLACE, 'not found', 'gone');
    return answerOf(BLOB.subarray(first, last + 1));
  };

  const results = await Promise.allSettled([
    ...[1, 2, 3, 4, 5].map(() => read(ranges({ budget }))),
    read(ranges({ budget, open: failing })),
  ]);

  expect(results.map(({ status }) => status)).toEqual([...Array(5).fill('fulfilled'), 'rejected']);
  expect(heldMax).toBeLessThanOrEqual(8);
  expect(held).toBe(0);
});

test('those who wait for memory leave with their signal', async () => {
  const budget = new RangeBudget();
  const slots = await Promise.all(Array.from({ length: 8 }, () => budget.acquire(NEVER)));
  const stop = new AbortController();

  const left = budget.acquire(stop.signal);
  const next = budget.acquire(NEVER);
  stop.abort(new Error('enough'));
  slots[0]?.release();

  await expect(left).rejects.toThrow('enough');
  expect((await next).buffer).toBe(slots[0]?.buffer);
});
