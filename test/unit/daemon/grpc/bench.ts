// A server on a real socket with the content service, whose handlers each test gives itself, and a client.

import { mkdtempSync, rmSync } from 'node:fs';
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import type { EndedCall } from '../../../../daemon/grpc/call';
import { defineService, type HandlersOf } from '../../../../daemon/grpc/handler';
import { ApiServer } from '../../../../daemon/grpc/server';
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

type Stub = Record<string, CallableFunction>;

interface Outcome {
  readonly code: number;
  readonly details: string;
  readonly response?: unknown;
}

export class CallBench {
  /** What the server tells about calls that have ended, oldest first. */
  readonly ended: EndedCall[] = [];
  readonly durable: jest.Mock<Promise<void>, []> = jest.fn(async () => {});
  /** What the server believes to be the number of writes so far. */
  writes = 0n;
  server: ApiServer | undefined;
  readonly #directory = mkdtempSync(join(tmpdir(), 'gantry-call-'));
  readonly address = join(this.#directory, 's');
  #client: grpc.Client | undefined;

  async close(): Promise<void> {
    this.#client?.close();
    await this.server?.close(0);
    rmSync(this.#directory, { recursive: true });
  }

  async serve(handlers: Partial<Handlers>, options = {}): Promise<Stub> {
    const { durable, ended } = this;
    const hooks = { durable, writeCount: () => this.writes, onEnd: (call: EndedCall) => ended.push(call) };
    this.server = new ApiServer([defineService(ContentService, { ...EMPTY, ...handlers })], hooks, options);
    await this.server.listen(this.address);
    const Client = grpc.makeGenericClientConstructor(ContentService as unknown as grpc.ServiceDefinition, 'Content');
    const channel = { 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 };
    this.#client = new Client(`unix:${this.address}`, grpc.credentials.createInsecure(), channel);
    return this.#client as unknown as Stub;
  }

  /** One unary call by hand, so that the bytes can be wrong. */
  rawCall(path: string, message: Buffer): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      const { session, stream } = this.rawStream(path, message);
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
  rawStream(path: string, message: Buffer): { session: ClientHttp2Session; stream: ClientHttp2Stream } {
    const session = connectHttp2('http://localhost', { createConnection: () => connect(this.address) });
    session.on('error', () => {});
    const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
    const stream = session.request(headers);
    const frame = Buffer.alloc(5);
    frame.writeUInt32BE(message.length, 1);
    stream.end(Buffer.concat([frame, message]));
    return { session, stream };
  }
}

export function unary(
  stub: Stub,
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

export async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('condition did not come true');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
