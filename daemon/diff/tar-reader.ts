// Streaming reader of tar archives with bounded memory: v7, ustar, PAX, GNU long names, all sparse formats. It reads and
// checks the format only; what an entry may do to a file system is decided elsewhere. tar-stream reads no sparse files
// and hands out copies through streams per entry, which costs more than unpacking does.

import { invalidArgument } from '../../proto/errors';
import { BLOCK_BYTES, isZeroBlock, parseHeader, type TarHeader } from './tar-header';
import {
  checkSparse,
  type PaxRecords,
  paddingOf,
  parseOldSparse,
  parseOldSparseMore,
  parsePaxNumber,
  parsePaxRecords,
  parsePaxTime,
  parseSparseLines,
  type SparseSegment,
  sparseMapOf,
} from './tar-pax';

export type EntryType = 'file' | 'directory' | 'symlink' | 'hardlink' | 'character' | 'block' | 'fifo';

/** One entry. Names are bytes as latin1 strings, exactly as stored. */
export interface TarEntry {
  readonly type: EntryType;
  readonly name: string;
  readonly linkName: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number };
  readonly atime: { readonly seconds: number; readonly nanoseconds: number } | undefined;
  /** Length of the file, holes included. */
  readonly size: number;
  readonly isSparse: boolean;
  readonly major: number;
  readonly minor: number;
  readonly xattrs: readonly (readonly [name: string, value: string])[];
}

/** A piece of the data of the last entry, as a range of the chunk that is being pushed. */
export interface TarData {
  readonly offset: number;
  readonly bytes: number;
  /** Where it belongs in the file. */
  readonly position: number;
}

export interface TarHandler {
  entry(entry: TarEntry): void;
  /** Only for entries of type file. */
  data(data: TarData): void;
  /** All data of the last entry has been given. */
  entryEnd(): void;
}

/** Bytes of a PAX header, long name or sparse map (as Go's archive/tar). */
const META_BYTES_MAX = 1024 * 1024;

const TYPES: Readonly<Record<string, EntryType>> = {
  '0': 'file',
  '7': 'file',
  S: 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};
const XATTR_KEYWORD = 'SCHILY.xattr.';
/** 2^32 - 1 would mean "leave the owner as it is" to chown(2). */
const ID_MAX = 2 ** 32 - 2;

type State = 'header' | 'meta' | 'old-sparse' | 'sparse-lines' | 'data' | 'skip' | 'end';

interface Sparse {
  segments: SparseSegment[];
  realSize: number;
}

export class TarReader {
  readonly #handler: TarHandler;
  #state: State = 'header';
  #hasZeroBlock = false;
  /** A block that is spread over chunks. */
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  #blockBytes = 0;
  /** Body of a meta entry, or a sparse map, while it is collected. */
  #meta: Buffer[] = [];
  #metaLeft = 0;
  #metaType = '';
  #longName: string | undefined;
  #longLink: string | undefined;
  #pax: PaxRecords = [];
  #header: TarHeader | undefined;
  #sparse: Sparse | undefined;
  #segment = 0;
  #segmentDone = 0;
  #left = 0;
  #padding = 0;
  /** For messages: how far the archive has been read, and the last entry. */
  #offset = 0;
  #lastName = '';
  readonly #where = (): string =>
    this.#lastName === ''
      ? `tar archive at byte ${this.#offset}`
      : `tar archive at byte ${this.#offset}, at or after entry ${quote(this.#lastName)}`;

  constructor(handler: TarHandler) {
    this.#handler = handler;
  }

