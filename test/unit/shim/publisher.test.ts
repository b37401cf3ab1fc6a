// Events from the shim to a daemon that comes and goes.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unavailable } from '../../../proto/errors';
import { TaskOOM, TaskPaused } from '../../../proto/generated/containerd.events';
import { EventsService } from '../../../proto/generated/containerd.services.events.ttrpc.v1';
import { serveTtrpc, type TtrpcServer, ttrpcService } from '../../../proto/ttrpc/server';
import { Publisher, QUEUE_EVENTS_MAX } from '../../../shim/publisher';
import { poll } from '../../integration/shim/harness';

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

let directory: string;
let address: string;
let seen: string[];
let refuse: number;
let daemon: TtrpcServer;
let publisher: Publisher;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'publisher-'));
  address = join(directory, 's');
  seen = [];
  refuse = 0;
  publisher = new Publisher({ address, namespace: 'ns1', log });
});

afterEach(async () => {
  publisher.close();
  await daemon?.close();
  rmSync(directory, { recursive: true });
});

async function startDaemon(): Promise<void> {
  const service = ttrpcService(EventsService, {
    forward: ({ envelope }, { namespace }) => {
      if (refuse-- > 0) throw unavailable('not now');
      const { containerId } = TaskPaused.decode(envelope?.event?.value ?? Buffer.alloc(0));
      seen.push(`${namespace} ${envelope?.namespace} ${envelope?.topic} ${envelope?.event?.typeUrl} ${containerId}`);
      return {};
    },
  });
  daemon = serveTtrpc({ 'containerd.services.events.ttrpc.v1.Events': service });
  await daemon.listen(address);
}

const publish = (id: string) => publisher.publish('/tasks/paused', TaskPaused, { containerId: id });
const ids = () => seen.map((line) => line.split(' ')[4]);

test('publish() forwards envelopes in order', async () => {
  await startDaemon();
  for (let i = 0; i < 50; i++) publish(`c${i}`);
  publisher.publish('/tasks/oom', TaskOOM, { containerId: 'last' });
  await publisher.flush(5000);

  expect(seen[0]).toBe('ns1 ns1 /tasks/paused containerd.events.TaskPaused c0');
  expect(seen[50]).toBe('ns1 ns1 /tasks/oom containerd.events.TaskOOM last');
  expect(ids()).toEqual([...Array.from({ length: 50 }, (_, i) => `c${i}`), 'last']);
});

test('publish() keeps events while the daemon is away and sends them at once when told', async () => {
  publish('a');
  publish('b');
  await startDaemon();
  await poll('events', () => {
    publisher.retryNow();
    return seen.length === 2;
  });
  await daemon.close();
  publish('c');
  await startDaemon();
  publisher.retryNow();
  await poll('event after the restart', () => seen.length === 3);

  expect(ids()).toEqual(['a', 'b', 'c']);
});

test('an event that is refused is tried again, in its place', async () => {
  await startDaemon();
  refuse = 1;
  publish('a');
  publish('b');
  await poll('events', () => seen.length === 2);

  expect(ids()).toEqual(['a', 'b']);
});

test('the queue is bounded and drops the oldest', async () => {
  for (let i = 0; i < QUEUE_EVENTS_MAX + 10; i++) publish(`c${i}`);
  await startDaemon();
  publisher.retryNow();
  await poll('events', () => {
    publisher.retryNow();
    return seen.length === QUEUE_EVENTS_MAX;
  });

  expect(ids().at(-1)).toBe(`c${QUEUE_EVENTS_MAX + 9}`);
});

test('flush() gives up at its limit', async () => {
  publish('a');
  await publisher.flush(50);

  expect(seen).toEqual([]);
});
