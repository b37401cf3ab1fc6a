// Turns changes into the tar archive of a layer (OCI image-spec, layer.md), with containerd's conventions: times in whole
// seconds, hard links by inode, sockets left out.

import { closeSync, readSync } from 'node:fs';
import type { Change } from './changes';
import { type HeaderFields, paddingOf, writeHeader } from './tar-header-writer';
import type { Node } from './tree-walk';

export interface LayerWriterOptions {
  /** Latest time of any entry (SOURCE_DATE_EPOCH), and the time of whiteouts. */
  readonly epochSeconds?: number | undefined;
  readonly nowSeconds: number;
}

const READ_BYTES = 512 * 1024;
const END = Buffer.alloc(1024);
const KEPT_XATTRS = /^(security\.capability$|user\.(?!overlay\.))/;

/** The archive, piece by piece. A file that shrinks while it is read is filled up with zeros. */
export function* writeLayer(changes: Iterable<Change>, options: LayerWriterOptions): Generator<Buffer> {
  const links = new Map<string, string>();
  const whiteoutTime = options.epochSeconds ?? options.nowSeconds;
  for (const change of changes) {
    switch (change.kind) {
      case 'whiteout':
        yield whiteout(withPrefix(change.path), whiteoutTime);
        break;
      case 'opaque':
        yield whiteout(`${change.path}/.wh..wh..opq`, whiteoutTime);
        break;
      case 'entry':
        yield* writeEntry(change.node, links, options);
    }
  }
  yield END;
}

function* writeEntry(node: Node, links: Map<string, string>, { epochSeconds }: LayerWriterOptions): Generator<Buffer> {
  const { stat, directory } = node;
  const typeFlag = typeOf(node);
  if (typeFlag === undefined) return;
  const inode = `${stat.dev}:${stat.ino}`;
  const isLinked = stat.nlink > 1n && typeFlag !== '5';
  const first = isLinked ? links.get(inode) : undefined;
  const mtimeSeconds = Number(stat.mtimeNs / 1_000_000_000n);
  const fields: HeaderFields = {
    name: typeFlag === '5' ? `${node.path}/` : node.path,
    typeFlag: first === undefined ? typeFlag : '1',
    mode: Number(stat.mode & 0o7777n),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    size: 0,
    mtimeSeconds: epochSeconds === undefined ? mtimeSeconds : Math.min(mtimeSeconds, epochSeconds),
    xattrs: [...directory.xattrs(node)].filter(([name]) => KEPT_XATTRS.test(name)),
  };
  if (first !== undefined) {
    yield writeHeader({ ...fields, linkName: first });
    return;
  }
  const isWritten = yield* writeFirst(node, fields);
  if (isLinked && isWritten) links.set(inode, node.path);
}

/** The first name of an inode. False when it has vanished meanwhile. */
function* writeFirst(node: Node, fields: HeaderFields): Generator<Buffer, boolean> {
  if (fields.typeFlag === '0') return yield* writeFile(node, fields);
  if (fields.typeFlag !== '2') {
    yield writeHeader({ ...fields, ...deviceOf(node.stat.rdev) });
    return true;
  }
  const linkName = node.directory.readLink(node);
  if (linkName === undefined) return false;
  yield writeHeader({ ...fields, linkName });
  return true;
}

function* writeFile(node: Node, fields: HeaderFields): Generator<Buffer, boolean> {
  const fd = node.directory.openFile(node);
  if (fd === undefined) return false;
  try {
    const size = Number(node.stat.size);
    yield writeHeader({ ...fields, size });
    for (let position = 0; position < size; ) {
      const piece = Buffer.alloc(Math.min(READ_BYTES, size - position));
      const count = readSync(fd, piece, 0, piece.length, position);
      yield count === 0 ? piece : piece.subarray(0, count);
      position += count === 0 ? piece.length : count;
    }
    yield Buffer.alloc(paddingOf(size));
    return true;
  } finally {
    closeSync(fd);
  }
}

function whiteout(name: string, mtimeSeconds: number): Buffer {
  return writeHeader({ name, typeFlag: '0', mode: 0, uid: 0, gid: 0, size: 0, mtimeSeconds });
}

function withPrefix(path: string): string {
  const base = path.lastIndexOf('/') + 1;
  return `${path.slice(0, base)}.wh.${path.slice(base)}`;
}

/** undefined for sockets, which tar does not have. */
function typeOf({ stat }: Node): string | undefined {
  if (stat.isFile()) return '0';
  if (stat.isDirectory()) return '5';
  if (stat.isSymbolicLink()) return '2';
  if (stat.isCharacterDevice()) return '3';
  if (stat.isBlockDevice()) return '4';
  return stat.isFIFO() ? '6' : undefined;
}

/** makedev(3) of glibc, the other way round. */
function deviceOf(rdev: bigint): { major: number; minor: number } {
  return {
    major: Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n)),
    minor: Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n)),
  };
}
