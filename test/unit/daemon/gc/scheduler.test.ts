// When collections happen, with a clock of the test's own.

import { SCHEDULER_DEFAULTS, Scheduler, type SchedulerOptions } from '../../../../daemon/gc/scheduler';

interface World {
  readonly scheduler: Scheduler;
  readonly starts: number[];
  readonly errors: unknown[];
  expiryMs: number | undefined;
  /** What the next collections do. */
  collect: () => Promise<number>;
}

function worldOf(options: Partial<SchedulerOptions> = {}): World {
  const world = {
    starts: [] as number[],
    errors: [] as unknown[],
    expiryMs: undefined as number | undefined,
    collect: async () => 1,
  };
  const begin = Date.now();
  const scheduler = new Scheduler(
    { ...SCHEDULER_DEFAULTS, ...options },
    {
      collect: () => {
        world.starts.push(Date.now() - begin);
        return world.collect();
      },
      nextExpiryMs: () => world.expiryMs,
      onError: (error) => world.errors.push(error),
    },
  );
  return Object.assign(world, { scheduler });
}

beforeEach(() => jest.useFakeTimers({ now: 0 }));
afterEach(() => jest.useRealTimers());

const pass = (ms: number) => jest.advanceTimersByTimeAsync(ms);

describe('Scheduler', () => {
  it('collects once after the start-up delay and then sleeps', async () => {
    const { scheduler, starts } = worldOf();
    scheduler.start();
    await pass(60_000);
    expect(starts).toEqual([100]);
    expect(jest.getTimerCount()).toBe(0);
  });

  it('does nothing before the start and without a start-up delay', async () => {
    const { scheduler, starts } = worldOf({ startupDelayMs: 0 });
    scheduler.note('deletion');
    await pass(10_000);
    scheduler.start();
    await pass(10_000);
    expect(starts).toEqual([]);
  });

  it('collects within the interval after a deletion, once for many', async () => {
    const { scheduler, starts } = worldOf();
    scheduler.start();
    await pass(1000);
    for (let count = 0; count < 50; count += 1) scheduler.note('deletion');
    await pass(10_000);
    // 5 ms at least for a collection, 2 % of the time: 245 ms between two of them.
    expect(starts).toEqual([100, 1245]);
  });

  it('keeps collections under the pause threshold', async () => {
    const world = worldOf({ pauseThreshold: 0.1 });
    world.collect = async () => 100;
    world.scheduler.start();
    await pass(1000);
    world.scheduler.note('deletion');
    await pass(10_000);
    expect(world.starts).toEqual([100, 1900]);
  });

  it('collects after as many mutations as the threshold says', async () => {
    const { scheduler, starts } = worldOf({ mutationThreshold: 3 });
    scheduler.start();
    await pass(1000);
    scheduler.note('mutation');
    scheduler.note('mutation');
    await pass(10_000);
    expect(starts).toHaveLength(1);
    scheduler.note('mutation');
    await pass(10_000);
    expect(starts).toHaveLength(2);
  });

  it('collects at once when deletions reach their threshold', async () => {
    const { scheduler, starts } = worldOf({ deletionThreshold: 2, scheduleDelayMs: 30 });
    scheduler.start();
    await pass(1000);
    scheduler.note('deletion');
    await pass(1000);
    expect(starts).toHaveLength(1);
    scheduler.note('deletion');
    await pass(1000);
    expect(starts).toEqual([100, 2030]);
  });

  it('run() starts a collection after the call, even while one is running', async () => {
    const world = worldOf();
    const ends: (() => void)[] = [];
    world.collect = () => new Promise((resolve) => ends.push(() => resolve(1)));
    const finished: string[] = [];
    const run = (name: string) => void world.scheduler.run().then(() => finished.push(name));

    run('first');
    run('second');
    run('third');
    await pass(0);
    expect(world.starts).toHaveLength(1);
    ends[0]?.();
    await pass(0);
    expect([finished, world.starts.length]).toEqual([['first'], 2]);
    ends[1]?.();
    await pass(0);
    expect(finished).toEqual(['first', 'second', 'third']);
    expect(world.starts).toHaveLength(2);
  });

  it('tries again after a failure and tells of it', async () => {
    const world = worldOf();
    world.collect = async () => {
      throw new Error('no');
    };
    world.scheduler.start();
    await pass(150);
    world.collect = async () => 1;
    await pass(60_000);
    expect(world.errors).toHaveLength(1);
    expect(world.starts).toHaveLength(2);
    await expect(world.scheduler.run()).resolves.toBeUndefined();
  });

  it('collects when something expires, also something that came later', async () => {
    const world = worldOf({ startupDelayMs: 0 });
    world.expiryMs = 5000;
    world.scheduler.start();
    await pass(4999);
    expect(world.starts).toEqual([]);
    world.expiryMs = undefined;
    await pass(10);
    expect(world.starts).toHaveLength(1);

    world.expiryMs = 2000;
    world.scheduler.note('mutation');
    await pass(1000);
    world.expiryMs = undefined;
    await pass(2500);
    expect(world.starts).toHaveLength(2);
  });

  it('stop() waits for the collection at hand and ends the timers', async () => {
    const world = worldOf();
    let end = () => {};
    world.collect = () => new Promise((resolve) => (end = () => resolve(1)));
    world.scheduler.start();
    await pass(200);
    let stopped = false;
    void world.scheduler.stop().then(() => (stopped = true));
    await pass(10);
    expect(stopped).toBe(false);
    end();
    await pass(0);
    world.scheduler.note('deletion');
    await pass(10_000);
    expect([stopped, world.starts.length, jest.getTimerCount()]).toEqual([true, 1, 0]);
  });
});
