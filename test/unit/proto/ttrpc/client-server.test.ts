// ttrpc client and server against each other and against hand-made frames, over real unix sockets.

import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { method } from '../../../../proto/codec';
import { isDeadlineExceeded, isNotFound, isNotImplemented, notFound } from '../../../../proto/errors';
import { Any } from '../../../../proto/generated/google.protobuf';
import * as ttrpc from '../../../../proto/generated/ttrpc';
import { isTtrpcClosed, TtrpcClient } from '../../../../proto/ttrpc/client';
import {
  DATA,
  encodeFrame,
  type Frame,
  FrameDecoder,
  HEADER_LENGTH,
  NO_DATA,
  PAYLOAD_LENGTH_MAX,
  REMOTE_CLOSED,
  REMOTE_OPEN,
  REQUEST,
  RESPONSE,
} from '../../../../proto/ttrpc/frame';
import { STREAM_BUFFER_FULL_MS, STREAM_BUFFER_MESSAGES } from '../../../../proto/ttrpc/queue';
import { serveTtrpc, type TtrpcServer, ttrpcService } from '../../../../proto/ttrpc/server';

const definition = {
  echo: method('/test.Echo/Echo', 'unary', Any, Any),
  fail: method('/test.Echo/Fail', 'unary', Any, Any),
  hang: method('/test.Echo/Hang', 'unary', Any, Any),
  context: method('/test.Echo/Context', 'unary', Any, Any),
  count: method('/test.Echo/Count', 'server', Any, Any),
  sum: method('/test.Echo/Sum', 'client', Any, Any),
  chat: method('/test.Echo/Chat', 'bidi', Any, Any),
  late: method('/test.Echo/Late', 'client', Any, Any),
};

let directory: string;
let path: string;
let server: TtrpcServer;
let client: TtrpcClient;
let aborted: unknown;
let mayRead: PromiseWithResolvers<void>;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'ttrpc-'));
  path = join(directory, 's');
  aborted = undefined;
  mayRead = Promise.withResolvers();
  server = serveTtrpc({
    'test.Echo': ttrpcService(definition, {
      echo: (request) => request,
      fail: (request) => {
        throw request.typeUrl === '' ? new Error('plain') : notFound(`thing "${request.typeUrl}"`);
      },
      hang: (_request, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            aborted = signal.reason;
            reject(signal.reason as Error);
          });
        }),
      context: (_request, context) => ({ typeUrl: JSON.stringify([context.namespace, context.metadata['k']]) }),
      count: async function* (request) {
        for (let i = 0; i < Number(request.typeUrl); i++) yield { typeUrl: String(i) };
        if (request.value.length > 0) throw notFound('more');
      },
      sum: async (requests) => {
        let sum = 0;
        for await (const request of requests) sum += Number(request.typeUrl);
        return { typeUrl: String(sum) };
      },
      chat: async function* (requests) {
        for await (const request of requests) yield { typeUrl: `re: ${request.typeUrl}` };
      },
      late: async (requests) => {
        await mayRead.promise;
        for await (const request of requests) void request;
        return {};
      },
    }),
  });
  await server.listen(path);
  client = await TtrpcClient.connect(path);
});

afterEach(async () => {
  mayRead.resolve();
  client.close();
  await server.close();
  rmSync(directory, { recursive: true });
});

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** A raw peer: writes bytes, collects the frames that come back. */
async function rawPeer(): Promise<{ socket: Socket; next: () => Promise<Frame>; write: (bytes: Buffer) => void }> {
  const socket = connect(path);
  await new Promise((resolve) => socket.once('connect', resolve));
  const frames: Frame[] = [];
  let wake: () => void = () => {};
  const decoder = new FrameDecoder({
    frame: (frame) => {
      frames.push(frame);
      wake();
    },
    oversize: () => {},
  });
  socket.on('data', (chunk: Buffer) => decoder.push(chunk));
  const next = async () => {
    while (frames.length === 0) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    return frames.shift() as Frame;
  };
  return { socket, next, write: (bytes) => socket.write(bytes) };
}

const request = (name: string, payload: Buffer = Buffer.alloc(0)) =>
  ttrpc.Request.encode({ service: 'test.Echo', method: name, payload });

