// Worker thread: unpacks one layer blob at a time. Bytes go from the blob's file through decompression and hashing to
// the C unpacker without touching the daemon's event loop. It must not open the database.

import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import type { Transform } from 'node:stream';
import { parentPort } from 'node:worker_threads';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { canceled, type ErrorKind, errorKind, invalidArgument, isErrno, messageOf } from '../../proto/errors';
import { Unpacker, type UnpackTarget } from '../../runtime-native/layers/unpack';
import { LayerApplier } from './layer-applier';
import { TarReader } from './tar-reader';

export interface UnpackJob {
  readonly blob: string;
  /** False: the blob is a plain tar archive. True: its first bytes tell. */
  readonly mayBeCompressed: boolean;
  readonly target: UnpackTarget;
  /** One Int32: not 0 once the job is to stop. */
  readonly stop: SharedArrayBuffer;
}

export type UnpackResult =
  | { readonly digest: string; readonly sizeBytes: number }
  | { readonly errorKind: ErrorKind | undefined; readonly message: string };

const CHUNK_BYTES = 256 * 1024;
/** Decompressed bytes that wait for the file system. */
const AHEAD_BYTES = 4 * CHUNK_BYTES;
/** Larger windows of zstd are refused: 128 MiB, as the format recommends. */
const ZSTD_WINDOW_LOG_MAX = 27;
const GZIP_MAGIC = '1f8b';
const ZSTD_MAGIC = '28b52ffd';

async function unpack(job: UnpackJob): Promise<UnpackResult> {
  const stop = new Int32Array(job.stop);
  const unpacker = new Unpacker(job.target);
  const hash = createHash('sha256');
  let sizeBytes = 0;
  try {
    const applier = new LayerApplier(unpacker);
    const reader = new TarReader(applier);
    const take = (chunk: Buffer) => {
      if (stop[0] !== 0) throw canceled('context canceled');
      hash.update(chunk);
      sizeBytes += chunk.length;
      applier.startChunk(chunk);
      reader.push(chunk);
      applier.endChunk();
    };
    await readBlob(job, take);
    reader.finish();
    applier.finish();
  } finally {
    unpacker.close();
  }
  return { digest: `sha256:${hash.digest('hex')}`, sizeBytes };
}

/** Gives the archive to `take` piece by piece; a piece is gone when it returns. */
async function readBlob({ blob, mayBeCompressed }: UnpackJob, take: (chunk: Buffer) => void): Promise<void> {
  const fd = openSync(blob, 'r');
  try {
    const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    const decompress = mayBeCompressed ? decompressor(fd) : undefined;
    if (decompress === undefined) {
      for (let bytes = readSync(fd, buffer); bytes > 0; bytes = readSync(fd, buffer)) take(buffer.subarray(0, bytes));
      return;
    }
    const fed = feed(fd, buffer, decompress).catch((error: Error) => decompress.destroy(error));
    for await (const chunk of decompress as AsyncIterable<Buffer>) {
      take(chunk);
      release(chunk);
    }
    await fed;
  } finally {
    closeSync(fd);
  }
}

/** Writes a file to a stream, which decompresses on a thread of libuv; one buffer does for all of it. */
async function feed(fd: number, buffer: Buffer, target: Transform): Promise<void> {
  for (let bytes = readSync(fd, buffer); bytes > 0; bytes = readSync(fd, buffer)) {
    const piece = buffer.subarray(0, bytes);
    await new Promise<void>((resolve, reject) => {
      target.write(piece, (error) => (error ? reject(error) : resolve()));
    });
  }
  target.end();
}

/** Frees a buffer that the decompressor has filled. Garbage collection would come late, and often, for so few objects. */
function release({ buffer, byteOffset, length }: Buffer): void {
  if (byteOffset + length === buffer.byteLength) (buffer as ArrayBuffer).transfer(0);
}

/** What the first bytes ask for; undefined: the blob is the archive itself. */
function decompressor(fd: number): Transform | undefined {
  const options = { chunkSize: CHUNK_BYTES, readableHighWaterMark: AHEAD_BYTES };
  const magic = firstBytes(fd, 4).toString('hex');
  if (magic.startsWith(GZIP_MAGIC)) return createGunzip(options);
  if (magic === ZSTD_MAGIC) {
    const params = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX };
    return createZstdDecompress({ ...options, params });
  }
  return undefined;
}

function firstBytes(fd: number, count: number): Buffer {
  const bytes = Buffer.alloc(count);
  return bytes.subarray(0, readSync(fd, bytes, 0, count, 0));
}

/** Errors lose their class on the way to the main thread, so kind and message travel apart. */
function failure(error: unknown): UnpackResult {
  const { code } = error as { code?: string };
  if (code?.startsWith('Z_') || code?.startsWith('ZSTD_') || code === 'ERR_TRAILING_JUNK_AFTER_STREAM_END') {
    const refused = invalidArgument(`layer cannot be decompressed: ${messageOf(error)}`);
    return { errorKind: errorKind(refused), message: refused.message };
  }
  if (isErrno(error, 'ENOTCONN')) return { errorKind: 'aborted', message: messageOf(error) };
  if (isErrno(error, 'ENOENT')) return { errorKind: 'not found', message: `${messageOf(error)}: not found` };
  return { errorKind: errorKind(error), message: messageOf(error) };
}

parentPort?.on('message', (job: UnpackJob) => {
  unpack(job).then(
    (result) => parentPort?.postMessage(result),
    (error: unknown) => parentPort?.postMessage(failure(error)),
  );
});
