// Typed access to the C unpacker: a batch of operations is written into flat buffers and executed with one call, because
// a call per file would cost more than the file. What happens with each entry of an archive is the caller's decision.

import { libgantry, type NativeFunction } from '../library';
import { systemError } from '../system-error';

/** How an entry that hides a lower one is written: by removing it, or as overlayfs (in a user namespace) wants it. */
export type WhiteoutFormat = 'delete' | 'overlay' | 'overlay-user';

export interface UnpackTarget {
  readonly root: string;
  readonly whiteouts: WhiteoutFormat;
  /**
   * Directories of the layers below, nearest first: they give attributes to directories without an entry. While they are
   * unknown, such a directory is the error ENOTCONN.
   */
  readonly lowers: readonly string[] | 'unknown';
}

/** Owner, permissions and times of an entry. Names are bytes as latin1 strings, here and below. */
export interface EntryAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: UnpackTime;
  readonly atime: UnpackTime;
  readonly xattrs: readonly (readonly [name: string, value: string])[];
}

interface UnpackTime {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** A piece of a regular file. The first makes the file, the last finishes it with its attributes. */
export interface RegularPiece {
  readonly path: string;
  readonly attributes: EntryAttributes;
  readonly isFirst: boolean;
  readonly isLast: boolean;
  /** Where the piece starts in the file. */
  readonly position: number;
  /** The file is this long in the end, whatever was written; undefined: as long as what was written. */
  readonly size: number | undefined;
  /** The piece within the data of the batch. */
  readonly dataOffset: number;
  readonly dataBytes: number;
}

export interface NodeEntry {
  readonly type: 'character' | 'block' | 'fifo';
  readonly major: number;
  readonly minor: number;
}

const KIND = { regular: 0, directory: 1, symlink: 2, hardlink: 3, node: 4, whiteout: 5, opaque: 6, directoryTimes: 7 };
const FLAG = { first: 1, last: 2, sparse: 4 };
const FORMAT: Record<WhiteoutFormat, number> = { delete: 0, overlay: 1, 'overlay-user': 2 };
const NODE_TYPE = { character: 0o020000, block: 0o060000, fifo: 0o010000 };

/** Words and bytes of struct operation in unpack.h. */
const OPERATION_WORDS = 24;
const OPERATIONS_MAX = 1024;
const STRINGS_BYTES = 256 * 1024;
const WORD = {
  kind: 0,
  flags: 1,
  mode: 2,
  uid: 3,
  gid: 4,
  path: 5,
  link: 6,
  xattrs: 7,
  xattrCount: 8,
  data: 9,
  dataSize: 10,
  major: 11,
  minor: 12,
  mtimeNsec: 13,
  atimeNsec: 14,
  position: 16,
  size: 18,
  mtime: 20,
  atime: 22,
};
const TWO_32 = 2 ** 32;
const NO_DATA = Buffer.alloc(0);

interface Functions {
  readonly open: NativeFunction;
  readonly lower: NativeFunction;
  readonly unknownLowers: NativeFunction;
  readonly start: NativeFunction;
  readonly wait: NativeFunction;
  readonly close: NativeFunction;
}

let functions: Functions | undefined;

/**
 * Collects operations and has them executed in order, on a thread of its own: one batch while the next is collected.
 * Waits block; for worker threads. Errors are those of the file system, with the entry's name as `path`; they come up to a
 * batch later.
 */
export class Unpacker {
  readonly #native: Functions;
  readonly #words = new Uint32Array(OPERATION_WORDS * OPERATIONS_MAX);
  readonly #done = new Uint32Array(1);
  #strings = Buffer.allocUnsafe(STRINGS_BYTES);
  #paths: string[] = [];
  /** Of the batch that runs. */
  #runningPaths: readonly string[] = [];
  #count = 0;
  #stringsEnd = 0;
  #data: Uint8Array = NO_DATA;
  #context: bigint | undefined;

