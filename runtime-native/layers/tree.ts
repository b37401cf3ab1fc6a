// Directory trees: remove, measure, copy, sync. All of them read and write much, so they run on libuv's threads; of each
// kind one at a time, which leaves threads to whatever must not wait.

import { libgantry, type NativeFunction } from '../library';
import { checkResult } from '../system-error';

export interface TreeUsage {
  /** Bytes in allocated blocks. */
  readonly sizeBytes: bigint;
  readonly inodes: bigint;
}

interface Functions {
  readonly remove: NativeFunction;
  readonly usage: NativeFunction;
  readonly copy: NativeFunction;
  readonly syncfs: NativeFunction;
}

let functions: Functions | undefined;
interface Sync {
  readonly done: Promise<void>;
  /** One that began before a caller came may have missed what that one wrote. */
  next: Promise<void> | undefined;
}

/** By path. */
const syncs = new Map<string, Sync>();
/** The last call of each kind, which the next one waits for. */
const tails = new Map<string, Promise<unknown>>();

/** Removes a tree, however deep; a missing one is no error. Never follows a symlink. */
export async function removeTree(path: string): Promise<void> {
  await inTurn('remove', native().remove, path);
}

/** Disk usage of a tree with its top; a file with several names counts once. @throws ENOENT */
export async function treeUsage(path: string): Promise<TreeUsage> {
  const result = new BigUint64Array(2);
  await inTurn('usage', native().usage, path, result);
  return { sizeBytes: result[0] ?? 0n, inodes: result[1] ?? 0n };
}

/**
 * Copies a tree into an existing directory with owners, modes, times, extended attributes, hard links, device nodes and
 * holes; the directory takes the attributes of the top. Blocks are shared where the file system can.
 */
export async function copyTree(from: string, to: string): Promise<void> {
  await inTurn('copy', native().copy, from, to);
}

/**
 * syncfs(2): everything of the file system that holds `path` is on disk when this resolves. Callers with the same path
 * who come while one sync runs share the next.
 */
export function syncFileSystem(path: string): Promise<void> {
  const running = syncs.get(path);
  if (running === undefined) return startSync(path);
  running.next ??= running.done.catch(() => {}).then(() => startSync(path));
  return running.next;
}

function startSync(path: string): Promise<void> {
  const done = call(native().syncfs, path).then((result) => {
    if (syncs.get(path) === sync) syncs.delete(path);
    checkResult(result, 'syncfs', path);
  });
  const sync: Sync = { done, next: undefined };
  syncs.set(path, sync);
  return done;
}

function native(): Functions {
  const library = libgantry();
  functions ??= {
    remove: library.func('int gantry_tree_remove(const char *path)'),
    usage: library.func('int gantry_tree_usage(const char *path, void *usage)'),
    copy: library.func('int gantry_tree_copy(const char *from, const char *to)'),
    syncfs: library.func('int gantry_syncfs(const char *path)'),
  };
  return functions;
}

async function inTurn(what: string, fn: NativeFunction, path: string, second?: string | BigUint64Array): Promise<void> {
  const turn = (tails.get(what) ?? Promise.resolve()).then(() => call(fn, path, second));
  tails.set(
    what,
    turn.catch(() => {}),
  );
  checkResult(await turn, what, path);
}

function call(fn: NativeFunction, path: string, second?: string | BigUint64Array): Promise<number> {
  const args = second === undefined ? [path] : [path, second];
  return new Promise((resolve, reject) => {
    fn.async(...args, (error: unknown, result: number) => {
      if (error) reject(error);
      else resolve(result);
    });
  });
}
