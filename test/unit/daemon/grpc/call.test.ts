// Unary calls on a real socket: namespaces, deadlines, cancellation, errors, durability, limits.

import type * as grpc from '@grpc/grpc-js';
import { MESSAGE_LENGTH_MAX } from '../../../../daemon/grpc/call';
import type { CallContext } from '../../../../daemon/grpc/handler';
import { MESSAGE_BYTES_MAX } from '../../../../daemon/grpc/server';
import { alreadyExists, notFound } from '../../../../proto/errors';
import { CallBench, unary, until } from './bench';

let bench: CallBench;

beforeEach(() => {
  bench = new CallBench();
});
afterEach(() => bench.close());

describe('a call', () => {
  it('gets the first of several namespaces and leases', async () => {
    const seen: unknown[] = [];
    const stub = await bench.serve({
      delete: (_request, context) => {
        seen.push(context.requireNamespace(), context.lease);
        return {};
      },
    });

    await unary(
      stub,
      'delete',
      { digest: 'x' },
      {
        headers: [
          ['containerd-namespace', 'one'],
          ['containerd-namespace', 'two'],
          ['containerd-lease', 'l1'],
          ['containerd-lease', 'l2'],
        ],
      },
    );

    expect(seen).toEqual(['one', 'l1']);
    expect(bench.ended[0]).toMatchObject({
      method: '/containerd.services.content.v1.Content/Delete',
      namespace: 'one',
      code: 0,
    });
  });

  it('is refused without a namespace and with a malformed one', async () => {
    const stub = await bench.serve({
      delete: (_request, context) => ({ ignored: context.requireNamespace() }) as object,
    });

    expect(await unary(stub, 'delete', {})).toEqual({ code: 9, details: 'namespace is required: failed precondition' });
    const malformed = await unary(stub, 'delete', {}, { headers: [['containerd-namespace', 'a_']] });
    expect(malformed).toMatchObject({
      code: 3,
      details: expect.stringMatching(/^namespace validation: identifier "a_"/),
    });
  });

  it('ends at its deadline and tells the handler', async () => {
    let reason: unknown;
    const stub = await bench.serve({
      delete: async (_request, { signal }) => {
        if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve));
        reason = signal.reason;
        return {};
      },
    });

    // On a slow machine a call may end before it reaches the handler, which then has nothing to be told.
    for (let timeoutMs = 100; reason === undefined && timeoutMs < 20_000; timeoutMs *= 2) {
      expect((await unary(stub, 'delete', {}, { timeoutMs })).code).toBe(4);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }

    expect(String(reason)).toMatch(/deadline exceeded|context canceled/);
  });

  it('tells the handler when the client cancels', async () => {
    let context: CallContext | undefined;
    const stub = await bench.serve({
      delete: async (_request, given) => {
        context = given;
        await new Promise((resolve) => given.signal.addEventListener('abort', resolve));
        throw given.signal.reason;
      },
    });
    const call = stub['delete']?.({}, () => {}) as grpc.ClientUnaryCall;
    await until(() => context !== undefined);

    call.cancel();

    await until(() => context?.signal.aborted === true);
    await until(() => bench.ended.length === 1);
    expect(bench.ended[0]?.code).toBe(1);
  });

  it('answers an expected failure with its code and an unexpected one with UNKNOWN, and serves on', async () => {
    const stub = await bench.serve({
      info: () => {
        throw notFound('content "x"');
      },
      delete: () => {
        throw new TypeError('bug');
      },
      status: async () => ({}),
    });

    expect(await unary(stub, 'info', {})).toEqual({ code: 5, details: 'content "x": not found' });
    expect(await unary(stub, 'delete', {})).toEqual({ code: 2, details: 'bug' });
    expect((await unary(stub, 'status', {})).code).toBe(0);
    expect(bench.ended.map(({ code, cause }) => [code, cause instanceof Error])).toEqual([
      [5, false],
      [2, true],
      [0, false],
    ]);
  });

  it('cuts a message that no client would accept', async () => {
    const stub = await bench.serve({
      delete: () => {
        throw new Error('x'.repeat(100_000));
      },
    });

    expect((await unary(stub, 'delete', {})).details).toHaveLength(MESSAGE_LENGTH_MAX);
  });

  it('waits for the disk only when something was written meanwhile', async () => {
    let release = () => {};
    bench.durable.mockImplementation(
      () =>
        new Promise((resolve) => {
          release = resolve;
        }),
    );
    const stub = await bench.serve({
      info: () => ({}),
      delete: () => {
        bench.writes += 1n;
        return {};
      },
    });

    expect((await unary(stub, 'info', {})).code).toBe(0);
    expect(bench.durable).not.toHaveBeenCalled();
    let isAnswered = false;
    const answer = unary(stub, 'delete', {}).then(() => {
      isAnswered = true;
    });
    await until(() => bench.durable.mock.calls.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(isAnswered).toBe(false);
    release();
    await answer;
  });

  it('waits for the disk before it says that something exists, and fails when the disk does', async () => {
    bench.durable.mockRejectedValue(new Error('EIO'));
    const stub = await bench.serve({
      delete: () => {
        throw alreadyExists('x');
      },
    });

    expect(await unary(stub, 'delete', {})).toEqual({ code: 2, details: 'EIO' });
  });

  it('answers a request that cannot be decoded with INTERNAL and a log line', async () => {
    await bench.serve({ delete: () => ({}) });

    const raw =
      (await bench.rawCall('/containerd.services.content.v1.Content/Delete', Buffer.from([0x0a, 0x7f, 1]))) ?? {};

    expect(raw['grpc-status']).toBe('13');
    expect(bench.ended[0]).toMatchObject({ code: 13 });
  });

  it('to an unknown service or method is UNIMPLEMENTED', async () => {
    await bench.serve({});

    expect((await bench.rawCall('/no.such.Service/Method', Buffer.alloc(0)))['grpc-status']).toBe('12');
    expect((await bench.rawCall('/containerd.services.content.v1.Content/Nope', Buffer.alloc(0)))['grpc-status']).toBe(
      '12',
    );
  });

  it('takes messages up to the limit and refuses larger ones', async () => {
    const stub = await bench.serve({ delete: () => ({}) });
    const room = MESSAGE_BYTES_MAX - 16;

    expect((await unary(stub, 'delete', { digest: 'x'.repeat(room) })).code).toBe(0);
    expect((await unary(stub, 'delete', { digest: 'x'.repeat(MESSAGE_BYTES_MAX) })).code).toBe(8);
  });
});
