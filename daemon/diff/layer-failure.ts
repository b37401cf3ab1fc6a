// What the C unpacker says about a layer, as an error for people: which entry, and what is wrong with it.

import {
  ApiError,
  canceled,
  failedPrecondition,
  invalidArgument,
  notFound,
  resourceExhausted,
  unknown,
} from '../../proto/errors';
import type { LayerFailure } from '../../runtime-native/layers/layer';
import { systemError } from '../../runtime-native/system-error';

const NAME_SHOWN_MAX = 256;

/**
 * INVALID_ARGUMENT for what is wrong with the layer, RESOURCE_EXHAUSTED for a full disk, ABORTED when the layers below must
 * be known, NOT_FOUND without the blob, CANCELED.
 */
export function layerError(failure: LayerFailure, blob: string): Error {
  const { kind, text, offset, link } = failure;
  const name = quote(failure.name);
  const last = failure.name === '' ? '' : `, at or after entry ${name}`;
  switch (kind) {
    case 'system':
      return entryError(failure);
    case 'blob':
      return blobError(failure, blob);
    case 'compression':
      return invalidArgument(`layer cannot be decompressed: ${text}`);
    case 'format':
      return invalidArgument(`tar archive at byte ${offset}${last}: ${text}`);
    case 'truncated':
      return invalidArgument(`tar archive is truncated after byte ${offset}, in or after ${name}: unexpected EOF`);
    case 'entry':
      return invalidArgument(`entry ${name}: ${text}`);
    case 'hard link':
      return invalidArgument(`entry ${name}: hard link to ${quote(link)}: ${text}`);
    case 'limit':
      return resourceExhausted(text);
    case 'stopped':
      return canceled('context canceled');
  }
}

/** Errors of the file system, as what they say about the layer. */
function entryError({ error, name }: LayerFailure): Error {
  const cause = systemError(-error, 'unpack', textOf(name));
  const entry = `entry ${JSON.stringify(textOf(name))}`;
  const { code = '' } = cause;
  if (code === 'ENOSPC' || code === 'EDQUOT') return resourceExhausted(`${entry}: no space left on device`, { cause });
  if (code === 'EROFS') return failedPrecondition(`${entry}: read-only file system`, { cause });
  if (code === 'ENOTCONN') return new ApiError('aborted', cause.message, { cause });
  const words = WORDS[code];
  return words === undefined ? unknown(cause.message, { cause }) : invalidArgument(`${entry}: ${words}`, { cause });
}

function blobError({ error }: LayerFailure, blob: string): Error {
  const cause = systemError(-error, 'read', blob);
  if (cause.code === 'ENOENT') return notFound(cause.message, { cause });
  return unknown(cause.message, { cause });
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

/** A name for a message: in quotes, not longer than is useful. */
function quote(name: string): string {
  const text = textOf(name);
  return JSON.stringify(text.length > NAME_SHOWN_MAX ? `${text.slice(0, NAME_SHOWN_MAX)}...` : text);
}

function textOf(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
