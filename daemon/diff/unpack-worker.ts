// Worker thread: unpacks one layer blob at a time. Bytes go from the blob's file through decompression and hashing to
// the C unpacker without touching the daemon's event loop. It must not open the database.

import { createHash } from 'node:crypto';
import { closeSync, createReadStream, openSync, readSync } from 'node:fs';
import type { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
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

const READ_BYTES = 256 * 1024;
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
    const consume = async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) {
        if (stop[0] !== 0) throw canceled('context canceled');
        hash.update(chunk);
        sizeBytes += chunk.length;
        applier.startChunk(chunk);
        reader.push(chunk);
        applier.endChunk();
      }
    };
    const source = createReadStream(job.blob, { highWaterMark: READ_BYTES });
    const decompress = job.mayBeCompressed ? decompressor(job.blob) : undefined;
    await (decompress === undefined ? pipeline(source, consume) : pipeline(source, decompress, consume));
    reader.finish();
    applier.finish();
  } finally {
    unpacker.close();
  }
  return { digest: `sha256:${hash.digest('hex')}`, sizeBytes };
}

/** What the first bytes ask for; undefined: the blob is the archive itself. */
function decompressor(blob: string): Transform | undefined {
  const options = { chunkSize: CHUNK_BYTES, readableHighWaterMark: AHEAD_BYTES };
  const magic = firstBytes(blob, 4).toString('hex');
  if (magic.startsWith(GZIP_MAGIC)) return createGunzip(options);
  if (magic === ZSTD_MAGIC) {
    const params = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX };
    return createZstdDecompress({ ...options, params });
  }
  return undefined;
}

function firstBytes(path: string, count: number): Buffer {
  const bytes = Buffer.alloc(count);
  const fd = openSync(path, 'r');
  try {
    return bytes.subarray(0, readSync(fd, bytes, 0, count, 0));
  } finally {
    closeSync(fd);
  }
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
