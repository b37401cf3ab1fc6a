// The event bus: order, filters, transactions, slow subscribers, held events, the journal.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EventBus, HELD_EVENTS_MAX, JOURNAL_EVENTS_MAX } from '../../../../daemon/events/bus';
import { QUEUE_EVENTS_MAX } from '../../../../daemon/events/subscription';
import { Database } from '../../../../daemon/metadata/database';
import { packAny } from '../../../../proto/any';
import { errorKind } from '../../../../proto/errors';
import {
  ContainerCreate,
  ContentCreate,
  SnapshotPrepare,
  TaskCreate,
  TaskExit,
} from '../../../../proto/generated/containerd.events';
import { Options } from '../../../../proto/generated/containerd.runc.v1';
import { ImageCreate } from '../../../../proto/generated/containerd.services.images.v1';
import type { Envelope } from '../../../../proto/generated/containerd.types';

let directory: string;
let db: Database;
let bus: EventBus;
let controller: AbortController;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-events-'));
  db = Database.open(join(directory, 'db'));
  bus = new EventBus(db);
  controller = new AbortController();
});

afterEach(async () => {
  controller.abort();
  await db.close();
  rmSync(directory, { recursive: true });
});

function exit(id: string, namespace = 'default'): void {
  bus.publish(namespace, '/tasks/exit', TaskExit, { containerId: id, id, pid: 1, exitStatus: 7 });
}

/** Takes `count` events, or all until the stream ends. */
async function take(events: AsyncIterable<Envelope>, count = Number.POSITIVE_INFINITY): Promise<Envelope[]> {
  const taken: Envelope[] = [];
  if (count === 0) return taken;
  for await (const envelope of events) {
    taken.push(envelope);
    if (taken.length === count) break;
  }
  return taken;
}

function ids(envelopes: Envelope[]): string[] {
  return envelopes.map(({ event }) => TaskExit.decode(event?.value ?? Buffer.alloc(0)).containerId);
}

/** Whether a subscriber with this filter gets what `publish` publishes. */
async function isDelivered(filter: string, publish: () => void): Promise<boolean> {
  const scope = new AbortController();
  const events = bus.subscribe([filter], scope.signal);
  publish();
  scope.abort();
  return (await take(events)).length === 1;
}

describe('EventBus.subscribe()', () => {
  it('delivers in the order of publishing, with time, namespace and bare type URL', async () => {
    const events = bus.subscribe([], controller.signal);

    exit('a');
    exit('b', 'other');

    const [first, second] = await take(events, 2);
    expect(first).toMatchObject({ namespace: 'default', topic: '/tasks/exit' });
    expect(first?.event?.typeUrl).toBe('containerd.events.TaskExit');
    expect(Number(first?.timestamp?.seconds)).toBeGreaterThan(1_700_000_000);
    expect(second?.namespace).toBe('other');
  });

  it('does not replay what was published before', async () => {
    exit('before');
    const events = bus.subscribe([], controller.signal);

    exit('after');

    expect(ids(await take(events, 1))).toEqual(['after']);
  });

  it('ends without error when the signal aborts, after what is queued', async () => {
    const events = bus.subscribe([], controller.signal);
    exit('a');

    controller.abort();
    exit('late');

    expect(ids(await take(events))).toEqual(['a']);
  });

  it('drops a subscriber that does not read, with an error, and nobody else', async () => {
    const slow = bus.subscribe([], controller.signal);
    const scope = new AbortController();
    const other = bus.subscribe(['topic=="/tasks/exit"'], scope.signal);
    db.transaction(() => {
      for (let index = 0; index <= QUEUE_EVENTS_MAX; index += 1) {
        bus.publish('default', index === 0 ? '/tasks/exit' : '/other', TaskExit, { containerId: 'x' });
      }
    });

    const error = await take(slow).catch((caught: unknown) => caught);

    scope.abort();
    expect(errorKind(error)).toBe('resource exhausted');
    expect(await take(other)).toHaveLength(1);
  });

  it('refuses a bad filter as containerd does', () => {
    expect(() => bus.subscribe(['bad bad'], controller.signal)).toThrow(
      /^subscription error: failed parsing subscription filters: /,
    );
  });

  const options = packAny(Options, { binaryName: 'runc' });
  const cases: [filter: string, expected: boolean, publish: () => void][] = [
    ['namespace==default,topic~=|^/tasks/|', true, () => exit('a')],
    ['namespace==moby', false, () => exit('a')],
    ['event.container_id==a', true, () => exit('a')],
    ['event.containerId==a', false, () => exit('a')],
    ['event.exit_status==7', false, () => exit('a')],
    ['event.nope', false, () => exit('a')],
    ['topic.more', false, () => exit('a')],
    ['event.io.terminal==true', true, () => bus.publish('n', '/t', TaskCreate, { io: { terminal: true } })],
    ['event.labels."a.b"==c', true, () => bus.publish('n', '/t', ImageCreate, { name: 'i', labels: { 'a.b': 'c' } })],
    ['event.mediaType==m', true, () => bus.publish('n', '/t', ContentCreate, { mediaType: 'm' })],
    ['event.snapshotter==o', true, () => bus.publish('n', '/t', SnapshotPrepare, { snapshotter: 'o' })],
    ['event.parent', false, () => bus.publish('n', '/t', SnapshotPrepare, { snapshotter: 'o' })],
    [
      'event.runtime.name==r',
      true,
      () => bus.publish('n', '/t', ContainerCreate, { id: 'c', runtime: { name: 'r', options } }),
    ],
    [
      'event.runtime.options.binary_name==runc',
      true,
      () => bus.publish('n', '/t', ContainerCreate, { id: 'c', runtime: { name: 'r', options } }),
    ],
    ['event.a', false, () => bus.publishAny('n', '/t', { typeUrl: 'unknown.Type', value: Buffer.from([1]) })],
    ['event.name', false, () => bus.publishAny('n', '/t', { typeUrl: ImageCreate.name, value: Buffer.from([255]) })],
    ['event.name', false, () => bus.publishAny('n', '/t', undefined)],
  ];
  it.each(cases)('with %s delivers: %p', async (filter, expected, publish) => {
    expect(await isDelivered(filter, publish)).toBe(expected);
  });
});

