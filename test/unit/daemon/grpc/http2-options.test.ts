// setHttp2Options() on a real socket: what a client hears of the server's windows, and what it may do.

import { mkdtempSync, rmSync } from 'node:fs';
import { type ClientHttp2Session, connect, constants } from 'node:http2';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES } from '../../../../daemon/grpc/http2-options';
import { ApiServer } from '../../../../daemon/grpc/server';

/** More than nghttp2 takes by default. */
const RESETS = 3000;

let directory: string;
let server: ApiServer;
let session: ClientHttp2Session;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-http2-'));
  const socket = join(directory, 'api.sock');
  server = new ApiServer([], { durable: async () => {}, writeCount: () => 0n, onEnd: () => {} });
  await server.listen(socket);
  session = connect('http://localhost', { createConnection: () => createConnection(socket) });
});
afterEach(async () => {
  session.destroy();
  await server.close(0);
  rmSync(directory, { recursive: true, force: true });
});

it('lets a client send megabytes without waiting', async () => {
  const settings = await new Promise<{ initialWindowSize?: number }>((resolve) => {
    session.once('remoteSettings', resolve);
  });
  while ((session.state.remoteWindowSize ?? 0) < CONNECTION_WINDOW_BYTES) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }

  expect(settings.initialWindowSize).toBe(STREAM_WINDOW_BYTES);
});

it('lets a client cancel thousands of calls', async () => {
  const goaway: number[] = [];
  session.on('goaway', (code) => goaway.push(code));
  session.on('error', () => {});
  for (let count = 0; count < RESETS && !session.destroyed; count += 1) {
    // Without an end of its own half the call is still open when it is cancelled, so a RST_STREAM goes out.
    const stream = session.request({
      ':method': 'POST',
      ':path': '/x/y',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    stream.on('error', () => {});
    await new Promise<void>((resolve) => {
      stream.once('close', resolve);
      stream.once('ready', () => setImmediate(() => stream.close(constants.NGHTTP2_CANCEL)));
    });
  }

  await new Promise<void>((resolve, reject) => session.ping((error) => (error === null ? resolve() : reject(error))));
  expect(goaway).toEqual([]);
});
