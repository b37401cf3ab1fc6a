// images import: the daemon reads the archive where it is, or takes it as this client sends it, and makes images and
// snapshots of it. Everything happens under one lease, so an import that fails or is interrupted leaves nothing behind once
// the lease is gone.

import { randomBytes } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { isAlreadyExists, isNotImplemented, messageOf } from '../../proto/errors';
import { ImageImportStream, ImageStore, type Progress } from '../../proto/generated/containerd.types.transfer';
import { ImageImportFile } from '../../proto/generated/gantry.transfer.v1';
import { ignoreNotFound } from '../container/create';
import { usageError } from '../failure';
import type { Session } from '../session';
import type { Reporter } from '../transfer/report';
import { openStream, sendBytes } from '../transfer/streams';
import { type Place, place, transfer } from '../transfer/transfer';
import type { OciPlatform } from './documents';
import { withLease } from './lease';
import { fullName } from './reference';

export interface ImportOptions {
  /** The image's name, instead of those in the archive. */
  readonly name?: string | undefined;
  /** Put before tags that are no full names. */
  readonly baseName: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly platform: OciPlatform;
  /** Where to unpack to; undefined leaves the layers packed. */
  readonly snapshotter: string | undefined;
  /** Compress the plain layers of a docker archive. */
  readonly compress: boolean;
  readonly reporter: Reporter;
}

export interface ImportedImage {
  readonly name: string;
  readonly digest: string;
}

type Saved = Pick<Progress, 'name' | 'desc'>;

const READ_BYTES = 1 << 20;

/** @throws INVALID_ARGUMENT for a broken archive; CommandError (usage) when it names no image and --name is missing. */
export function importArchive(
  session: Session,
  source: FileHandle | Readable,
  options: ImportOptions,
): Promise<ImportedImage[]> {
  return withLease(session, async (lease) => {
    if (options.name !== undefined) return importAs(session, source, { ...options, name: options.name }, lease);
    const reference = { name: options.baseName, isPrefix: true, allowOverwrite: true };
    const saved = await take(session, source, { options, reference, lease });
    if (saved.length === 0) throw usageError('the archive does not name its image; give --name');
    return saved.map(({ name, desc }) => ({ name, digest: desc?.digest ?? '' }));
  });
}

/** The daemon names images by the archive; here they get names of their own for a moment, to see that it is one image. */
async function importAs(
  session: Session,
  source: FileHandle | Readable,
  options: ImportOptions & { readonly name: string },
  lease: string,
): Promise<ImportedImage[]> {
  const { images } = session.connection;
  const reference = { name: `import-${randomBytes(8).toString('hex')}`, isPrefix: true, addDigest: true };
  const saved = await take(session, source, { options, reference, lease });
  try {
    const digests = new Set(saved.map(({ desc }) => desc?.digest));
    const [first] = saved;
    if (first?.desc === undefined) throw usageError('the archive holds no image');
    if (digests.size > 1) throw usageError(`--name needs an archive with one image, this one has ${digests.size}`);
    const image = { name: fullName(options.name), labels: options.labels, target: first.desc };
    await images.create({ image }, { lease }).catch(async (error: unknown) => {
      if (!isAlreadyExists(error)) throw error;
      await images.update({ image }, { lease });
    });
    return [{ name: image.name, digest: first.desc.digest }];
  } finally {
    for (const { name } of saved) await images.delete({ name }).catch(ignoreNotFound);
  }
}

interface Sending {
  readonly options: ImportOptions;
  readonly reference: { readonly name: string; readonly isPrefix: boolean };
  readonly lease: string;
}

/** Has the archive taken and returns what was saved. */
async function take(session: Session, source: FileHandle | Readable, sending: Sending): Promise<Saved[]> {
  if (source instanceof Readable) return send(session, source, 0, sending);
  const status = await source.stat({ bigint: true });
  if (status.isFile()) {
    const { dev: device, ino: inode } = status;
    const { compress: forceCompress } = sending.options;
    const file = place(ImageImportFile, { pid: process.pid, fd: source.fd, device, inode, forceCompress });
    try {
      return await run(session, file, sending);
    } catch (error) {
      // The daemon is on the other side of a wall, or is containerd.
      if (!isNotImplemented(error) && !messageOf(error).startsWith('type with url')) throw error;
    }
  }
  return send(session, source.createReadStream({ highWaterMark: READ_BYTES }), Number(status.size), sending);
}

/** `sizeBytes`: 0 when it is not known. */
async function send(session: Session, source: Readable, sizeBytes: number, sending: Sending): Promise<Saved[]> {
  const { options, lease } = sending;
  const stop = new AbortController();
  const stream = await openStream(session, 'import', lease);
  let sourceFailure: unknown;
  const bytes = counted(source, sizeBytes, options.reporter, (error) => {
    sourceFailure = error;
    stop.abort();
  });
  const sent = sendBytes(stream.call, bytes).catch(() => {});
  try {
    const archive = place(ImageImportStream, { stream: stream.id, forceCompress: options.compress });
    return await run(session, archive, sending, stop.signal);
  } catch (error) {
    throw sourceFailure ?? error;
  } finally {
    stream.call.cancel();
    source.destroy();
    await sent;
  }
}

async function run(
  session: Session,
  source: Place,
  { options, reference, lease }: Sending,
  signal?: AbortSignal,
): Promise<Saved[]> {
  const { reporter, platform, snapshotter, labels } = options;
  const unpacks = snapshotter === undefined ? [] : [{ platform, snapshotter }];
  const saved: Saved[] = [];
  await transfer(session, {
    source,
    destination: place(ImageStore, { labels, extraReferences: [reference], unpacks }),
    lease,
    ...(signal && { signal }),
    onProgress: (entry) => {
      if (entry.event === 'saved') saved.push(entry);
      reporter.tell(entry);
    },
  });
  return saved;
}

async function* counted(
  source: Readable,
  sizeBytes: number,
  reporter: Reporter,
  onFailure: (error: unknown) => void,
): AsyncGenerator<Buffer> {
  let doneBytes = 0n;
  try {
    for await (const piece of source as AsyncIterable<Buffer>) {
      doneBytes += BigInt(piece.length);
      reporter.tell({ event: 'sending', name: 'archive', progress: doneBytes, total: BigInt(sizeBytes) });
      yield piece;
    }
    reporter.tell({ event: 'complete', name: 'archive', progress: doneBytes, total: doneBytes });
  } catch (error) {
    onFailure(error);
    throw error;
  }
}
