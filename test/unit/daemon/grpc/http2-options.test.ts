// setHttp2Options() on a real socket: what a client hears of the server's windows, and what it may do.

import { mkdtempSync, rmSync } from 'node:fs';
import { type ClientHttp2Session, connect, constants } from 'node:http2';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineService } from '../../../../daemon/grpc/handler';
import { CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES } from '../../../../daemon/grpc/http2-options';
import { ApiServer } from '../../../../daemon/grpc/server';
import { VersionService } from '../../../../proto/generated/containerd.services.version.v1';

/** More than nghttp2 takes by default. */
const RESETS = 1500;

let directory: string;
let server: ApiServer;
let session: ClientHttp2Session;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-http2-'));
  const socket = join(directory, 'api.sock');
  // Calls that are still open when the client cancels them.
  const silent = defineService(VersionService, { version: () => new Promise(() => {}) });
  server = new ApiServer([silent], { durable: async () => {}, writeCount: () => 0n, onEnd: () => {} });
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
    const stream = session.request({
      ':method': 'POST',
      ':path': VersionService.version.path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    stream.end(Buffer.alloc(5));
    stream.on('error', () => {});
    stream.resume();
    if (stream.pending) await new Promise((resolve) => stream.once('ready', resolve));
    // Once the request is out, so that it is a reset that the server sees.
    await new Promise((resolve) => setImmediate(resolve));
    stream.close(constants.NGHTTP2_CANCEL);
  }

  await new Promise<void>((resolve, reject) => session.ping((error) => (error === null ? resolve() : reject(error))));
  expect(goaway).toEqual([]);
});
