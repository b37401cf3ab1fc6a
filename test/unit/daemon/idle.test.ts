import { IdleCollector, PAUSE_MS, REST_MS } from '../../../daemon/idle';

const GARBAGE_BYTES = 8 << 20;

describe('IdleCollector', () => {
  let collections: number;
  let idle: IdleCollector;

  beforeEach(() => {
    jest.useFakeTimers();
    collections = 0;
    idle = new IdleCollector(() => {
      collections += 1;
    });
  });

  afterEach(() => jest.useRealTimers());

  test('worked() leads to one collection, when a burst of work has been over for a while', () => {
    for (let call = 0; call < 10; call++) {
      idle.worked();
      jest.advanceTimersByTime(REST_MS / 2);
    }
    expect(collections).toBe(0);

    jest.advanceTimersByTime(REST_MS * 2);
    expect(collections).toBe(1);

    jest.advanceTimersByTime(PAUSE_MS * 2);
    expect(collections).toBe(1);
  });

  test('worked() of a client that polls leads to no more than one collection in the pause', () => {
    for (let elapsedMs = 0; elapsedMs < PAUSE_MS * 3; elapsedMs += REST_MS + 1000) {
      idle.worked();
      jest.advanceTimersByTime(REST_MS + 1000);
    }

    expect(collections).toBeGreaterThan(1);
    expect(collections).toBeLessThanOrEqual(4);
  });

  test('worked() collects garbage unless told otherwise', async () => {
    const garbage = leaveGarbage();

    new IdleCollector().worked();
    jest.advanceTimersByTime(REST_MS + 1);
    jest.useRealTimers();

    await until(() => garbage.deref() === undefined);
  });
});

function leaveGarbage(): WeakRef<Buffer> {
  return new WeakRef(Buffer.alloc(GARBAGE_BYTES, 1));
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
}