const statusOf = (frame: Frame) => ttrpc.Response.decode(frame.payload).status;

test('call() returns the answer of the handler, for many calls at once', async () => {
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, i) => client.call(definition.echo, { typeUrl: `n${i}`, value: Buffer.alloc(i) })),
  );

  expect(answers.map((answer) => answer.typeUrl)).toEqual(Array.from({ length: 200 }, (_, i) => `n${i}`));
});

test('call() throws the kind and the words of the handler', async () => {
  await expect(client.call(definition.fail, { typeUrl: 'x' })).rejects.toThrow('thing "x": not found');
  expect(isNotFound(await client.call(definition.fail, { typeUrl: 'x' }).catch((error: unknown) => error))).toBe(true);
  await expect(client.call(definition.fail, {})).rejects.toMatchObject({ kind: 'unknown', message: 'plain' });
});

test('call() is UNIMPLEMENTED for unknown services and methods, with the words of the Go server', async () => {
  const noService = method('/test.Nope/Echo', 'unary', Any, Any);
  const noMethod = method('/test.Echo/Nope', 'unary', Any, Any);

  const errors = await Promise.all(
    [noService, noMethod].map((each) => client.call(each, {}).catch((error: unknown) => error)),
  );

  expect(errors.every(isNotImplemented)).toBe(true);
  expect(errors.map((error) => (error as Error).message)).toEqual(['service test.Nope', 'method Nope']);
});

