// Space kept back for exits and deletions on a full disk; test/integration/full-disk.test.ts proves its use.

import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Reserve } from '../../../../daemon/metadata/reserve';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-reserve-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

test('restore() writes real blocks, release() gives them up once', () => {
  const path = join(directory, 'reserve');
  const reserve = new Reserve(path);

  reserve.restore();
  const { blocks } = statSync(path);

  expect(blocks * 512).toBeGreaterThanOrEqual(4 * 1024 * 1024);
  expect([reserve.release(), reserve.release()]).toEqual([true, false]);
  expect(existsSync(path)).toBe(false);
});

test('a reserve of the last run is held by the next', () => {
  const path = join(directory, 'reserve');
  new Reserve(path).restore();

  expect(new Reserve(path).release()).toBe(true);
});
