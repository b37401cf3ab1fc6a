// Decides what each entry of a layer does to a directory, and refuses what it must not do. Entries and whiteouts as in
// the OCI image-spec (layer.md); deviations from plain tar are those of containerd's archive package, because diff ids
// and running images depend on them.

import { failedPrecondition, invalidArgument, isErrno, messageOf, resourceExhausted } from '../../proto/errors';
import type { EntryAttributes, Unpacker } from '../../runtime-native/layers/unpack';
import { quote, type TarData, type TarEntry, type TarHandler } from './tar-reader';

const WHITEOUT = '.wh.';
const WHITEOUT_META = '.wh..wh.';
const OPAQUE = '.wh..wh..opq';
/** What overlayfs itself reads from an upper directory; a layer that sets it could show files of other places. */
const OVERLAY_XATTRS = /^(trusted|user)\.overlay\./;
/** Directories whose times are set at the end; each costs some memory until then. */
const DIRECTORIES_MAX = 2_000_000;
/** Times of a file system: 1970 up to what 64-bit nanoseconds hold. Others become 1970. */
const SECONDS_MAX = 9_223_372_036;

type PendingFile = { readonly path: string; readonly attributes: EntryAttributes; readonly entry: TarEntry };

/** Give it to a TarReader, then call finish(). All methods may throw. */
export class LayerApplier implements TarHandler {
  readonly #unpacker: Unpacker;
  readonly #directories = new Map<string, EntryAttributes>();
  #file: PendingFile | undefined;
  #hasBegun = false;
  /** The last piece is held back until it is known whether it ends the file. */
  #piece: TarData | undefined;

  constructor(unpacker: Unpacker) {
    this.#unpacker = unpacker;
  }

  /** Starts a chunk, to which the data that the reader reports belongs. */
  startChunk(chunk: Buffer): void {
    this.#run(() => this.#unpacker.setData(chunk));
  }

  /** Submits what is pending of the chunk, which may be reused afterwards. */
  endChunk(): void {
    this.#emitPiece(false);
    this.#run(() => this.#unpacker.submit());
  }

  entry(entry: TarEntry): void {
    this.#file = undefined;
    const path = cleanName(entry.name, entry);
    const slash = path.lastIndexOf('/');
    const directory = path.slice(0, Math.max(0, slash));
    const base = path.slice(slash + 1);
    // The root directory belongs to the snapshotter.
    if (path === '' || isBelowMeta(directory)) return;
    if (base.startsWith(WHITEOUT)) this.#whiteout(directory, base, entry);
    else this.#create(path, entry);
  }

  data(data: TarData): void {
    if (this.#file === undefined) return;
    this.#emitPiece(false);
    this.#piece = data;
  }

  entryEnd(): void {
    if (this.#file === undefined) return;
    this.#emitPiece(true);
    this.#file = undefined;
  }

  /** Sets what can only be set when all entries are there. */
  finish(): void {
    this.#run(() => {
      this.#unpacker.flush();
      for (const [path, attributes] of this.#directories) this.#unpacker.directoryTimes(path, attributes);
      this.#unpacker.flush();
    });
  }

  #create(path: string, entry: TarEntry): void {
    const attributes = attributesOf(entry);
    const unpacker = this.#unpacker;
    if (entry.type !== 'directory') this.#directories.delete(path);
    this.#run(() => {
      switch (entry.type) {
        case 'file':
          this.#file = { path, attributes, entry };
          this.#hasBegun = false;
          return;
        case 'directory':
          unpacker.directory(path, attributes);
          this.#rememberDirectory(path, attributes);
          return;
        case 'symlink':
          if (entry.linkName === '' || entry.linkName.includes('\0')) {
            throw invalidArgument(`entry ${quote(entry.name)}: symlink without a target`);
          }
          unpacker.symlink(path, entry.linkName, attributes);
          return;
        case 'hardlink':
          unpacker.hardlink(path, linkTarget(entry));
          return;
        default:
          unpacker.node(path, { type: entry.type, major: entry.major, minor: entry.minor }, attributes);
      }
    });
  }

  #whiteout(directory: string, base: string, entry: TarEntry): void {
    if (base === OPAQUE) {
      this.#run(() => this.#unpacker.opaque(directory));
      return;
    }
    // Files of aufs' own, such as .wh..wh.plnk.
    if (base.startsWith(WHITEOUT_META)) return;
    const name = base.slice(WHITEOUT.length);
    if (name === '' || name === '.' || name === '..') {
      throw invalidArgument(`entry ${quote(entry.name)}: invalid whiteout name`);
    }
    const target = directory === '' ? name : `${directory}/${name}`;
    this.#run(() => this.#unpacker.whiteout(target, attributesOf(entry)));
  }

  #emitPiece(isLast: boolean): void {
    const file = this.#file;
    if (file === undefined || (this.#piece === undefined && !isLast)) return;
    const { offset = 0, bytes = 0, position = 0 } = this.#piece ?? {};
    const isFirst = !this.#hasBegun;
    this.#hasBegun = true;
    this.#piece = undefined;
    const size = file.entry.isSparse ? file.entry.size : undefined;
    const { path, attributes } = file;
    this.#run(() =>
      this.#unpacker.regular({
        path,
        attributes,
        isFirst,
        isLast,
        position,
        size,
        dataOffset: offset,
        dataBytes: bytes,
      }),
    );
  }

  #rememberDirectory(path: string, attributes: EntryAttributes): void {
    this.#directories.set(path, { ...attributes, xattrs: [] });
    if (this.#directories.size > DIRECTORIES_MAX) {
      throw resourceExhausted(`layer has more than ${DIRECTORIES_MAX} directories`);
    }
  }

  #run(body: () => void): void {
    try {
      body();
    } catch (error) {
      throw explain(error);
    }
  }
}