  /** Reads a chunk. Ranges given to the handler are of this chunk. @throws INVALID_ARGUMENT for a malformed archive */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length && this.#state !== 'end') {
      const before = at;
      at = this.#step(chunk, at);
      this.#offset += at - before;
    }
  }

  /** @throws INVALID_ARGUMENT when the archive ends within an entry */
  finish(): void {
    const isBetweenEntries = this.#state === 'header' && this.#blockBytes === 0 && !this.#hasMeta();
    if (this.#state === 'end' || isBetweenEntries) return;
    throw invalidArgument(
      `tar archive is truncated after byte ${this.#offset}, in or after ${quote(this.#lastName)}: unexpected EOF`,
    );
  }

  #step(chunk: Buffer, at: number): number {
    switch (this.#state) {
      case 'header':
      case 'old-sparse':
      case 'sparse-lines':
        return this.#takeBlock(chunk, at);
      case 'meta':
        return this.#takeMeta(chunk, at);
      case 'data':
        return this.#takeData(chunk, at);
      case 'skip': {
        const bytes = Math.min(this.#padding, chunk.length - at);
        this.#padding -= bytes;
        if (this.#padding === 0) this.#state = 'header';
        return at + bytes;
      }
      case 'end':
        return chunk.length;
    }
  }

  #takeBlock(chunk: Buffer, at: number): number {
    if (this.#blockBytes === 0 && chunk.length - at >= BLOCK_BYTES) {
      this.#onBlock(chunk, at);
      return at + BLOCK_BYTES;
    }
    const bytes = Math.min(BLOCK_BYTES - this.#blockBytes, chunk.length - at);
    chunk.copy(this.#block, this.#blockBytes, at, at + bytes);
    this.#blockBytes += bytes;
    if (this.#blockBytes === BLOCK_BYTES) {
      this.#blockBytes = 0;
      this.#onBlock(this.#block, 0);
    }
    return at + bytes;
  }

  #onBlock(bytes: Buffer, at: number): void {
    if (this.#state === 'old-sparse') this.#onOldSparse(bytes, at);
    else if (this.#state === 'sparse-lines') this.#onSparseLines(Buffer.from(bytes.subarray(at, at + BLOCK_BYTES)));
    else this.#onHeader(bytes, at);
  }

  #onHeader(bytes: Buffer, at: number): void {
    if (isZeroBlock(bytes, at)) {
      if (this.#hasMeta()) throw invalidArgument(`${this.#where()}: extended header without an entry`);
      if (this.#hasZeroBlock) this.#state = 'end';
      this.#hasZeroBlock = true;
      return;
    }
    if (this.#hasZeroBlock) throw invalidArgument(`${this.#where()}: invalid tar header after a zero block`);
    const header = parseHeader(bytes, at, this.#where);
    if (header.size < 0) throw invalidArgument(`${this.#where()}: negative size`);
    if ('xgLK'.includes(header.typeFlag)) {
      this.#startMeta(header);
      return;
    }
    this.#header = header;
    this.#sparse = undefined;
    if (header.typeFlag === 'S') {
      const { segments, hasMore, realSize } = parseOldSparse(bytes, at, this.#where);
      this.#sparse = { segments, realSize };
      if (hasMore) {
        this.#state = 'old-sparse';
        return;
      }
    }
    this.#startEntry();
  }

  #startMeta({ typeFlag, size }: TarHeader): void {
    if (size > META_BYTES_MAX) throw invalidArgument(`${this.#where()}: extended header of ${size} bytes is too large`);
    this.#metaType = typeFlag;
    this.#meta = [];
    this.#metaLeft = size;
    this.#padding = paddingOf(size);
    this.#state = 'meta';
    if (size === 0) this.#endMeta();
  }

  #takeMeta(chunk: Buffer, at: number): number {
    const bytes = Math.min(this.#metaLeft, chunk.length - at);
    this.#meta.push(Buffer.from(chunk.subarray(at, at + bytes)));
    this.#metaLeft -= bytes;
    if (this.#metaLeft === 0) this.#endMeta();
    return at + bytes;
  }

  #endMeta(): void {
    const bytes = Buffer.concat(this.#meta);
    this.#meta = [];
    const text = () => bytes.toString('latin1', 0, bytes.includes(0) ? bytes.indexOf(0) : bytes.length);
    if (this.#metaType === 'x') this.#pax = parsePaxRecords(bytes, this.#where);
    else if (this.#metaType === 'L') this.#longName = text();
    else if (this.#metaType === 'K') this.#longLink = text();
    this.#state = this.#padding === 0 ? 'header' : 'skip';
  }

  #onOldSparse(bytes: Buffer, at: number): void {
    const { segments, hasMore } = parseOldSparseMore(bytes, at, this.#where);
    this.#sparse?.segments.push(...segments);
    if ((this.#sparse?.segments.length ?? 0) * 24 > META_BYTES_MAX * 4) {
      throw invalidArgument(`${this.#where()}: sparse map is too long`);
    }
    if (!hasMore) this.#startEntry();
  }

  #startEntry(): void {
    const header = this.#header as TarHeader;
    const type = TYPES[header.typeFlag];
    if (type === undefined) {
      throw invalidArgument(`entry ${quote(header.name)}: unsupported tar entry type "${header.typeFlag}"`);
    }
    const values = new Map(this.#pax);
    this.#lastName = values.get('GNU.sparse.name') ?? values.get('path') ?? this.#longName ?? header.name;
    const paxSize = values.get('size');
    const stored = type === 'file' ? (paxSize === undefined ? header.size : parsePaxNumber(paxSize, this.#where)) : 0;
    this.#left = stored;
    this.#padding = paddingOf(stored);
    if (type === 'file' && this.#sparse === undefined) this.#sparse = this.#paxSparse(values);
    if (values.get('GNU.sparse.major') === '1' && this.#sparse !== undefined) {
      this.#state = 'sparse-lines';
      this.#meta = [];
      return;
    }
    this.#emitEntry(type, values);
  }

  #paxSparse(values: ReadonlyMap<string, string>): Sparse | undefined {
    const size = values.get('GNU.sparse.realsize') ?? values.get('GNU.sparse.size');
    if (size === undefined) return undefined;
    const realSize = parsePaxNumber(size, this.#where);
    if (values.get('GNU.sparse.major') === '1') return { segments: [], realSize };
    const segments = sparseMapOf(this.#pax, this.#where);
    return segments === undefined ? undefined : { segments, realSize };
  }

  #onSparseLines(block: Buffer): void {
    this.#meta.push(block);
    this.#left -= BLOCK_BYTES;
    const bytes = this.#meta.length * BLOCK_BYTES;
    if (this.#left < 0 || bytes > META_BYTES_MAX) throw invalidArgument(`${this.#where()}: invalid sparse map`);
    const segments = parseSparseLines(Buffer.concat(this.#meta), this.#where);
    if (segments === undefined) return;
    this.#meta = [];
    (this.#sparse as Sparse).segments = segments;
    this.#emitEntry('file', new Map(this.#pax));
  }

  #emitEntry(type: EntryType, values: ReadonlyMap<string, string>): void {
    const header = this.#header as TarHeader;
    const sparse = this.#sparse;
    if (sparse !== undefined) checkSparse(sparse.segments, { real: sparse.realSize, stored: this.#left }, this.#where);
    const time = (keyword: string) => {
      const value = values.get(keyword);
      return value === undefined ? undefined : parsePaxTime(value, () => `${this.#where()}: ${keyword}`);
    };
    this.#handler.entry({
      type,
      name: this.#lastName,
      linkName: values.get('linkpath') ?? this.#longLink ?? header.linkName,
      mode: header.mode & 0o7777,
      uid: this.#id(values.get('uid'), header.uid, 'uid'),
      gid: this.#id(values.get('gid'), header.gid, 'gid'),
      mtime: time('mtime') ?? { seconds: header.mtimeSeconds, nanoseconds: 0 },
      atime: time('atime'),
      size: sparse?.realSize ?? this.#left,
      isSparse: sparse !== undefined,
      major: header.major,
      minor: header.minor,
      xattrs: xattrsOf(this.#pax),
    });
    this.#pax = [];
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#segment = 0;
    this.#segmentDone = 0;
    this.#state = 'data';
    if (this.#left === 0) this.#endEntry();
  }

  #takeData(chunk: Buffer, at: number): number {
    const segments = this.#sparse?.segments;
    if (segments === undefined) {
      const bytes = Math.min(this.#left, chunk.length - at);
      this.#handler.data({ offset: at, bytes, position: this.#segmentDone });
      this.#segmentDone += bytes;
      return this.#advance(at, bytes);
    }
    const segment = segments[this.#segment] as SparseSegment;
    const bytes = Math.min(segment.bytes - this.#segmentDone, chunk.length - at);
    if (bytes > 0) this.#handler.data({ offset: at, bytes, position: segment.position + this.#segmentDone });
    this.#segmentDone += bytes;
    if (this.#segmentDone === segment.bytes) {
      this.#segment++;
      this.#segmentDone = 0;
    }
    return this.#advance(at, bytes);
  }

  #advance(at: number, bytes: number): number {
    this.#left -= bytes;
    if (this.#left === 0) this.#endEntry();
    return at + bytes;
  }

  #endEntry(): void {
    this.#state = this.#padding === 0 ? 'header' : 'skip';
    this.#handler.entryEnd();
  }

  #id(pax: string | undefined, header: number, what: string): number {
    const id = pax === undefined ? header : parsePaxNumber(pax, () => `${this.#where()}: ${what}`);
    if (id < 0 || id > ID_MAX) throw invalidArgument(`${this.#where()}: ${what} ${id} is out of range`);
    return id;
  }

  #hasMeta(): boolean {
    return this.#pax.length > 0 || this.#longName !== undefined || this.#longLink !== undefined;
  }
}

const NAME_SHOWN_MAX = 256;

/** A name for a message: as text, in quotes, not longer than is useful. */
export function quote(name: string): string {
  const text = Buffer.from(name, 'latin1').toString('utf8');
  return JSON.stringify(text.length > NAME_SHOWN_MAX ? `${text.slice(0, NAME_SHOWN_MAX)}...` : text);
}

function xattrsOf(records: PaxRecords): (readonly [string, string])[] {
  if (records.length === 0) return [];
  const xattrs = new Map<string, string>();
  for (const [keyword, value] of records) {
    if (keyword.startsWith(XATTR_KEYWORD)) xattrs.set(keyword.slice(XATTR_KEYWORD.length), value);
  }
  return [...xattrs];
}
