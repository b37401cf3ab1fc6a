// The content store as a client uses it: blobs read whole or as a stream, and written through Content.Write.

import type { Input } from '../../proto/codec';
import { errorKind, invalidArgument, isAlreadyExists, messageOf } from '../../proto/errors';
import {
  WriteAction,
  type WriteContentRequest,
  type WriteContentResponse,
} from '../../proto/generated/containerd.services.content.v1';
import type { CallOptions, Duplex } from '../client';
import type { Session } from '../session';

/** Largest piece in one message; Go clients use the same. */
const CHUNK_BYTES = 1024 * 1024;
/** How often and how long to wait while another client writes the same blob. */
const LOCK_RETRIES_MAX = 20;
const LOCK_DELAY_MS = 250;

export interface BlobToWrite {
  /** Names the ingest; the same blob should have the same name, so that it can be resumed. */
  readonly ref: string;
  readonly sizeBytes: number;
  /** Unknown for blobs of old docker archives. */
  readonly digest?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** A source that can be read once, or drained when the blob turns out to be there. */
export type BlobSource = AsyncIterable<Uint8Array>;

type Writer = Duplex<WriteContentRequest, WriteContentResponse>;

/** All bytes of a blob. @throws NOT_FOUND; INVALID_ARGUMENT when it is larger than the limit. */
export async function readBlob(
  session: Session,
  digest: string,
  limitBytes: number,
  options?: CallOptions,
): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const { data } of session.connection.content.read({ digest }, options)) {
    length += data.length;
    if (length > limitBytes) throw invalidArgument(`${digest} is larger than ${limitBytes} bytes`);
    pieces.push(data);
  }
  return Buffer.concat(pieces);
}

/**
 * Writes a blob and returns its digest. The source is always read to its end, so a tar entry may be given as it is.
 * A blob that is there already is not sent.
 * @throws FAILED_PRECONDITION when size or digest differ from what was said.
 */
export async function writeBlob(
  session: Session,
  blob: BlobToWrite,
  source: BlobSource,
  lease: string | undefined,
): Promise<string> {
  const opened = await open(session, blob, lease);
  if (opened === undefined) {
    for await (const _ of source);
    return blob.digest ?? '';
  }
  const { writer, offset } = opened;
  try {
    const length = await sendAll(writer, source, offset);
    return await commit(writer, blob, length);
  } catch (error) {
    writer.cancel();
    throw error;
  }
}

/** Opens the ingest; undefined when the blob exists. Waits while somebody else writes it. */
async function open(
  session: Session,
  blob: BlobToWrite,
  lease: string | undefined,
): Promise<{ writer: Writer; offset: number } | undefined> {
  for (let attempt = 0; ; attempt += 1) {
    const writer = session.connection.content.write({ lease });
    try {
      const first = {
        action: WriteAction.STAT,
        ref: blob.ref,
        total: BigInt(blob.sizeBytes),
        expected: blob.digest ?? '',
      };
      await writer.send(first);
      const status = await writer.receive();
      return { writer, offset: Number(status?.offset ?? 0n) };
    } catch (error) {
      writer.cancel();
      if (isAlreadyExists(error)) return undefined;
      const isLocked = errorKind(error) === 'unavailable' && messageOf(error).includes('locked');
      if (!isLocked || attempt >= LOCK_RETRIES_MAX) throw error;
      await new Promise((resolve) => setTimeout(resolve, LOCK_DELAY_MS));
    }
  }
}

/** Sends all but what is stored already, in pieces of limited size, each awaiting its reply; returns the length. */
async function sendAll(writer: Writer, source: BlobSource, stored: number): Promise<number> {
  let position = 0;
  for await (const data of chunks(source)) {
    const skip = Math.min(Math.max(stored - position, 0), data.length);
    position += data.length;
    if (skip === data.length) continue;
    const rest = skip === 0 ? data : data.subarray(skip);
    await writer.send({ action: WriteAction.WRITE, offset: BigInt(position - rest.length), data: rest });
    if ((await writer.receive()) === undefined) throw invalidArgument('the daemon ended the upload early');
  }
  return position;
}

async function commit(writer: Writer, blob: BlobToWrite, length: number): Promise<string> {
  const last: Input<WriteContentRequest> = {
    action: WriteAction.COMMIT,
    total: BigInt(blob.sizeBytes),
    // An offset of zero would mean: throw away what was written.
    offset: BigInt(length),
    expected: blob.digest ?? '',
    labels: blob.labels,
  };
  let digest = blob.digest ?? '';
  try {
    await writer.send(last);
    // The real server repeats its last reply, so everything up to the end of the stream is taken.
    for (let reply = await writer.receive(); reply !== undefined; reply = await writer.receive()) {
      if (reply.digest !== '') digest = reply.digest;
      writer.end();
    }
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    digest ||= /[a-z0-9]+:[a-f0-9]{32,}/.exec(messageOf(error))?.[0] ?? '';
  }
  return digest;
}

/** Joins small pieces and splits large ones, so that messages are near the chunk size. */
async function* chunks(source: BlobSource): AsyncGenerator<Buffer> {
  let pending: Buffer[] = [];
  let length = 0;
  for await (const piece of source) {
    let rest = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    while (length + rest.length >= CHUNK_BYTES) {
      const take = CHUNK_BYTES - length;
      yield Buffer.concat([...pending, rest.subarray(0, take)]);
      rest = rest.subarray(take);
      pending = [];
      length = 0;
    }
    if (rest.length > 0) {
      pending.push(rest);
      length += rest.length;
    }
  }
  if (length > 0) yield Buffer.concat(pending);
}

/** Sets labels of a blob, leaving others alone. */
export async function labelBlob(
  session: Session,
  digest: string,
  labels: Readonly<Record<string, string>>,
  lease?: string,
): Promise<void> {
  const paths = Object.keys(labels).map((key) => `labels.${key}`);
  if (paths.length === 0) return;
  await session.connection.content.update({ info: { digest, labels }, updateMask: { paths } }, { lease });
}
