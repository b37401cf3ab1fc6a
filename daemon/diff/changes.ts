// What a snapshot changed: from the upper directory of overlayfs, which is exactly that, or by comparing two trees.
// A generator, so that an entry is written while its directory is open.

import { closeSync, readSync } from 'node:fs';
import { notImplemented } from '../../proto/errors';
import { Directory, type Node } from './tree-walk';

export type Change =
  /** Added or changed. A directory comes before what is in it. */
  | { readonly kind: 'entry'; readonly node: Node }
  /** Gone. */
  | { readonly kind: 'whiteout'; readonly path: string }
  /** A directory of which nothing of the layers below is left. */
  | { readonly kind: 'opaque'; readonly path: string };

const OPAQUE = ['trusted.overlay.opaque', 'user.overlay.opaque'];
/** Set by overlayfs when a directory was renamed, or when only the attributes of a file were copied up. */
const REFERENCES = ['redirect', 'metacopy'].flatMap((name) => [`trusted.overlay.${name}`, `user.overlay.${name}`]);
const COMPARE_BYTES = 64 * 1024;
const COMPARED_XATTRS = /^(security\.capability|user\.(?!overlay\.))/;

/** Changes that an upper directory of overlayfs holds. @throws UNIMPLEMENTED when it refers to lower layers by name */
export function* upperChanges(root: string): Generator<Change> {
  const top = Directory.openRoot(root);
  try {
    yield* upperOf(top);
  } finally {
    top.close();
  }
}

/** Changes that lead from one tree to the other. */
export function* treeChanges(left: string, right: string): Generator<Change> {
  const leftTop = Directory.openRoot(left);
  const rightTop = Directory.openRoot(right);
  try {
    yield* changesBetween(leftTop, rightTop);
  } finally {
    leftTop.close();
    rightTop.close();
  }
}

function* upperOf(directory: Directory): Generator<Change> {
  for (const node of directory.entries()) {
    if (node.stat.isCharacterDevice() && node.stat.rdev === 0n) {
      yield { kind: 'whiteout', path: node.path };
      continue;
    }
    const xattrs = directory.xattrs(node);
    if (REFERENCES.some((name) => xattrs.has(name))) {
      throw notImplemented(`"${node.path}": creating a layer from renamed directories of overlayfs`);
    }
    yield { kind: 'entry', node };
    if (!node.stat.isDirectory()) continue;
    if (OPAQUE.some((name) => xattrs.get(name) === 'y')) yield { kind: 'opaque', path: node.path };
    yield* below(directory, node, upperOf);
  }
}

function* changesBetween(left: Directory, right: Directory): Generator<Change> {
  const before = new Map(left.entries().map((node) => [node.name, node]));
  const after = right.entries();
  const present = new Set(after.map(({ name }) => name));
  for (const node of before.values()) if (!present.has(node.name)) yield { kind: 'whiteout', path: node.path };
  for (const node of after) {
    const old = before.get(node.name);
    if (old?.stat.isDirectory() && node.stat.isDirectory()) yield* changesInDirectory(old, node);
    else if (old === undefined || !isSame(old, node)) {
      yield { kind: 'entry', node };
      if (node.stat.isDirectory()) yield* below(right, node, everything);
    }
  }
}

/** The directory itself is written when it or anything in it changed. */
function* changesInDirectory(old: Node, node: Node): Generator<Change> {
  const [left, right] = [old.directory.openChild(old), node.directory.openChild(node)];
  try {
    let isWritten = !hasSameAttributes(old, node);
    if (isWritten) yield { kind: 'entry', node };
    if (left === undefined || right === undefined) return;
    for (const change of changesBetween(left, right)) {
      if (!isWritten) yield { kind: 'entry', node };
      isWritten = true;
      yield change;
    }
  } finally {
    left?.close();
    right?.close();
  }
}

function* everything(directory: Directory): Generator<Change> {
  for (const node of directory.entries()) {
    yield { kind: 'entry', node };
    if (node.stat.isDirectory()) yield* below(directory, node, everything);
  }
}

function* below(directory: Directory, node: Node, walk: (child: Directory) => Generator<Change>): Generator<Change> {
  const child = directory.openChild(node);
  if (child === undefined) return;
  try {
    yield* walk(child);
  } finally {
    child.close();
  }
}

function isSame(left: Node, right: Node): boolean {
  if (left.stat.ino === right.stat.ino && left.stat.dev === right.stat.dev) return true;
  if (!hasSameAttributes(left, right)) return false;
  if (left.stat.isSymbolicLink()) return left.directory.readLink(left) === right.directory.readLink(right);
  if (!left.stat.isFile()) return true;
  if (left.stat.size !== right.stat.size) return false;
  // Unpacked layers often have whole seconds, which two versions of a file can share.
  if (left.stat.mtimeNs !== right.stat.mtimeNs) return false;
  return left.stat.mtimeNs % 1_000_000_000n !== 0n || hasSameContent(left, right);
}

function hasSameAttributes({ stat: left, ...old }: Node, { stat: right, ...current }: Node): boolean {
  return (
    left.mode === right.mode &&
    left.uid === right.uid &&
    left.gid === right.gid &&
    left.rdev === right.rdev &&
    xattrsOf({ stat: left, ...old }) === xattrsOf({ stat: right, ...current })
  );
}

function xattrsOf(node: Node): string {
  const xattrs = [...node.directory.xattrs(node)].filter(([name]) => COMPARED_XATTRS.test(name));
  return JSON.stringify(xattrs.sort());
}

function hasSameContent(left: Node, right: Node): boolean {
  const fds = [left.directory.openFile(left), right.directory.openFile(right)];
  try {
    const [first, second] = fds;
    if (first === undefined || second === undefined) return false;
    const buffers = [Buffer.allocUnsafe(COMPARE_BYTES), Buffer.allocUnsafe(COMPARE_BYTES)] as const;
    for (let position = 0; ; position += COMPARE_BYTES) {
      const count = readFull(first, buffers[0], position);
      if (count !== readFull(second, buffers[1], position)) return false;
      if (buffers[0].compare(buffers[1], 0, count, 0, count) !== 0) return false;
      if (count < COMPARE_BYTES) return true;
    }
  } finally {
    for (const fd of fds) if (fd !== undefined) closeSync(fd);
  }
}

function readFull(fd: number, buffer: Buffer, position: number): number {
  let count = 0;
  while (count < buffer.length) {
    const read = readSync(fd, buffer, count, buffer.length - count, position + count);
    if (read === 0) break;
    count += read;
  }
  return count;
}