test('call() ends at its deadline on both sides', async () => {
  const error = await client.call(definition.hang, {}, { timeoutMs: 30 }).catch((each: unknown) => each);

  expect(isDeadlineExceeded(error)).toBe(true);
  while (aborted === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(isDeadlineExceeded(aborted)).toBe(true);
  expect((await client.call(definition.echo, { typeUrl: 'after' })).typeUrl).toBe('after');
});

test('call() ends when its signal is aborted', async () => {
  const abort = new AbortController();
  const pending = client.call(definition.hang, {}, { signal: abort.signal });
  abort.abort();

  await expect(pending).rejects.toMatchObject({ kind: 'canceled' });
});

test('call() carries namespace and metadata', async () => {
  const answer = await client.call(definition.context, {}, { namespace: 'moby', metadata: { K: ['first', 'second'] } });

  expect(JSON.parse(answer.typeUrl)).toEqual(['moby', 'first']);
});

test('call() fails with "ttrpc: closed" when the connection is lost, and the handler is told', async () => {
  const pending = client.call(definition.hang, {}).catch((error: unknown) => error);
  await client.call(definition.echo, {});
  client.close();

  expect(isTtrpcClosed(await pending)).toBe(true);
  await expect(client.call(definition.echo, {})).rejects.toThrow('ttrpc: closed');
  while (aborted === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(aborted).toMatchObject({ kind: 'canceled' });
});

test('call() refuses a request that is too long and leaves the connection usable', async () => {
  const value = Buffer.alloc(PAYLOAD_LENGTH_MAX);

  await expect(client.call(definition.echo, { value })).rejects.toMatchObject({ kind: 'resource exhausted' });
  expect((await client.call(definition.echo, { typeUrl: 'after' })).typeUrl).toBe('after');
});

test('connect() is UNAVAILABLE when nobody listens', async () => {
  await expect(TtrpcClient.connect(join(directory, 'nobody'))).rejects.toMatchObject({
    kind: 'unavailable',
    message: expect.stringContaining('ENOENT'),
  });
});

test('stream() receives what the server streams, and its error after the messages', async () => {
  const good = client.stream(definition.count, { typeUrl: '100' });
  expect((await collect(good.responses)).map((each) => each.typeUrl)).toHaveLength(100);

  const bad = client.stream(definition.count, { typeUrl: '2', value: Buffer.from('x') });
  const seen: string[] = [];
  await expect(
    (async () => {
      for await (const each of bad.responses) seen.push(each.typeUrl);
    })(),
  ).rejects.toThrow('more: not found');
  expect(seen).toEqual(['0', '1']);
});

test('stream() sends many messages and gets one answer', async () => {
  const stream = client.stream(definition.sum);
  for (let i = 1; i <= 500; i++) await stream.send({ typeUrl: String(i) });
  stream.closeSend();

  expect(await collect(stream.responses)).toMatchObject([{ typeUrl: '125250' }]);
});

test('stream() talks both ways and interleaves with other calls', async () => {
  const stream = client.stream(definition.chat);
  const responses = stream.responses[Symbol.asyncIterator]();
  for (const word of ['a', 'b']) {
    await stream.send({ typeUrl: word });
    expect((await responses.next()).value).toMatchObject({ typeUrl: `re: ${word}` });
    await client.call(definition.echo, {});
  }
  stream.closeSend();

  expect((await responses.next()).done).toBe(true);
  await expect(stream.send({})).rejects.toThrow('ttrpc: closed');
});

test('a stream whose handler reads too late fails with "stream buffer full" and lets the others go on', async () => {
  const stream = client.stream(definition.late);
  for (let i = 0; i < STREAM_BUFFER_MESSAGES + 10; i++) await stream.send({ typeUrl: '1' });
  // Sent when the stream is full, so that its time is over before that of the handler.
  await client.call(definition.echo, {});
  setTimeout(mayRead.resolve, STREAM_BUFFER_FULL_MS + 200);

  await expect(collect(stream.responses)).rejects.toMatchObject({
    kind: 'resource exhausted',
    message: 'stream buffer full',
  });
});

test('listen() makes a socket that only its owner may use', () => {
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test('close() answers what is under way, then closes', async () => {
  const slow = client.call(definition.hang, {}, { timeoutMs: 50 }).catch((error: unknown) => error);
  await client.call(definition.echo, {});
  const closed = server.close();

  expect(isDeadlineExceeded(await slow)).toBe(true);
  await closed;
  await expect(client.call(definition.echo, {})).rejects.toThrow('ttrpc: closed');
});

test('authorize() refuses a connection by throwing', async () => {
  const errors: unknown[] = [];
  const strict = serveTtrpc(
    {},
    {
      authorize: () => {
        throw new Error('not you');
      },
      onError: (error) => errors.push(error),
    },
  );
  const other = join(directory, 'strict');
  await strict.listen(other);
  const refused = await TtrpcClient.connect(other);

  await expect(refused.call(definition.echo, {})).rejects.toThrow('ttrpc: closed');
  expect(errors).toMatchObject([{ message: 'not you' }]);
  await strict.close();
});

describe('frames', () => {
  test('the server refuses even ids, ids that do not rise and data for unknown streams', async () => {
    const peer = await rawPeer();
    const payload = request('Echo');
    peer.write(encodeFrame({ streamId: 2, type: REQUEST, flags: 0, payload }));
    expect(statusOf(await peer.next())).toMatchObject({
      code: 3,
      message: 'StreamID must be odd for client initiated streams',
    });
    peer.write(encodeFrame({ streamId: 5, type: REQUEST, flags: 0, payload }));
    expect(statusOf(await peer.next())).toBeUndefined();
    peer.write(encodeFrame({ streamId: 5, type: REQUEST, flags: 0, payload }));
    expect(statusOf(await peer.next())).toMatchObject({ code: 3, message: 'StreamID cannot be re-used' });
    peer.write(encodeFrame({ streamId: 9, type: DATA, flags: 0, payload: Buffer.alloc(0) }));
    expect(statusOf(await peer.next())).toMatchObject({ code: 3, message: 'StreamID is no longer active' });
    peer.socket.destroy();
  });

  test('an empty answer is a frame of length zero', async () => {
    const peer = await rawPeer();
    peer.write(encodeFrame({ streamId: 1, type: REQUEST, flags: 0, payload: request('Echo') }));

    expect(await peer.next()).toMatchObject({ streamId: 1, type: RESPONSE, flags: 0, payload: Buffer.alloc(0) });
    peer.socket.destroy();
  });

  test('frames cut into single bytes and frames of a reserved type do no harm', async () => {
    const peer = await rawPeer();
    const reserved = encodeFrame({ streamId: 1, type: 0x77, flags: 9, payload: Buffer.from('??') });
    const good = encodeFrame({ streamId: 1, type: REQUEST, flags: 0, payload: request('Echo') });
    for (const byte of Buffer.concat([reserved, good])) peer.write(Buffer.of(byte));

    expect(statusOf(await peer.next())).toBeUndefined();
    peer.socket.destroy();
  });

  test('a request over the limit is answered with RESOURCE_EXHAUSTED and skipped', async () => {
    const peer = await rawPeer();
    const header = Buffer.alloc(HEADER_LENGTH);
    header.writeUInt32BE(PAYLOAD_LENGTH_MAX + 1, 0);
    header.writeUInt32BE(1, 4);
    header.writeUInt8(REQUEST, 8);
    peer.write(header);
    peer.write(Buffer.alloc(PAYLOAD_LENGTH_MAX + 1, 0xff));
    expect(statusOf(await peer.next())).toMatchObject({ code: 8 });
    peer.write(encodeFrame({ streamId: 3, type: REQUEST, flags: 0, payload: request('Echo') }));

    expect(await peer.next()).toMatchObject({ streamId: 3 });
    peer.socket.destroy();
  });

  test('undecodable envelopes are INVALID_ARGUMENT, undecodable payloads INTERNAL', async () => {
    const peer = await rawPeer();
    peer.write(encodeFrame({ streamId: 1, type: REQUEST, flags: 0, payload: Buffer.from([0x0a, 0xff, 0x01]) }));
    expect(statusOf(await peer.next())).toMatchObject({ code: 3 });
    const broken = request('Echo', Buffer.from([0x0a, 0xff, 0x01]));
    peer.write(encodeFrame({ streamId: 3, type: REQUEST, flags: 0, payload: broken }));
    expect(statusOf(await peer.next())).toMatchObject({ code: 13 });
    peer.socket.destroy();
  });

  test('a closing data frame with a message is delivered and complained about', async () => {
    const peer = await rawPeer();
    peer.write(encodeFrame({ streamId: 1, type: REQUEST, flags: REMOTE_OPEN, payload: request('Sum') }));
    const payload = Any.encode({ typeUrl: '7' });
    peer.write(encodeFrame({ streamId: 1, type: DATA, flags: REMOTE_CLOSED, payload }));
    const frames = [await peer.next(), await peer.next()];

    expect(frames.map(statusOf).filter((status) => status?.code === 3)).toHaveLength(1);
    expect(frames.filter((frame) => statusOf(frame) === undefined)).toHaveLength(1);
    peer.socket.destroy();
  });

  test('a negative timeout has expired before the handler runs', async () => {
    const peer = await rawPeer();
    const payload = ttrpc.Request.encode({ service: 'test.Echo', method: 'Echo', timeoutNano: -1n });
    peer.write(encodeFrame({ streamId: 1, type: REQUEST, flags: 0, payload }));

    expect(statusOf(await peer.next())).toMatchObject({ code: 4 });
    peer.socket.destroy();
  });

  test('a server-streaming call ends with an empty data frame', async () => {
    const peer = await rawPeer();
    const payload = request('Count', Any.encode({ typeUrl: '1' }));
    peer.write(encodeFrame({ streamId: 1, type: REQUEST, flags: REMOTE_CLOSED, payload }));

    expect(await peer.next()).toMatchObject({ type: DATA, flags: 0 });
    expect(await peer.next()).toMatchObject({ type: DATA, flags: REMOTE_CLOSED | NO_DATA, payload: Buffer.alloc(0) });
    peer.socket.destroy();
  });

  test('the client drops answers for unknown ids and fails calls whose answer does not decode', async () => {
    const stub = createServer((socket) => {
      const decoder = new FrameDecoder({
        frame: ({ streamId }) => {
          socket.write(encodeFrame({ streamId: 99, type: RESPONSE, flags: 0, payload: Buffer.alloc(0) }));
          socket.write(encodeFrame({ streamId, type: RESPONSE, flags: 0, payload: Buffer.from([0x0a, 0xff]) }));
        },
        oversize: () => {},
      });
      socket.on('data', (chunk: Buffer) => decoder.push(chunk));
    });
    const other = join(directory, 'stub');
    await new Promise<void>((resolve) => stub.listen(other, resolve));
    const confused = await TtrpcClient.connect(other);

    await expect(confused.call(definition.echo, {})).rejects.toMatchObject({ kind: 'internal' });
    confused.close();
    await new Promise((resolve) => stub.close(resolve));
  });
});
