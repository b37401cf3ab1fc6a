// HTTP/2 settings that the API's clients need and that grpc-js offers in its client only. This reaches into its server;
// where the inside has changed, Node's defaults stay in force (the test of this file notices).
//
// Windows: with the default of 64 KiB a client waits 16 times for every MiB that it uploads, which costs an import a
// quarter of its time. Resets: Go clients cancel a stream whose answer they have read, containerd's content reader once
// for every 32 KiB, so that nghttp2's limit against floods of resets (1000, then 33 a second) cut the connection in the
// middle of an export. The socket belongs to root; a client that wants to harm has better ways.

import type { Http2Server, ServerOptions } from 'node:http2';
import type { Server, ServerCredentials } from '@grpc/grpc-js';

/** Bytes that one call may send before the server has read them: a few of the messages that Go clients send. */
export const STREAM_WINDOW_BYTES = 4 << 20;
/** The same for all calls of a connection together. */
export const CONNECTION_WINDOW_BYTES = 8 << 20;
/** Streams that a client may reset at once and, later, in a second. */
const STREAM_RESETS_MAX = 1_000_000;

interface ServerInside {
  commonServerOptions?: ServerOptions;
  createHttp2Server?: (credentials: ServerCredentials) => Http2Server;
}

/** Call before the server gets its first address or injector. */
export function setHttp2Options(server: Server): void {
  const inside = server as unknown as ServerInside;
  const { commonServerOptions, createHttp2Server } = inside;
  if (commonServerOptions === undefined || createHttp2Server === undefined) return;
  inside.commonServerOptions = {
    ...commonServerOptions,
    settings: { ...commonServerOptions.settings, initialWindowSize: STREAM_WINDOW_BYTES },
    streamResetBurst: STREAM_RESETS_MAX,
    streamResetRate: STREAM_RESETS_MAX,
  };
  inside.createHttp2Server = (credentials) => {
    const http2Server = createHttp2Server.call(server, credentials);
    http2Server.on('session', (session) => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
    return http2Server;
  };
}
