// Streams on a real socket: back-pressure, cancellation, errors, and who ends them.

import type * as grpc from '@grpc/grpc-js';
import { notFound } from '../../../../proto/errors';
import { CallBench, until } from './bench';

let bench: CallBench;

beforeEach(() => {
  bench = new CallBench();
});
afterEach(() => bench.close());

describe('a server stream', () => {
  it('is not produced faster than it is read', async () => {
    let produced = 0;
    await bench.serve({
      async *read() {
        for (; produced < 1000; produced += 1) yield { offset: 0n, data: Buffer.alloc(256 * 1024) };
      },
    });
    const { session, stream } = bench.rawStream('/containerd.services.content.v1.Content/Read', Buffer.alloc(0));
    await until(() => produced > 0);

    // Until it rests.
    for (let before = -1; before !== produced; await new Promise((resolve) => setTimeout(resolve, 300))) {
      before = produced;
    }

    expect(produced).toBeLessThan(100);
    stream.close();
    session.destroy();
    await until(() => bench.ended.length === 1);
  });

  it('stops the producer when the client leaves', async () => {
    let isStopped = false;
    const stub = await bench.serve({
      async *read(_request, { signal }) {
        try {
          while (!signal.aborted) {
            yield { offset: 0n, data: Buffer.alloc(1) };
            await new Promise((resolve) => setTimeout(resolve, 1));
          }
        } finally {
          isStopped = true;
        }
      },
    });
    const stream = stub['read']?.({}) as grpc.ClientReadableStream<unknown>;
    stream.on('error', () => {});
    await new Promise((resolve) => stream.once('data', resolve));

    stream.cancel();

    await until(() => isStopped);
    await until(() => bench.ended.length === 1);
  });

  it('sends what came before an error, then the error once', async () => {
    const stub = await bench.serve({
      async *read() {
        yield { offset: 0n, data: Buffer.from('a') };
        throw notFound('rest');
      },
    });
    const stream = stub['read']?.({}) as grpc.ClientReadableStream<{ data: Buffer }>;
    const data: string[] = [];
    stream.on('data', (message) => data.push(message.data.toString()));

    const error = await new Promise<grpc.ServiceError>((resolve) => stream.once('error', resolve));

    expect(data).toEqual(['a']);
    expect(error).toMatchObject({ code: 5, details: 'rest: not found' });
    expect(bench.ended).toHaveLength(1);
  });
});

describe('a bidirectional stream', () => {
  it('may be ended by the handler before the client is done', async () => {
    const stub = await bench.serve({
      async *write(requests) {
        for await (const { ref } of requests) {
          yield { offset: BigInt(ref.length) };
          if (ref === 'stop') return;
        }
      },
    });
    const stream = stub['write']?.() as grpc.ClientDuplexStream<unknown, { offset: bigint }>;
    const offsets: bigint[] = [];
    stream.on('data', (message) => offsets.push(message.offset));
    const isEnded = new Promise<grpc.StatusObject>((resolve) => stream.once('status', resolve));

    stream.write({ ref: 'go' });
    stream.write({ ref: 'stop' });

    expect((await isEnded).code).toBe(0);
    expect(offsets).toEqual([2n, 4n]);
  });

  it('ends when the client half-closes', async () => {
    const stub = await bench.serve({
      async *write(requests) {
        let count = 0n;
        for await (const _ of requests) count += 1n;
        yield { offset: count };
      },
    });
    const stream = stub['write']?.() as grpc.ClientDuplexStream<unknown, { offset: bigint }>;
    stream.on('error', () => {});
    const answer = new Promise<{ offset: bigint }>((resolve) => stream.once('data', resolve));

    for (let index = 0; index < 100; index += 1) stream.write({ ref: 'x' });
    stream.end();

    expect((await answer).offset).toBe(100n);
    await until(() => bench.ended.length === 1);
  });
});
