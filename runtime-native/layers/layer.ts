// Typed access to the C unpacker: a blob becomes a directory on threads of its own, without JavaScript for its entries. What
// an entry may do is decided there too (layer.c), because a decision per entry that comes here costs more than the file.

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

export interface LayerRequest {
  /** File of the blob. */
  readonly blob: string;
  /** False: the blob is a plain tar archive. True: its first bytes tell. */
  readonly mayBeCompressed: boolean;
  readonly target: UnpackTarget;
  /** Shared with the threads. Not 0 once the work is to stop. */
  readonly stop: Int32Array<SharedArrayBuffer>;
  /** Bytes of the archive that are handled at a time, at most and by default 256 KiB. */
  readonly chunkBytes?: number | undefined;
}

/** The uncompressed archive. */
export interface UnpackedLayer {
  readonly digest: string;
  readonly sizeBytes: number;
}

const FAILURES = [
  'none',
  'system',
  'blob',
  'compression',
  'format',
  'truncated',
  'entry',
  'hard link',
  'limit',
  'stopped',
] as const;

/** Why a layer was refused. Strings are bytes as latin1, except `text` of the kinds that have no name in them. */
export interface LayerFailure {
  /**
   * system: `error` at the entry; blob: `error` of the blob's file; compression, limit: `text`; format: `text` at `offset` of
   * the archive, at or after the entry; truncated: the archive ends at `offset`, in or after the entry; entry: `text` of it;
   * hard link: `text` of its target `link`; stopped: as was asked for.
   */
  readonly kind: Exclude<(typeof FAILURES)[number], 'none'>;
  /** Number of errno(3). */
  readonly error: number;
  readonly offset: number;
  readonly text: string;
  readonly name: string;
  readonly link: string;
}

const FORMAT: Record<WhiteoutFormat, number> = { delete: 0, overlay: 1, 'overlay-user': 2 };

/** struct layer_result in layer-run.c. */
const RESULT = { kind: 0, error: 4, offset: 8, text: 16, name: 272, link: 4368, size: 8464, digest: 8472, end: 8504 };

interface Functions {
  readonly open: NativeFunction;
  readonly lower: NativeFunction;
  readonly unknownLowers: NativeFunction;
  readonly unpack: NativeFunction;
  readonly close: NativeFunction;
}

let functions: Functions | undefined;

/**
 * Unpacks a layer. Takes a thread of libuv for as long, and two of its own.
 * @returns what the layer was, or what is wrong with it: the target is then incomplete
 * @throws errors of the file system for the target's own directories
 */
export async function unpackLayer(request: LayerRequest): Promise<UnpackedLayer | LayerFailure> {
  const { blob, mayBeCompressed, target, stop, chunkBytes = 0 } = request;
  const { unpack, close } = native();
  const result = Buffer.alloc(RESULT.end);
  const context = openTarget(target);
  try {
    await new Promise<void>((resolve, reject) => {
      const done = (error: unknown) => (error ? reject(error) : resolve());
      unpack.async(context, blob, mayBeCompressed ? 1 : 0, chunkBytes, stop, result, done);
    });
  } finally {
    close(context);
  }
  return readResult(result);
}

function openTarget({ root, whiteouts, lowers }: UnpackTarget): bigint {
  const { open, lower, unknownLowers, close } = native();
  const error = new Int32Array(1);
  const context = open(root, FORMAT[whiteouts], error) as bigint | null;
  if (context === null) throw systemError(error[0] ?? 0, 'open', root);
  if (lowers === 'unknown') {
    unknownLowers(context);
    return context;
  }
  for (const path of lowers) {
    const result = lower(context, path) as number;
    if (result >= 0) continue;
    close(context);
    throw systemError(result, 'open', path);
  }
  return context;
}

function readResult(result: Buffer): UnpackedLayer | LayerFailure {
  const kind = FAILURES[result.readUInt32LE(RESULT.kind)] ?? 'blob';
  if (kind === 'none') {
    const digest = `sha256:${result.toString('hex', RESULT.digest, RESULT.end)}`;
    return { digest, sizeBytes: Number(result.readBigUInt64LE(RESULT.size)) };
  }
  const text = (at: number) => result.toString('latin1', at, result.indexOf(0, at));
  return {
    kind,
    error: result.readInt32LE(RESULT.error),
    offset: Number(result.readBigUInt64LE(RESULT.offset)),
    text: text(RESULT.text),
    name: text(RESULT.name),
    link: text(RESULT.link),
  };
}

function native(): Functions {
  const library = libgantry();
  functions ??= {
    open: library.func('void *gantry_unpack_open(const char *root, uint32_t whiteouts, void *error)'),
    lower: library.func('int gantry_unpack_lower(void *unpack, const char *path)'),
    unknownLowers: library.func('void gantry_unpack_unknown_lowers(void *unpack)'),
    unpack: library.func(
      'void gantry_layer_unpack(void *unpack, const char *blob, uint32_t mayBeCompressed, uint32_t chunkBytes, ' +
        'void *stop, void *result)',
    ),
    close: library.func('void gantry_unpack_close(void *unpack)'),
  };
  return functions;
}
