// Worker thread: writes one layer at a time from what a snapshot changed, and hands it to the main thread in pieces. It
// waits when the main thread is behind.

import { createHash } from 'node:crypto';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type MessagePort, parentPort } from 'node:worker_threads';
import { createGzip, createZstdCompress } from 'node:zlib';
import { type ErrorKind, errorKind, messageOf } from '../../proto/errors';
import { treeChanges, upperChanges } from './changes';
import { writeLayer } from './layer-writer';
import type { Compression } from './media-types';

/** What is compared: an upper directory of overlayfs stands for itself. */
export type DiffSource =
  | { readonly kind: 'upper'; readonly root: string }
  | { readonly kind: 'trees'; readonly left: string; readonly right: string };

export interface CreateJob {
  readonly source: DiffSource;
  readonly compression: Compression;
  readonly epochSeconds: number | undefined;
}

/** One job at a time, and word that a piece of it has been stored. */
export type CreateRequest = CreateJob | 'stored';

/** After a piece it waits for that word; the others end the job. */
export type CreateMessage =
  | { readonly piece: Uint8Array }
  | { readonly uncompressedDigest: string }
  | { readonly errorKind: ErrorKind | undefined; readonly message: string };

const PIECE_BYTES = 1024 * 1024;

async function create({ source, compression, epochSeconds }: CreateJob, port: MessagePort): Promise<string> {
  const changes = source.kind === 'upper' ? upperChanges(source.root) : treeChanges(source.left, source.right);
  const hash = createHash('sha256');
  const nowSeconds = Math.floor(Date.now() / 1000);
  const archive = function* () {
    for (const piece of writeLayer(changes, { epochSeconds, nowSeconds })) {
      hash.update(piece);
      yield piece;
    }
  };
  const send = (pieces: Buffer[]) =>
    new Promise<void>((resolve) => {
      port.once('message', () => resolve());
      port.postMessage({ piece: new Uint8Array(Buffer.concat(pieces)) } satisfies CreateMessage);
    });
  let waiting: Buffer[] = [];
  let waitingBytes = 0;
  const flush = async () => {
    const pieces = waiting;
    waiting = [];
    waitingBytes = 0;
    if (pieces.length > 0) await send(pieces);
  };
  const sink = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      waiting.push(chunk);
      waitingBytes += chunk.length;
      if (waitingBytes < PIECE_BYTES) done();
      else void flush().then(() => done());
    },
    final: (done) => void flush().then(() => done()),
  });
  const from = Readable.from(archive(), { objectMode: false, highWaterMark: PIECE_BYTES });
  if (compression === 'gzip') await pipeline(from, createGzip(), sink);
  else if (compression === 'zstd') await pipeline(from, createZstdCompress(), sink);
  else await pipeline(from, sink);
  return `sha256:${hash.digest('hex')}`;
}

parentPort?.on('message', (request: CreateRequest) => {
  const port = parentPort;
  if (request === 'stored' || port === null) return;
  create(request, port).then(
    (uncompressedDigest) => port.postMessage({ uncompressedDigest } satisfies CreateMessage),
    (error: unknown) =>
      port.postMessage({ errorKind: errorKind(error), message: messageOf(error) } satisfies CreateMessage),
  );
});
