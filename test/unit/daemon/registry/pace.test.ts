import { Readable } from 'node:stream';
import { Pace, paced } from '../../../../daemon/registry/http/pace';

const PLACE = { host: 'registry.test', doing: 'fetch app' };

describe('Pace', () => {
  beforeEach(() => {
    jest.useFakeTimers();
  });

  afterEach(() => {
    jest.useRealTimers();
  });

  function watch(limits: { stallMs: number; bytesPerSecondMin: number }) {
    const causes: string[] = [];
    return { pace: new Pace(limits, (cause) => causes.push(cause)), causes };
  }

  test('ends what stands still, once', () => {
    const { causes } = watch({ stallMs: 10_000, bytesPerSecondMin: 0 });

    jest.advanceTimersByTime(9_000);
    expect(causes).toEqual([]);
    jest.advanceTimersByTime(60_000);
    expect(causes).toEqual(['no byte has come for 10 s: the registry, or the way to it, is too slow']);
  });

  test('ends what trickles over half a minute', () => {
    const { pace, causes } = watch({ stallMs: 10_000, bytesPerSecondMin: 1000 });

    for (let second = 0; second < 40; second += 1) {
      pace.moved(999);
      pace.waits();
      jest.advanceTimersByTime(1000);
    }

    expect(causes).toEqual([expect.stringMatching(/^only \d+ bytes per second come/)]);
  });

  test('lets be what is slow enough, and any speed without a limit', () => {
    const limited = watch({ stallMs: 10_000, bytesPerSecondMin: 1000 });
    const free = watch({ stallMs: 10_000, bytesPerSecondMin: 0 });

    for (let second = 0; second < 120; second += 1) {
      limited.pace.moved(1100);
      limited.pace.waits();
      free.pace.moved(1);
      free.pace.waits();
      jest.advanceTimersByTime(1000);
    }

    expect([limited.causes, free.causes]).toEqual([[], []]);
    limited.pace.stop();
    free.pace.stop();
  });

  test('does not count the time in which nobody waits', () => {
    const { pace, causes } = watch({ stallMs: 10_000, bytesPerSecondMin: 1000 });

    pace.moved(1);
    jest.advanceTimersByTime(600_000);

    expect(causes).toEqual([]);
    pace.stop();
    expect(jest.getTimerCount()).toBe(0);
  });
});

test('paced() gives the chunks, and the error of a body that breaks', async () => {
  const limits = { stallMs: 1000, bytesPerSecondMin: 0 };
  const read = async (body: Readable) => {
    const chunks: Buffer[] = [];
    for await (const chunk of paced(body, limits, PLACE)) chunks.push(chunk);
    return Buffer.concat(chunks).toString();
  };
  async function* broken() {
    yield Buffer.from('some');
    throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
  }
  const silent = new Readable({ read: () => {} });

  expect(await read(Readable.from([Buffer.from('ab'), Buffer.from('c')]))).toBe('abc');
  await expect(read(Readable.from(broken()))).rejects.toMatchObject({ kind: 'unavailable', canRetry: true });
  await expect(read(silent)).rejects.toMatchObject({
    canRetry: true,
    message: expect.stringContaining('no byte has come for 1 s'),
  });
  expect(silent.destroyed).toBe(true);
});
