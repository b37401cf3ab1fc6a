// The folder of things that tests make once and use often (.cache/, ignored by git), and the lock that lets several test
// processes ask for the same thing at once.

import fs from 'node:fs';
import path from 'node:path';
import { isErrno } from '../../proto/errors';

/** Also right when this file runs from dist/test/setup. */
export const PROJECT_ROOT = findProjectRoot(__dirname);
export const CACHE_DIRECTORY = path.join(PROJECT_ROOT, '.cache');

const LOCK_TIMEOUT_MS = 600_000;
const LOCK_POLL_MS = 100;

/**
 * Returns `.cache/<name>`, made by `build` when it is not there. `build` gets a scratch path beside it, which is renamed
 * when it is complete; so an interrupted build is never taken for a result.
 */
export async function cached(name: string, build: (scratch: string) => Promise<void>): Promise<string> {
  const target = path.join(CACHE_DIRECTORY, name);
  if (fs.existsSync(target)) {
    return target;
  }
  fs.mkdirSync(path.dirname(target), { recursive: true });
  await withLock(`${target}.lock`, async () => {
    if (fs.existsSync(target)) {
      return;
    }
    const scratch = `${target}.partial`;
    fs.rmSync(scratch, { recursive: true, force: true });
    await build(scratch);
    fs.renameSync(scratch, target);
  });
  return target;
}

/** Runs `body` while no other process holds the lock file. A lock whose owner is gone is taken over. */
export async function withLock<T>(lockPath: string, body: () => Promise<T>): Promise<T> {
  fs.mkdirSync(path.dirname(lockPath), { recursive: true });
  const deadline = Date.now() + LOCK_TIMEOUT_MS;
  while (!tryLock(lockPath)) {
    if (Date.now() > deadline) {
      throw new Error(`lock ${lockPath} is still held after ${LOCK_TIMEOUT_MS} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  }
  try {
    return await body();
  } finally {
    fs.rmSync(lockPath, { force: true });
  }
}

function tryLock(lockPath: string): boolean {
  try {
    fs.writeFileSync(lockPath, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) {
      throw error;
    }
  }
  const owner = readOwner(lockPath);
  if (owner !== undefined && !fs.existsSync(`/proc/${owner}`)) {
    fs.rmSync(lockPath, { force: true });
  }
  return false;
}

/** Undefined while the owner is still writing its pid, or has just left. */
function readOwner(lockPath: string): number | undefined {
  try {
    return Number.parseInt(fs.readFileSync(lockPath, 'utf8'), 10) || undefined;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) {
      return undefined;
    }
    throw error;
  }
}

function findProjectRoot(start: string): string {
  let directory = start;
  while (!fs.existsSync(path.join(directory, 'Makefile'))) {
    directory = path.dirname(directory);
  }
  return directory;
}
