import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EventBus } from '../../../../daemon/events/bus';
import { Database } from '../../../../daemon/metadata/database';
import { initOf, ProcessTracker } from '../../../../daemon/tasks/process-tracker';
import { TaskStore } from '../../../../daemon/tasks/task-store';
import { TaskExit } from '../../../../proto/generated/containerd.events';

describe('ProcessTracker', () => {
  let directory: string;
  let db: Database;
  let store: TaskStore;
  let tracker: ProcessTracker;
  let bus: EventBus;
  const key = { namespace: 'default', id: 'web' };
  const exec = { ...key, execId: 'e1' };
  const io = { stdin: '', stdout: '/out', stderr: '', terminal: false };
  const init = { pid: 42, io, bundle: '/b', rootfs: [] };
  const exit = { pid: 42, exitStatus: 3, exitedAt: 1_700_000_000_000_000_001n };
  const never = new AbortController().signal;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'gantry-tracker-'));
    db = Database.open(join(directory, 'meta.db'));
    store = new TaskStore(db);
    bus = new EventBus(db);
    tracker = new ProcessTracker({ db, store, bus });
    store.insertTask({
      ...key,
      bundle: '/b',
      runtime: 'io.containerd.runc.v2',
      shimPath: '/shim',
      shimPid: 0,
      shimAddress: '',
      shimVersion: 0,
      state: 'creating',
      createdAt: 1n,
    });
  });

  afterEach(async () => {
    await db.close();
    rmSync(directory, { recursive: true });
  });

  const topics = () => [...bus.replayFrom(0n)].map(({ envelope }) => envelope.topic);

  test('publishes every change once, however often it is told', async () => {
    tracker.created(key, init);
    tracker.started(initOf(key), 42);
    tracker.started(initOf(key), 42);
    await tracker.exited(initOf(key), exit);
    await tracker.exited(initOf(key), { ...exit, exitStatus: 137 });
    tracker.started(initOf(key), 42);
    tracker.deleted(key, exit);

    expect(topics()).toEqual(['/tasks/create', '/tasks/start', '/tasks/exit', '/tasks/delete']);
    expect(store.getTask(key)).toBeUndefined();
  });

  test('exited() keeps the first status and the time to the nanosecond', async () => {
    tracker.created(key, init);

    await tracker.exited(initOf(key), exit);
    await tracker.exited(initOf(key), { ...exit, exitStatus: 255 });

    expect(store.getProcess(initOf(key))).toMatchObject({ status: 'stopped', ...exit });
  });

  test('wait() answers all waiters at the exit and later ones at once', async () => {
    tracker.created(key, init);
    const waiting = [tracker.wait(initOf(key), never), tracker.wait(initOf(key), never)];

    await tracker.exited(initOf(key), exit);

    expect((await Promise.all(waiting)).map(({ exitStatus }) => exitStatus)).toEqual([3, 3]);
    expect((await tracker.wait(initOf(key), never)).exitStatus).toBe(3);
  });

  test('wait() answers once the exit is on disk, and needs no second sync for its event', async () => {
    tracker.created(key, init);
    await db.durable();
    const syncs = db.syncCount;
    const waiting = tracker.wait(initOf(key), never);

    const published = tracker.exited(initOf(key), exit);
    await waiting;
    await db.durable();

    expect(db.syncCount).toBe(syncs + 1);
    await published;
    expect(topics()).toEqual(['/tasks/create', '/tasks/exit']);
  });

  test('wait() ends when its signal aborts', async () => {
    tracker.created(key, init);
    const controller = new AbortController();
    const waiting = tracker.wait(initOf(key), controller.signal);

    controller.abort(new Error('gone'));

    await expect(waiting).rejects.toThrow('gone');
  });

  test('wait() on an exec whose start failed answers that nothing ran', async () => {
    tracker.created(key, init);
    store.insertProcess(exec, 0, io);
    const waiting = tracker.wait(exec, never);

    tracker.execFailed(exec);

    expect(await waiting).toEqual({ exitStatus: 0, exitedAt: 0n });
    expect(await tracker.wait(exec, never)).toEqual({ exitStatus: 0, exitedAt: 0n });
    expect(store.getProcess(exec)?.status).toBe('created');
  });

  test('execFailed() does not touch an exec that runs', async () => {
    tracker.created(key, init);
    store.insertProcess(exec, 0, io);
    tracker.started(exec, 43);
    const controller = new AbortController();
    const waiting = tracker.wait(exec, controller.signal);

    tracker.execFailed(exec);
    controller.abort(new Error('still waiting'));

    await expect(waiting).rejects.toThrow('still waiting');
  });

  test('an exit that was stored but not published is found again', async () => {
    tracker.created(key, init);
    store.markExited(initOf(key), exit);

    const [found] = store.unannouncedExits(key);
    await tracker.announce(initOf(key), found ?? exit, { hold: true });

    expect(found).toMatchObject(exit);
    expect(topics()).toEqual(['/tasks/create', '/tasks/exit']);
    expect(store.unannouncedExits(key)).toEqual([]);
  });

  test('an exit that waits for a subscriber is not told of a later task of the same name', async () => {
    tracker.created(key, init);
    await tracker.exited(initOf(key), exit, { hold: true });
    tracker.deleted(key, exit, { hold: true });
    bus.publishOrHold('default', '/tasks/exit', TaskExit, { containerId: 'other', id: 'other' });
    const controller = new AbortController();

    tracker.created(key, init);

    const seen = bus.subscribe([], controller.signal);
    controller.abort();
    const ids: string[] = [];
    for await (const { event } of seen) ids.push(TaskExit.decode(event?.value ?? Buffer.alloc(0)).containerId);
    expect(ids).toEqual(['other']);
  });

  test('paused() and resumed() follow the state', () => {
    tracker.created(key, init);
    tracker.paused(key);
    tracker.started(initOf(key), 42);
    tracker.paused(key);
    tracker.paused(key);
    tracker.resumed(key);

    expect(topics()).toEqual(['/tasks/create', '/tasks/start', '/tasks/paused', '/tasks/resumed']);
  });
});