/**
 * The name of an entry below the root: no leading or trailing slash, no empty or dot components.
 * @throws INVALID_ARGUMENT when it leads out of the root
 */
function cleanName(name: string, entry: { readonly name: string }): string {
  const trimmed = name.replace(/^\/+|\/+$/g, '');
  if (!/(^|\/)(\.{0,2})(\/|$)/.test(trimmed)) return trimmed;
  const parts: string[] = [];
  for (const part of trimmed.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) {
      throw invalidArgument(`entry ${quote(entry.name)}: path leads out of the root file system`);
    }
  }
  return parts.join('/');
}

function linkTarget(entry: TarEntry): string {
  try {
    const target = cleanName(entry.linkName, { name: entry.linkName });
    if (target !== '') return target;
  } catch (error) {
    throw invalidArgument(`entry ${quote(entry.name)}: hard link to ${messageOf(error).replace(/^entry /, '')}`, {
      cause: error,
    });
  }
  throw invalidArgument(`entry ${quote(entry.name)}: hard link to the root directory`);
}

/** In a directory of aufs' own. */
function isBelowMeta(directory: string): boolean {
  return directory.startsWith(WHITEOUT_META) || directory.includes(`/${WHITEOUT_META}`);
}

function attributesOf(entry: TarEntry): EntryAttributes {
  const mtime = bound(entry.mtime);
  const atime = entry.atime === undefined ? mtime : bound(entry.atime);
  const xattrs = entry.xattrs.length === 0 ? entry.xattrs : entry.xattrs.filter(([name]) => !OVERLAY_XATTRS.test(name));
  return {
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtime,
    // As containerd: never read before it was written.
    atime: isBefore(atime, mtime) ? mtime : atime,
    xattrs,
  };
}

function bound(time: EntryAttributes['mtime']): EntryAttributes['mtime'] {
  return time.seconds < 0 || time.seconds >= SECONDS_MAX ? { seconds: 0, nanoseconds: 0 } : time;
}

function isBefore(left: EntryAttributes['mtime'], right: EntryAttributes['mtime']): boolean {
  return left.seconds < right.seconds || (left.seconds === right.seconds && left.nanoseconds < right.nanoseconds);
}

/** Errors of the file system, as what they say about the layer. */
function explain(error: unknown): unknown {
  const { code, path } = error as { code?: string; path?: string };
  if (code === undefined || path === undefined) return error;
  const entry = `entry ${JSON.stringify(path)}`;
  if (isErrno(error, 'ENOSPC', 'EDQUOT'))
    return resourceExhausted(`${entry}: no space left on device`, { cause: error });
  if (isErrno(error, 'EROFS')) return failedPrecondition(`${entry}: read-only file system`, { cause: error });
  const words = WORDS[code];
  return words === undefined ? error : invalidArgument(`${entry}: ${words}`, { cause: error });
}

const WORDS: Readonly<Record<string, string>> = {
  EEXIST: 'a directory is in the way',
  EFBIG: 'file is too large',
  EINVAL: 'invalid name or attribute',
  ELOOP: 'too many symlinks or directories',
  ENAMETOOLONG: 'name is too long',
  ENOENT: 'link target or directory does not exist',
  ENOTDIR: 'a part of the path is not a directory',
  ERANGE: 'extended attribute is too large',
  E2BIG: 'extended attribute is too large',
  EPERM: 'operation not permitted',
};
