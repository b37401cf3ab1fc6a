// Calls on a real socket: namespaces, deadlines, cancellation, errors, back-pressure, durability, limits.

import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { type CallHooks, type EndedCall, MESSAGE_LENGTH_MAX } from '../../../../daemon/grpc/call';
import { type CallContext, defineService, type HandlersOf } from '../../../../daemon/grpc/handler';
import { ApiServer, MESSAGE_BYTES_MAX } from '../../../../daemon/grpc/server';
import { alreadyExists, notFound } from '../../../../proto/errors';
import { ContentService } from '../../../../proto/generated/containerd.services.content.v1';

type Handlers = HandlersOf<typeof ContentService>;

const refuse = () => {
  throw new Error('not under test');
};
const EMPTY: Handlers = {
  abort: refuse,
  delete: refuse,
  info: refuse,
  list: refuse,
  listStatuses: refuse,
  read: refuse,
  status: refuse,
  update: refuse,
  write: refuse,
};

let directory: string;
let address: string;
let server: ApiServer | undefined;
let client: grpc.Client;
let ended: EndedCall[];
let writes = 0n;
let durable: jest.Mock<Promise<void>, []>;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-call-'));
  address = join(directory, 's');
  ended = [];
  durable = jest.fn(async () => {});
  writes = 0n;
});

afterEach(async () => {
  client?.close();
  await server?.close(0);
  rmSync(directory, { recursive: true });
});

async function serve(handlers: Partial<Handlers>, options = {}): Promise<Record<string, CallableFunction>> {
  const hooks: CallHooks = { durable, writeCount: () => writes, onEnd: (call) => ended.push(call) };
  server = new ApiServer([defineService(ContentService, { ...EMPTY, ...handlers })], hooks, options);
  await server.listen(address);
  const Client = grpc.makeGenericClientConstructor(ContentService as unknown as grpc.ServiceDefinition, 'Content');
  const channel = { 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 };
  client = new Client(`unix:${address}`, grpc.credentials.createInsecure(), channel);
  return client as unknown as Record<string, CallableFunction>;
}

interface Outcome {
  readonly code: number;
  readonly details: string;
  readonly response?: unknown;
}

