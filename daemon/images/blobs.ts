// Blobs as images need them: written once however many ask for the same one, and labelled with what they refer to.

import { setTimeout } from 'node:timers/promises';
import { errorKind, isAlreadyExists } from '../../proto/errors';
import { nowNs } from '../../proto/time';
import type { ContentStore } from '../content/store';
import type { Committed, Writer } from '../content/writer';

/** On whose behalf something is written. */
export interface Owner {
  readonly namespace: string;
  readonly lease: string;
  /** Aborts when nobody wants it any more. */
  readonly signal: AbortSignal;
}

export interface BlobToWrite {
  /** Names the ingest: whoever writes the same blob uses the same, and goes on where another one stopped. */
  readonly ref: string;
  /** Empty: not known before. */
  readonly digest: string;
  readonly sizeBytes: number;
  readonly labels?: Readonly<Record<string, string>>;
}

/** Bytes for one write of a file: smaller pieces are put together. */
const PIECE_BYTES = 128 << 10;
/** How long to wait between two looks whether another writer of the same blob is done. */
const LOCK_DELAYS_MS = [10, 50, 100, 250];

/**
 * What `open` opens of the content store; undefined when the namespace has the blob, which the lease then holds. Waits
 * while somebody else writes it.
 * @throws the signal's reason, and what `open` throws
 */
export async function whenUnlocked<T>(open: () => Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  for (let attempt = 0; ; attempt += 1) {
    signal.throwIfAborted();
    try {
      return await open();
    } catch (error) {
      if (isAlreadyExists(error)) return undefined;
      if (errorKind(error) !== 'unavailable') throw error;
      await setTimeout(LOCK_DELAYS_MS[Math.min(attempt, LOCK_DELAYS_MS.length - 1)], undefined, { signal });
    }
  }
}

/**
 * Makes a blob of a source, which is read to its end in any case. A blob that exists already is not written again.
 * @throws FAILED_PRECONDITION when size or digest differ
 */
export async function writeBlob(
  content: ContentStore,
  owner: Owner,
  blob: BlobToWrite,
  source: AsyncIterable<Uint8Array>,
): Promise<Committed> {
  const { namespace, lease, signal } = owner;
  const { ref, digest, sizeBytes } = blob;
  const open = () => content.openWriter({ namespace, lease, ref, expected: digest, totalBytes: BigInt(sizeBytes) });
  const writer = await whenUnlocked(open, signal);
  if (writer === undefined) {
    for await (const _ of source) signal.throwIfAborted();
    return { digest, sizeBytes: BigInt(sizeBytes) };
  }
  try {
    // Complete from the start where another namespace has the blob; otherwise what somebody left is replaced.
    const isComplete = digest !== '' && writer.status.offsetBytes === BigInt(sizeBytes);
    if (!isComplete) await writer.reset();
    for await (const piece of pieces(source)) {
      signal.throwIfAborted();
      if (!isComplete) await writer.append(piece);
    }
    return await commitBlob(content, owner, writer, blob);
  } finally {
    await writer.close();
  }
}

/** Commits, also when another namespace or writer has brought the same blob meanwhile. */
async function commitBlob(
  content: ContentStore,
  owner: Owner,
  writer: Writer,
  { ref, digest, sizeBytes, labels = {} }: BlobToWrite,
): Promise<Committed> {
  const written = { digest: digest || writer.digest(), sizeBytes: writer.status.offsetBytes };
  try {
    return await writer.commit({ sizeBytes: BigInt(sizeBytes), expected: digest, labels });
  } catch (error) {
    if (isAlreadyExists(error)) return written;
    // Bytes that are wrong would be wrong again.
    if (errorKind(error) === 'failed precondition') {
      await content.abort(owner.namespace, ref, owner.lease).catch(() => {});
    }
    throw error;
  }
}

/** Sets labels of a blob and leaves its others alone. @throws NOT_FOUND */
export function labelBlob(
  content: ContentStore,
  namespace: string,
  digest: string,
  labels: Readonly<Record<string, string>>,
): void {
  const current = content.blobs.get(namespace, digest).labels;
  const changed = Object.keys(labels).filter((key) => current[key] !== labels[key]);
  if (changed.length === 0) return;
  const paths = changed.map((key) => `labels.${key}`);
  content.blobs.update(namespace, { digest, labels: { ...labels }, paths, nowNs: nowNs() });
}

async function* pieces(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let length = 0;
  for await (const piece of source) {
    waiting.push(piece);
    length += piece.length;
    if (length < PIECE_BYTES) continue;
    yield waiting.length === 1 ? piece : Buffer.concat(waiting, length);
    waiting = [];
    length = 0;
  }
  if (length > 0) yield Buffer.concat(waiting, length);
}