  constructor(target: UnpackTarget) {
    this.#native = native();
    const error = new Int32Array(1);
    const context = this.#native.open(target.root, FORMAT[target.whiteouts], error) as bigint | null;
    if (context === null) throw systemError(error[0] ?? 0, 'open', target.root);
    this.#context = context;
    if (target.lowers === 'unknown') this.#native.unknownLowers(context);
    else this.#openLowers(context, target.lowers);
  }

  #openLowers(context: bigint, lowers: readonly string[]): void {
    for (const lower of lowers) {
      const result = this.#native.lower(context, lower) as number;
      if (result >= 0) continue;
      this.close();
      throw systemError(result, 'open', lower);
    }
  }

  /** Sets the bytes that following pieces refer to, until submit() or flush(). */
  setData(data: Uint8Array): void {
    this.submit();
    this.#data = data;
  }

  regular(piece: RegularPiece): void {
    const at = this.#add(KIND.regular, piece.path);
    const sparse = piece.size === undefined ? 0 : FLAG.sparse;
    this.#words[at + WORD.flags] = (piece.isFirst ? FLAG.first : 0) | (piece.isLast ? FLAG.last : 0) | sparse;
    this.#words[at + WORD.data] = piece.dataOffset;
    this.#words[at + WORD.dataSize] = piece.dataBytes;
    this.#set64(at + WORD.position, piece.position);
    this.#set64(at + WORD.size, piece.size ?? 0);
    if (piece.isLast) this.#setAttributes(at, piece.attributes);
  }

  directory(path: string, attributes: EntryAttributes): void {
    this.#setAttributes(this.#add(KIND.directory, path), attributes);
  }

  symlink(path: string, target: string, attributes: EntryAttributes): void {
    const at = this.#add(KIND.symlink, path, target);
    this.#setAttributes(at, attributes);
  }

  /** A further name for a file of the same directory tree. */
  hardlink(path: string, target: string): void {
    this.#add(KIND.hardlink, path, target);
  }

  node(path: string, node: NodeEntry, attributes: EntryAttributes): void {
    const at = this.#add(KIND.node, path);
    this.#setAttributes(at, attributes);
    this.#words[at + WORD.mode] = NODE_TYPE[node.type] | (attributes.mode & 0o7777);
    this.#words[at + WORD.major] = node.major;
    this.#words[at + WORD.minor] = node.minor;
  }

  /** Hides what layers below have at `path`, never what this one has. */
  whiteout(path: string, attributes: EntryAttributes): void {
    this.#setAttributes(this.#add(KIND.whiteout, path), { ...attributes, xattrs: [] });
  }

  /** Hides what layers below have in the directory `path` ('' is the root). */
  opaque(path: string): void {
    this.#add(KIND.opaque, path);
  }

  /** Sets a directory's times again, which making entries in it has changed. */
  directoryTimes(path: string, attributes: EntryAttributes): void {
    this.#setAttributes(this.#add(KIND.directoryTimes, path), { ...attributes, xattrs: [] });
  }

