// Extended attributes (xattr(7)), which Node's fs does not have.

import { libgantry, type NativeFunction } from '../library';
import { checkResult } from '../system-error';

/** Room for all attributes of one file: names of 255 bytes and values of 64 KiB at most, seldom more than one. */
const ROOM_BYTES = 1024 * 1024;

let read: NativeFunction | undefined;
let buffer: Buffer | undefined;

/**
 * All extended attributes of what `path` names, links not followed. Quick, synchronous. Path, names and values are bytes
 * as latin1 strings.
 * @throws ENOENT, ERANGE when they are larger than 1 MiB together
 */
export function readXattrs(path: string): Map<string, string> {
  read ??= libgantry().func('int gantry_xattrs(void *path, void *out, uint32_t room)');
  buffer ??= Buffer.allocUnsafe(ROOM_BYTES);
  const size = checkResult(read(Buffer.from(`${path}\0`, 'latin1'), buffer, ROOM_BYTES) as number, 'listxattr', path);
  const xattrs = new Map<string, string>();
  for (let at = 0; at < size; ) {
    const nameEnd = buffer.indexOf(0, at);
    const valueAt = nameEnd + 5;
    const valueEnd = valueAt + buffer.readUInt32LE(nameEnd + 1);
    xattrs.set(buffer.toString('latin1', at, nameEnd), buffer.toString('latin1', valueAt, valueEnd));
    at = valueEnd;
  }
  return xattrs;
}
