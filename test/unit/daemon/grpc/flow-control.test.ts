// widenWindows() on a real socket: what a client hears of the server's windows.

import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:http2';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES } from '../../../../daemon/grpc/flow-control';
import { ApiServer } from '../../../../daemon/grpc/server';

it('widenWindows() lets a client send megabytes without waiting', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-window-'));
  const socket = join(directory, 'api.sock');
  const server = new ApiServer([], { durable: async () => {}, writeCount: () => 0n, onEnd: () => {} });
  await server.listen(socket);

  const session = connect('http://localhost', { createConnection: () => createConnection(socket) });
  try {
    const settings = await new Promise<{ initialWindowSize?: number }>((resolve) => {
      session.once('remoteSettings', resolve);
    });
    while ((session.state.remoteWindowSize ?? 0) < CONNECTION_WINDOW_BYTES) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }

    expect(settings.initialWindowSize).toBe(STREAM_WINDOW_BYTES);
  } finally {
    session.destroy();
    await server.close(0);
    rmSync(directory, { recursive: true, force: true });
  }
});
