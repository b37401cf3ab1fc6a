// Wider HTTP/2 receive windows for the server. With the default of 64 KiB a client has to wait 16 times for every MiB
// that it uploads, which costs an import a quarter of its time. grpc-js has an option for this in its client only, so
// this reaches into its server; where the inside has changed, the default windows stay and everything still works.

import type { Http2Server, Settings } from 'node:http2';
import type { Server, ServerCredentials } from '@grpc/grpc-js';

/** Bytes that one call may send before the server has read them: a few of the messages that Go clients send. */
export const STREAM_WINDOW_BYTES = 4 << 20;
/** The same for all calls of a connection together. */
export const CONNECTION_WINDOW_BYTES = 8 << 20;

interface ServerInside {
  commonServerOptions?: { settings?: Settings };
  createHttp2Server?: (credentials: ServerCredentials) => Http2Server;
}

/** Call before the server gets its first address or injector. */
export function widenWindows(server: Server): void {
  const inside = server as unknown as ServerInside;
  const { commonServerOptions, createHttp2Server } = inside;
  if (commonServerOptions === undefined || createHttp2Server === undefined) return;
  commonServerOptions.settings = { ...commonServerOptions.settings, initialWindowSize: STREAM_WINDOW_BYTES };
  inside.createHttp2Server = (credentials) => {
    const http2Server = createHttp2Server.call(server, credentials);
    http2Server.on('session', (session) => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
    return http2Server;
  };
}
