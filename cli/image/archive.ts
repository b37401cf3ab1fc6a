// Reads an image archive (tar of an OCI image layout, or docker save's format, plain or compressed with gzip or zstd)
// as a stream: blobs go to the content store as they come, only small documents stay in memory. The archive is
// untrusted: entry names are used as keys and never as paths, documents are limited in size.

import { pipeline, Readable, type Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { type Extract, extract } from 'tar-stream';
import { invalidArgument, messageOf } from '../../proto/errors';
import type { Session } from '../session';
import { writeBlob } from './content';
import { DOCUMENT_BYTES_MAX } from './documents';

const ENTRY_COUNT_MAX = 100_000;
const MAGIC_BYTES = 4;

/** A file of the archive that is in the content store now. */
export interface StoredFile {
  readonly digest: string;
  readonly sizeBytes: number;
  readonly compression: Compression;
}

export interface Archive {
  /** oci-layout, index.json, manifest.json: those that were there. */
  readonly documents: Map<string, Buffer>;
  /** Other files by their normalised name. */
  readonly files: Map<string, StoredFile>;
  /** Symbolic and hard links: name and the name they lead to. */
  readonly links: Map<string, string>;
}

type Entry = Extract extends AsyncIterable<infer E> ? E : never;

type Compression = 'none' | 'gzip' | 'zstd';

export interface ReadOptions {
  readonly lease: string;
  /** Told while a blob is read. */
  readonly onProgress?: ((name: string, doneBytes: number, sizeBytes: number) => void) | undefined;
}

const DOCUMENTS = new Set(['oci-layout', 'index.json', 'manifest.json']);
/** Parts of docker's older format that nobody needs. */
const IGNORED = /(^|\/)(repositories|VERSION|json)$/;

/** @throws INVALID_ARGUMENT when the archive is broken or cut short. */
export async function readArchive(session: Session, source: Readable, options: ReadOptions): Promise<Archive> {
  const archive: Archive = { documents: new Map(), files: new Map(), links: new Map() };
  const tar = extract();
  const plain = await decompress(source);
  let cause: Error | undefined;
  const stages: [Readable, ...Transform[]] = plain;
  pipeline([...stages, tar as unknown as Transform], (error) => {
    // What the source or the decompressor says is nearer to the truth than what tar makes of it.
    if (error !== null && error !== undefined) {
      cause ??= error;
      tar.destroy(error);
    }
  });
  let count = 0;
  try {
    for await (const entry of tar) {
      count += 1;
      if (count > ENTRY_COUNT_MAX) throw invalidArgument(`archive has more than ${ENTRY_COUNT_MAX} entries`);
      await takeEntry(session, entry, archive, options);
    }
  } catch (error) {
    const reason = cause ?? error;
    if (isDamage(reason))
      throw invalidArgument(`the archive is damaged or cut short: ${messageOf(reason)}`, { cause: error });
    throw reason;
  }
  if (count === 0) throw invalidArgument('the archive is empty or is not a tar archive');
  return archive;
}

/** Normalised name of an entry: no leading "./" or "/", no "." or ".." parts left. */
export function entryName(name: string): string {
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
}

async function takeEntry(session: Session, entry: Entry, archive: Archive, options: ReadOptions): Promise<void> {
  const { type, linkname } = entry.header;
  const name = entryName(entry.header.name);
  if (type === 'symlink' || type === 'link') {
    const base = type === 'symlink' ? `${name}/../` : '';
    archive.links.set(name, entryName(`${base}${linkname ?? ''}`));
  }
  const isFile = type === 'file' || type === 'contiguous-file';
  if (!isFile || IGNORED.test(name)) {
    await drain(entry);
  } else if (DOCUMENTS.has(name)) {
    archive.documents.set(name, await readSmall(entry, name));
  } else {
    archive.files.set(name, await storeFile(session, entry, name, options));
  }
}

async function storeFile(session: Session, entry: Entry, name: string, options: ReadOptions): Promise<StoredFile> {
  const sizeBytes = entry.header.size ?? 0;
  const [, algorithm, hex] = /^blobs\/([a-z0-9]+)\/([a-f0-9]+)$/.exec(name) ?? [];
  const expected = algorithm === undefined ? undefined : `${algorithm}:${hex}`;
  // Without a digest there is nothing to resume by: the lease makes the reference unique.
  const ref = expected === undefined ? `tar-${options.lease}-${name}` : `tar-${name}`;
  let head = Buffer.alloc(0);
  let done = 0;
  const source = async function* (): AsyncGenerator<Uint8Array> {
    for await (const data of entry as AsyncIterable<Buffer>) {
      if (head.length < MAGIC_BYTES) head = Buffer.concat([head, data.subarray(0, MAGIC_BYTES)]);
      done += data.length;
      options.onProgress?.(name, done, sizeBytes);
      yield data;
    }
  };
  const blob = { ref, sizeBytes, ...(expected === undefined ? {} : { digest: expected }) };
  const digest = await writeBlob(session, blob, source(), options.lease);
  return { digest, sizeBytes, compression: compressionOf(head) };
}

async function readSmall(entry: Entry, name: string): Promise<Buffer> {
  if ((entry.header.size ?? 0) > DOCUMENT_BYTES_MAX) {
    throw invalidArgument(`${name} of the archive is larger than ${DOCUMENT_BYTES_MAX} bytes`);
  }
  const pieces: Buffer[] = [];
  for await (const data of entry as AsyncIterable<Buffer>) pieces.push(data);
  return Buffer.concat(pieces);
}

async function drain(entry: Entry): Promise<void> {
  for await (const _ of entry);
}

/** The stages from the source to plain tar, by the magic bytes at its start. */
async function decompress(source: Readable): Promise<[Readable, ...Transform[]]> {
  const iterator = source[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let head = Buffer.alloc(0);
  while (head.length < MAGIC_BYTES) {
    const next = await iterator.next();
    if (next.done === true) break;
    head = Buffer.concat([head, next.value]);
  }
  const rest = Readable.from(
    (async function* () {
      if (head.length > 0) yield head;
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
    })(),
    { objectMode: false },
  );
  switch (compressionOf(head)) {
    case 'gzip':
      return [rest, createGunzip()];
    case 'zstd':
      return [rest, createZstdDecompress()];
    case 'none':
      return [rest];
  }
}

function compressionOf(head: Buffer): Compression {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  if (head.length >= 4 && head.readUInt32LE(0) === 0xfd2fb528) return 'zstd';
  return 'none';
}

/** Errors that come from the bytes, as opposed to the daemon or the machine. */
function isDamage(error: unknown): boolean {
  const { code, name } = error as { code?: unknown; name?: unknown };
  if (name === 'ApiError') return false;
  return (
    typeof code !== 'string' ||
    code.startsWith('Z_') ||
    code.startsWith('ZSTD') ||
    code === 'ERR_STREAM_PREMATURE_CLOSE'
  );
}
