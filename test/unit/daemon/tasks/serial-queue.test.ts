import { SerialQueue } from '../../../../daemon/tasks/serial-queue';
import { untilAborted } from '../../../../daemon/tasks/task';
import { TaskRegistry } from '../../../../daemon/tasks/task-registry';

describe('SerialQueue', () => {
  test('run() runs jobs one after another, also behind a failing one', async () => {
    const queue = new SerialQueue();
    const order: string[] = [];
    const gate = Promise.withResolvers<void>();

    const first = queue.run(async () => {
      await gate.promise;
      order.push('first');
      throw new Error('failed');
    });
    const second = queue.run(() => order.push('second'));
    gate.resolve();

    await expect(first).rejects.toThrow('failed');
    await second;
    expect(order).toEqual(['first', 'second']);
    expect(queue.isIdle).toBe(true);
  });
});

describe('TaskRegistry', () => {
  const key = { namespace: 'default', id: 'web' };

  test('exclusive() never holds up another id', async () => {
    const registry = new TaskRegistry();
    const gate = Promise.withResolvers<void>();
    const held = registry.exclusive(key, () => gate.promise);

    expect(await registry.exclusive({ ...key, id: 'other' }, async () => 'done')).toBe('done');
    gate.resolve();
    await held;
  });

  test('exclusiveCall() answers at the abort and does not begin a job that still waits', async () => {
    const registry = new TaskRegistry();
    const gate = Promise.withResolvers<void>();
    const controller = new AbortController();
    let hasRun = false;
    const held = registry.exclusive(key, () => gate.promise);
    const call = registry.exclusiveCall(key, controller.signal, async () => {
      hasRun = true;
    });

    controller.abort(new Error('deadline'));

    await expect(call).rejects.toThrow('deadline');
    gate.resolve();
    await held;
    await registry.exclusive(key, async () => undefined);
    expect(hasRun).toBe(false);
  });
});

describe('untilAborted()', () => {
  test('does not leave a rejection unhandled when the signal was aborted before', async () => {
    const call = untilAborted(Promise.reject(new Error('late')), AbortSignal.abort(new Error('first')));

    await expect(call).rejects.toThrow('first');
  });
});