describe('EventBus.publish()', () => {
  it('inside a transaction waits for the commit and vanishes with a roll-back', async () => {
    const events = bus.subscribe([], controller.signal);

    expect(() =>
      db.transaction(() => {
        exit('lost');
        throw new Error('no');
      }),
    ).toThrow('no');
    db.transaction(() => exit('kept'));

    controller.abort();
    expect(ids(await take(events))).toEqual(['kept']);
    expect(bus.replayFrom(0n)).toHaveLength(1);
  });

  it.each(['', 'abc', '/', '/a//b', '/a/b_', 'a/b'])('refuses the topic %j', (topic) => {
    expect(() => bus.publishAny('n', topic, undefined)).toThrow(/^envelope topic ".*": .*: invalid argument$/);
  });
});

describe('EventBus.forward()', () => {
  const envelope = { timestamp: { seconds: 5n, nanos: 6 }, namespace: 'n', topic: '/a', event: undefined };

  it('takes the envelope as it is', async () => {
    const events = bus.subscribe([], controller.signal);

    bus.forward(envelope);

    expect(await take(events, 1)).toEqual([envelope]);
  });

  it('refuses a missing time, a bad namespace and a bad topic', () => {
    expect(() => bus.forward({ ...envelope, timestamp: undefined })).toThrow(/timestamp must be set/);
    expect(() => bus.forward({ ...envelope, timestamp: { seconds: -62135596800n, nanos: 0 } })).toThrow(/timestamp/);
    expect(() => bus.forward({ ...envelope, namespace: 'n_' })).toThrow(/identifier "n_"/);
    expect(() => bus.forward({ ...envelope, topic: 'x' })).toThrow(/must start with/);
  });
});

describe('EventBus.publishOrHold()', () => {
  const hold = (id: string) => bus.publishOrHold('default', '/tasks/exit', TaskExit, { containerId: id });

  it('keeps the event for the first subscriber that wants it, before anything new, once', async () => {
    hold('a');
    hold('b');
    const uninterested = bus.subscribe(['namespace==moby'], controller.signal);
    const first = bus.subscribe(['topic=="/tasks/exit"'], controller.signal);
    exit('new');

    expect(ids(await take(first, 3))).toEqual(['a', 'b', 'new']);
    const second = bus.subscribe([], controller.signal);
    controller.abort();
    expect(await take(second)).toEqual([]);
    expect(await take(uninterested)).toEqual([]);
  });

  it('does not keep what a subscriber of now wants', async () => {
    const live = bus.subscribe([], controller.signal);

    hold('a');
    controller.abort();

    expect(ids(await take(live))).toEqual(['a']);
    const scope = new AbortController();
    const later = bus.subscribe([], scope.signal);
    scope.abort();
    expect(await take(later)).toEqual([]);
  });

  it('leaves a new subscriber time to learn of the exit by itself', async () => {
    bus = new EventBus(db, { settleMs: 100 });
    hold('a');
    hold('b');
    const events = bus.subscribe([], controller.signal);
    hold('c');
    exit('new');

    bus.unhold('default', 'a');

    expect(ids(await take(events, 3))).toEqual(['new', 'b', 'c']);
  });

  it('keeps events over a restart of the daemon, and until they were really taken', async () => {
    hold('a');
    const abandoned = new AbortController();
    bus.subscribe([], abandoned.signal);
    abandoned.abort();
    await db.close();
    db = Database.open(join(directory, 'db'));
    bus = new EventBus(db);

    const events = bus.subscribe([], controller.signal);

    controller.abort();
    expect(ids(await take(events))).toEqual(['a']);
  });

  it('keeps a bounded number, the newest', async () => {
    db.transaction(() => {
      for (let index = 0; index < HELD_EVENTS_MAX + 600; index += 1) hold(`c${index}`);
    });

    const events = bus.subscribe([], controller.signal);

    controller.abort();
    const taken = ids(await take(events));
    expect(taken.length).toBeLessThanOrEqual(HELD_EVENTS_MAX + 500);
    expect(taken.at(-1)).toBe(`c${HELD_EVENTS_MAX + 599}`);
  });
});

describe('EventBus.replayFrom()', () => {
  it('returns the journal after a sequence number, oldest first', () => {
    exit('a');
    exit('b');
    const [first] = bus.replayFrom(0n);

    const rest = bus.replayFrom(first?.sequence ?? 0n);

    expect(ids(rest.map(({ envelope }) => envelope))).toEqual(['b']);
  });

  it('is bounded', () => {
    db.transaction(() => {
      for (let index = 0; index < JOURNAL_EVENTS_MAX + 1200; index += 1) exit('x');
    });

    expect(Number(db.prepare('SELECT count(*) FROM events').pluck().get())).toBeLessThanOrEqual(
      JOURNAL_EVENTS_MAX + 500,
    );
  });
});