  /**
   * Begins to execute what was collected, which may be overwritten from then on.
   * @throws the error of the first operation that failed in the batch before; those after it are dropped
   */
  submit(): void {
    if (this.#count === 0 || this.#context === undefined) return;
    this.#wait(this.#context);
    const [context, count, strings, data] = [this.#context, this.#count, this.#strings, this.#data];
    this.#runningPaths = this.#paths;
    this.#count = 0;
    this.#paths = [];
    const stringsBytes = this.#stringsEnd;
    this.#stringsEnd = 0;
    const { start } = this.#native;
    const result = start(context, this.#words, count, strings, stringsBytes, data, data.length) as number;
    if (result < 0) throw systemError(result, 'unpack', fromBytes(this.#runningPaths[0] ?? ''));
  }

  /** Executes what was collected. @throws as submit() */
  flush(): void {
    if (this.#context === undefined) return;
    this.submit();
    this.#wait(this.#context);
  }

  /** Closes all descriptors; drops what was not executed. */
  close(): void {
    if (this.#context !== undefined) this.#native.close(this.#context);
    this.#context = undefined;
  }

  #wait(context: bigint): void {
    const result = this.#native.wait(context, this.#done) as number;
    if (result < 0) throw systemError(result, 'unpack', fromBytes(this.#runningPaths[this.#done[0] ?? 0] ?? ''));
  }

  #add(kind: number, path: string, link = ''): number {
    if (this.#count === OPERATIONS_MAX) this.submit();
    this.#reserve(path.length + link.length + 2);
    const at = this.#count++ * OPERATION_WORDS;
    this.#words.fill(0, at, at + OPERATION_WORDS);
    this.#words[at + WORD.kind] = kind;
    this.#paths.push(path);
    this.#words[at + WORD.path] = this.#string(path);
    if (link !== '') this.#words[at + WORD.link] = this.#string(link);
    return at;
  }

  #setAttributes(at: number, { mode, uid, gid, mtime, atime, xattrs }: EntryAttributes): void {
    const words = this.#words;
    words[at + WORD.mode] = mode & 0o7777;
    words[at + WORD.uid] = uid;
    words[at + WORD.gid] = gid;
    this.#set64(at + WORD.mtime, mtime.seconds);
    words[at + WORD.mtimeNsec] = mtime.nanoseconds;
    this.#set64(at + WORD.atime, atime.seconds);
    words[at + WORD.atimeNsec] = atime.nanoseconds;
    if (xattrs.length === 0) return;
    words[at + WORD.xattrs] = this.#stringsEnd;
    words[at + WORD.xattrCount] = xattrs.length;
    for (const [name, value] of xattrs) {
      this.#grow(name.length + value.length + 5);
      this.#string(name);
      this.#stringsEnd = this.#strings.writeUInt32LE(value.length, this.#stringsEnd);
      this.#stringsEnd += this.#strings.write(value, this.#stringsEnd, 'latin1');
    }
  }

  #set64(at: number, value: number): void {
    this.#words[at] = value % TWO_32;
    this.#words[at + 1] = Math.floor(value / TWO_32);
  }

  #string(text: string): number {
    const at = this.#stringsEnd;
    this.#stringsEnd += this.#strings.write(text, at, 'latin1');
    this.#strings[this.#stringsEnd++] = 0;
    return at;
  }

  /** Room for the names of the next operation; submits the ones before when there is none. */
  #reserve(bytes: number): void {
    if (this.#stringsEnd + bytes > this.#strings.length) this.submit();
    this.#grow(bytes);
  }

  #grow(bytes: number): void {
    if (this.#stringsEnd + bytes <= this.#strings.length) return;
    const larger = Buffer.allocUnsafe((this.#stringsEnd + bytes) * 2);
    this.#strings.copy(larger, 0, 0, this.#stringsEnd);
    this.#strings = larger;
  }
}

/** A name of bytes as text for people. */
function fromBytes(name: string): string {
  return Buffer.from(name, 'latin1').toString('utf8');
}

function native(): Functions {
  const library = libgantry();
  functions ??= {
    open: library.func('void *gantry_unpack_open(const char *root, uint32_t whiteouts, void *error)'),
    lower: library.func('int gantry_unpack_lower(void *unpack, const char *path)'),
    unknownLowers: library.func('void gantry_unpack_unknown_lowers(void *unpack)'),
    start: library.func(
      'int gantry_unpack_start(void *unpack, void *operations, uint32_t count, void *strings, uint32_t stringsBytes, ' +
        'void *data, uint32_t dataBytes)',
    ),
    wait: library.func('int gantry_unpack_wait(void *unpack, void *done)'),
    close: library.func('void gantry_unpack_close(void *unpack)'),
  };
  return functions;
}
