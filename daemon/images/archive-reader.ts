// Reads an image archive, a tar of an OCI image layout or docker save's older form, plain or compressed with gzip or zstd,
// as a stream: files become blobs as they come, only small documents stay in memory. The archive is untrusted: names of
// entries are keys and never paths, and what is counted or kept is bounded.

import { pipeline, Readable, type Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { type Extract, extract } from 'tar-stream';
import { errorKind, invalidArgument, messageOf } from '../../proto/errors';
import type { ContentStore } from '../content/store';
import { type Owner, writeBlob } from './blobs';
import { DOCUMENT_BYTES_MAX } from './documents';

const ENTRY_COUNT_MAX = 100_000;
/** Of a file, for compressionOf(). */
export const MAGIC_BYTES = 4;
const CHUNK_BYTES = 256 << 10;

type Compression = 'none' | 'gzip' | 'zstd';

/** A file of the archive that is in the content store now. */
export interface StoredFile {
  readonly digest: string;
  readonly sizeBytes: number;
  readonly compression: Compression;
}

export interface Archive {
  /** oci-layout, index.json, manifest.json: those that were there. */
  readonly documents: ReadonlyMap<string, Buffer>;
  /** Other files by their normalised name. */
  readonly files: ReadonlyMap<string, StoredFile>;
  /** Symbolic and hard links: name and the name that they lead to. */
  readonly links: ReadonlyMap<string, string>;
}

export interface ReadArchiveOptions {
  readonly owner: Owner;
  /** Told while a file is read. */
  readonly onProgress?: ((name: string, doneBytes: number, sizeBytes: number) => void) | undefined;
}

type Entry = Extract extends AsyncIterable<infer E> ? E : never;

class ArchiveReader {
  readonly documents = new Map<string, Buffer>();
  readonly files = new Map<string, StoredFile>();
  readonly links = new Map<string, string>();
  readonly #content: ContentStore;
  readonly #options: ReadArchiveOptions;

  constructor(content: ContentStore, options: ReadArchiveOptions) {
    this.#content = content;
    this.#options = options;
  }

  async take(entry: Entry): Promise<void> {
    const { type, linkname } = entry.header;
    const name = entryName(entry.header.name);
    if (type === 'symlink' || type === 'link') {
      const base = type === 'symlink' ? `${name}/../` : '';
      this.links.set(name, entryName(`${base}${linkname ?? ''}`));
    }
    const isFile = type === 'file' || type === 'contiguous-file';
    if (!isFile || IGNORED.test(name)) await drain(entry);
    else if (DOCUMENTS.has(name)) this.documents.set(name, await readSmall(entry, name));
    else this.files.set(name, await this.#store(entry, name));
  }

  async #store(entry: Entry, name: string): Promise<StoredFile> {
    const { owner, onProgress } = this.#options;
    const sizeBytes = entry.header.size ?? 0;
    const [, algorithm, hex] = BLOB_NAME.exec(name) ?? [];
    const digest = algorithm === undefined ? '' : `${algorithm}:${hex}`;
    // Without a digest nobody else can mean the same file: the lease makes the name unique.
    const ref = digest === '' ? `tar-${owner.lease}-${name}` : `tar-${name}`;
    let head = Buffer.alloc(0);
    let doneBytes = 0;
    const source = async function* () {
      for await (const data of entry as AsyncIterable<Buffer>) {
        if (head.length < MAGIC_BYTES) head = Buffer.concat([head, data.subarray(0, MAGIC_BYTES)]);
        doneBytes += data.length;
        onProgress?.(name, doneBytes, sizeBytes);
        yield data;
      }
    };
    const written = await writeBlob(this.#content, owner, { ref, digest, sizeBytes }, source());
    return { digest: written.digest, sizeBytes, compression: compressionOf(head) };
  }
}

const DOCUMENTS = new Set(['oci-layout', 'index.json', 'manifest.json']);
const BLOB_NAME = /^blobs\/([a-z0-9]+)\/([a-f0-9]+)$/;
/** Parts of docker's first format that nobody needs. */
const IGNORED = /(^|\/)(repositories|VERSION|json)$/;

/**
 * Puts the files of an archive into the content store.
 * @throws INVALID_ARGUMENT when the archive is damaged or cut short, what the source throws, the signal's reason
 */
export async function readArchive(
  content: ContentStore,
  source: AsyncIterable<Buffer>,
  options: ReadArchiveOptions,
): Promise<Archive> {
  const reader = new ArchiveReader(content, options);
  const tar = extract();
  const stages = await plainTar(source);
  let cause: Error | undefined;
  pipeline([...stages, tar as unknown as Transform], (error) => {
    // What the source or the decompressor says is nearer to the truth than what the tar reader makes of it.
    if (error === null || error === undefined) return;
    cause ??= error;
    tar.destroy(error);
  });
  let count = 0;
  try {
    for await (const entry of tar) {
      count += 1;
      if (count > ENTRY_COUNT_MAX) throw invalidArgument(`archive has more than ${ENTRY_COUNT_MAX} entries`);
      await reader.take(entry);
    }
  } catch (error) {
    const reason = cause ?? error;
    if (!isDamage(reason)) throw reason;
    throw invalidArgument(`archive is damaged or cut short: ${messageOf(reason)}`, { cause: reason });
  } finally {
    stages[0].destroy();
  }
  return reader;
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
async function plainTar(source: AsyncIterable<Buffer>): Promise<[Readable, ...Transform[]]> {
  const iterator = source[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  while (head.length < MAGIC_BYTES) {
    const next = await iterator.next();
    if (next.done === true) break;
    head = Buffer.concat([head, next.value]);
  }
  const whole = Readable.from(
    (async function* () {
      try {
        if (head.length > 0) yield head;
        for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
      } finally {
        await iterator.return?.();
      }
    })(),
    { objectMode: false, highWaterMark: CHUNK_BYTES },
  );
  switch (compressionOf(head)) {
    case 'gzip':
      return [whole, createGunzip({ chunkSize: CHUNK_BYTES })];
    case 'zstd':
      return [whole, createZstdDecompress({ chunkSize: CHUNK_BYTES })];
    case 'none':
      return [whole];
  }
}

export function compressionOf(head: Buffer): Compression {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  if (head.length >= MAGIC_BYTES && head.readUInt32LE(0) === 0xfd2fb528) return 'zstd';
  return 'none';
}

/** Errors that come from the bytes, as opposed to the daemon or the machine. */
function isDamage(error: unknown): boolean {
  if (errorKind(error) !== undefined) return false;
  const { code } = error as { code?: unknown };
  return (
    typeof code !== 'string' ||
    code.startsWith('Z_') ||
    code.startsWith('ZSTD') ||
    code === 'ERR_STREAM_PREMATURE_CLOSE' ||
    code === 'ERR_TRAILING_JUNK_AFTER_STREAM_END'
  );
}