function unary(
  stub: Record<string, CallableFunction>,
  name: string,
  request: unknown,
  options: { headers?: [string, string][]; timeoutMs?: number } = {},
): Promise<Outcome> {
  const metadata = new grpc.Metadata();
  for (const [key, value] of options.headers ?? []) metadata.add(key, value);
  const deadline = options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs };
  return new Promise((resolve) => {
    const settle = (error: grpc.ServiceError | null, response: unknown) =>
      resolve(error ? { code: error.code, details: error.details } : { code: 0, details: '', response });
    stub[name]?.(request, metadata, deadline, settle);
  });
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('condition did not come true');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('a call', () => {
  it('gets the first of several namespaces and leases', async () => {
    const seen: unknown[] = [];
    const stub = await serve({
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
    expect(ended[0]).toMatchObject({
      method: '/containerd.services.content.v1.Content/Delete',
      namespace: 'one',
      code: 0,
    });
  });

  it('is refused without a namespace and with a malformed one', async () => {
    const stub = await serve({ delete: (_request, context) => ({ ignored: context.requireNamespace() }) as object });

    expect(await unary(stub, 'delete', {})).toEqual({ code: 9, details: 'namespace is required: failed precondition' });
    const malformed = await unary(stub, 'delete', {}, { headers: [['containerd-namespace', 'a_']] });
    expect(malformed).toMatchObject({
      code: 3,
      details: expect.stringMatching(/^namespace validation: identifier "a_"/),
    });
  });

  it('ends at its deadline and tells the handler', async () => {
    let reason: unknown;
    const stub = await serve({
      delete: async (_request, { signal }) => {
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        reason = signal.reason;
        return {};
      },
    });

    const outcome = await unary(stub, 'delete', {}, { timeoutMs: 100 });

    expect(outcome.code).toBe(4);
    await until(() => reason !== undefined);
    expect(String(reason)).toMatch(/deadline exceeded|context canceled/);
  });

  it('tells the handler when the client cancels', async () => {
    let context: CallContext | undefined;
    const stub = await serve({
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
    await until(() => ended.length === 1);
    expect(ended[0]?.code).toBe(1);
  });

  it('answers an expected failure with its code and an unexpected one with UNKNOWN, and serves on', async () => {
    const stub = await serve({
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
    expect(ended.map(({ code, cause }) => [code, cause instanceof Error])).toEqual([
      [5, false],
      [2, true],
      [0, false],
    ]);
  });

  it('cuts a message that no client would accept', async () => {
    const stub = await serve({
      delete: () => {
        throw new Error('x'.repeat(100_000));
      },
    });

    expect((await unary(stub, 'delete', {})).details).toHaveLength(MESSAGE_LENGTH_MAX);
  });

  it('waits for the disk only when something was written meanwhile', async () => {
    let release = () => {};
    durable.mockImplementation(
      () =>
        new Promise((resolve) => {
          release = resolve;
        }),
    );
    const stub = await serve({
      info: () => ({}),
      delete: () => {
        writes += 1n;
        return {};
      },
    });

    expect((await unary(stub, 'info', {})).code).toBe(0);
    expect(durable).not.toHaveBeenCalled();
    let isAnswered = false;
    const answer = unary(stub, 'delete', {}).then(() => {
      isAnswered = true;
    });
    await until(() => durable.mock.calls.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(isAnswered).toBe(false);
    release();
    await answer;
  });

  it('waits for the disk before it says that something exists, and fails when the disk does', async () => {
    durable.mockRejectedValue(new Error('EIO'));
    const stub = await serve({
      delete: () => {
        throw alreadyExists('x');
      },
    });

    expect(await unary(stub, 'delete', {})).toEqual({ code: 2, details: 'EIO' });
  });

  it('answers a request that cannot be decoded with INTERNAL and a log line', async () => {
    await serve({ delete: () => ({}) });

    const raw = (await rawCall('/containerd.services.content.v1.Content/Delete', Buffer.from([0x0a, 0x7f, 1]))) ?? {};

    expect(raw['grpc-status']).toBe('13');
    expect(ended[0]).toMatchObject({ code: 13 });
  });

  it('to an unknown service or method is UNIMPLEMENTED', async () => {
    await serve({});

    expect((await rawCall('/no.such.Service/Method', Buffer.alloc(0)))['grpc-status']).toBe('12');
    expect((await rawCall('/containerd.services.content.v1.Content/Nope', Buffer.alloc(0)))['grpc-status']).toBe('12');
  });

  it('takes messages up to the limit and refuses larger ones', async () => {
    const stub = await serve({ delete: () => ({}) });
    const room = MESSAGE_BYTES_MAX - 16;

    expect((await unary(stub, 'delete', { digest: 'x'.repeat(room) })).code).toBe(0);
    expect((await unary(stub, 'delete', { digest: 'x'.repeat(MESSAGE_BYTES_MAX) })).code).toBe(8);
  });
});

describe('a server stream', () => {
  it('is not produced faster than it is read', async () => {
    let produced = 0;
    await serve({
      async *read() {
        for (; produced < 1000; produced += 1) yield { offset: 0n, data: Buffer.alloc(256 * 1024) };
      },
    });
    const { session, stream } = rawStream('/containerd.services.content.v1.Content/Read', Buffer.alloc(0));
    await until(() => produced > 0);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const before = produced;

    await new Promise((resolve) => setTimeout(resolve, 300));

    expect(before).toBeLessThan(100);
    expect(produced).toBe(before);
    stream.close();
    session.destroy();
    await until(() => ended.length === 1);
  });

  it('stops the producer when the client leaves', async () => {
    let isStopped = false;
    const stub = await serve({
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
    await until(() => ended.length === 1);
  });

  it('sends what came before an error, then the error once', async () => {
    const stub = await serve({
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
    expect(ended).toHaveLength(1);
  });
});

describe('a bidirectional stream', () => {
  it('may be ended by the handler before the client is done', async () => {
    const stub = await serve({
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
    const stub = await serve({
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
    await until(() => ended.length === 1);
  });
});

describe('ApiServer', () => {
  it('listens at a socket of mode 0660', async () => {
    await serve({});

    expect(statSync(address).mode & 0o777).toBe(0o660);
  });

  it('drops connections over its limit and serves the others', async () => {
    const stub = await serve({ delete: () => ({}) }, { connectionsMax: 2 });
    expect((await unary(stub, 'delete', {})).code).toBe(0);
    const idle = connect(address);
    await new Promise((resolve) => idle.once('connect', resolve));

    const extra = connect(address);
    await new Promise((resolve) => extra.once('close', resolve));

    expect((await unary(stub, 'delete', {})).code).toBe(0);
    idle.destroy();
  });

  it('close() cuts calls that do not end', async () => {
    const stub = await serve({ delete: () => new Promise(() => {}) });
    const outcome = unary(stub, 'delete', {});
    await new Promise((resolve) => setTimeout(resolve, 50));

    await server?.close(50);
    server = undefined;

    expect((await outcome).code).not.toBe(0);
  });
});

/** One unary call by hand, so that the bytes can be wrong. */
function rawCall(path: string, message: Buffer): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const { session, stream } = rawStream(path, message);
    const result: Record<string, unknown> = {};
    stream.on('response', (headers) => Object.assign(result, headers));
    stream.on('trailers', (headers) => Object.assign(result, headers));
    stream.on('error', reject);
    stream.on('close', () => {
      session.close();
      resolve(result);
    });
    stream.resume();
  });
}

/** A request whose answer nobody reads until the caller does. */
function rawStream(path: string, message: Buffer): { session: ClientHttp2Session; stream: ClientHttp2Stream } {
  const session = connectHttp2('http://localhost', { createConnection: () => connect(address) });
  session.on('error', () => {});
  const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
  const stream = session.request(headers);
  const frame = Buffer.alloc(5);
  frame.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([frame, message]));
  return { session, stream };
}
