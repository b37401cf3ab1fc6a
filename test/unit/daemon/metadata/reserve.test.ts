// Space kept back for exits and deletions on a full disk: alone, and as the database uses it. A full disk is a small
// file system in memory, which needs root.

import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Database } from '../../../../daemon/metadata/database';
import { Reserve } from '../../../../daemon/metadata/reserve';
import { errorKind, isErrno } from '../../../../proto/errors';
import { poll } from '../../../integration/shim/harness';
import { describeUnless, needsRoot } from '../../../setup/needs';

const MIB = 1 << 20;
const RETRY_MS = 10_000;

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-reserve-'));
  path = join(directory, 'reserve');
});

afterEach(() => {
  jest.restoreAllMocks();
  rmSync(directory, { recursive: true });
});

/** Blocks of the reserve that the disk gave, in bytes. */
function heldBytes(file = path): number {
  return (statSync(file, { throwIfNoEntry: false })?.blocks ?? 0) * 512;
}

/** Lets the pause between two tries pass. */
function skipPause(): void {
  const later = Date.now() + RETRY_MS;
  jest.spyOn(Date, 'now').mockReturnValue(later);
}

test('restore() writes real blocks, release() gives them up once', async () => {
  const reserve = new Reserve(path);

  await reserve.restore();
  const bytes = heldBytes();

  expect(bytes).toBeGreaterThanOrEqual(4 * MIB);
  expect([reserve.release(), reserve.release()]).toEqual([true, false]);
  expect(existsSync(path)).toBe(false);
});

test('noteRoom() does not wait for the next try', async () => {
  const reserve = new Reserve(path);
  await reserve.restore();
  reserve.release();

  await reserve.restore();
  const waiting = heldBytes();
  reserve.noteRoom();
  await reserve.restore();

  expect(waiting).toBe(0);
  expect(heldBytes()).toBeGreaterThanOrEqual(4 * MIB);
});

test('restore() writes nothing before it returns', async () => {
  const reserve = new Reserve(path);

  const restored = reserve.restore();
  const bytes = heldBytes();
  await restored;

  expect(bytes).toBe(0);
  expect(heldBytes()).toBeGreaterThanOrEqual(4 * MIB);
});

test('restore() waits between two tries', async () => {
  const reserve = new Reserve(path);
  reserve.release();

  await reserve.restore();
  const early = heldBytes();
  skipPause();
  await reserve.restore();

  expect(early).toBe(0);
  expect(heldBytes()).toBeGreaterThanOrEqual(4 * MIB);
});

test('release() takes back what a restore has written so far', async () => {
  const reserve = new Reserve(path);
  const restored = reserve.restore();
  await poll('the first blocks', () => heldBytes() > 0);

  const hadSpace = reserve.release();
  await restored;

  expect(hadSpace).toBe(true);
  expect(existsSync(path)).toBe(false);
  expect(reserve.release()).toBe(false);
});

test('close() ends a restore that runs and leaves no part of a reserve', async () => {
  const reserve = new Reserve(path);
  const restored = reserve.restore();
  await reserve.close();
  await restored;

  expect(existsSync(path)).toBe(false);
});

test('a reserve of the last run is held by the next, a part of one is made whole', async () => {
  await new Reserve(path).restore();
  const next = new Reserve(path).release();
  writeFileSync(path, Buffer.alloc(MIB));
  const part = new Reserve(path);
  await part.restore();

  expect(next).toBe(true);
  expect(heldBytes()).toBeGreaterThanOrEqual(4 * MIB);
});

describeUnless(needsRoot())('on a full disk', () => {
  let filler: string;
  let db: Database | undefined;

  beforeEach(() => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'gantry-test', directory]);
    filler = join(directory, 'filler');
  });

  afterEach(async () => {
    await db?.close();
    db = undefined;
    execFileSync('umount', [directory]);
  });

  test('restore() leaves no part of a reserve, and takes it when there is room again', async () => {
    const reserve = new Reserve(path);
    await reserve.restore();
    reserve.release();
    fill(filler, 10 * MIB);
    skipPause();

    await reserve.restore();
    const whileFull = existsSync(path);
    rmSync(filler);
    skipPause();
    await reserve.restore();

    expect(whileFull).toBe(false);
    expect(heldBytes()).toBe(4 * MIB);
  });

  test('essential() succeeds by the reserve, which a later sync takes again', async () => {
    const reserve = join(directory, 'db-reserve');
    db = Database.open(join(directory, 'db'));
    const add = (name: string) => db?.prepare('INSERT INTO namespaces (name) VALUES (?)').run(name);
    const big = 'x'.repeat(MIB / 4);
    await poll('the reserve', () => heldBytes(reserve) === 4 * MIB);
    fill(filler, 12 * MIB);

    const refusal = kindOf(() => db?.transaction(() => void add(big)));
    db.essential(() => void add(big));
    await db.durable();
    const whileFull = existsSync(reserve);
    rmSync(filler);
    skipPause();
    let later = 0;
    await poll('the new reserve', () => {
      if (heldBytes(reserve) === 4 * MIB) return true;
      // A sync does nothing while the last restore still cleans up.
      db?.transaction(() => void add(`later${++later}`));
      void db?.durable();
      return false;
    });

    expect(refusal).toBe('resource exhausted');
    expect(whileFull).toBe(false);
  });
});

/** Writes a file of so many bytes, or of all that are left. */
function fill(file: string, bytes: number): void {
  const fd = openSync(file, 'w');
  try {
    for (let size = 0; size < bytes; ) size += writeSync(fd, Buffer.alloc(4096));
  } catch (error) {
    if (!isErrno(error, 'ENOSPC')) throw error;
  } finally {
    closeSync(fd);
  }
}

function kindOf(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return errorKind(error);
  }
}
