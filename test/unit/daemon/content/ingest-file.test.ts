// What the disk refuses behind a write that was answered. The kernel tells an open file of it once, whoever asks first.

import { mkdtempSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { IngestFile } from '../../../../daemon/content/ingest-file';

const MORE_THAN_A_FLUSH = Buffer.alloc(17 << 20);

describe('writing back in the background', () => {
  let directory: string;
  let prototype: FileHandle;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'gantry-ingest-'));
    await using handle = await open(join(directory, 'other'), 'w');
    prototype = Object.getPrototypeOf(handle) as FileHandle;
  });
  afterEach(() => {
    jest.restoreAllMocks();
    rmSync(directory, { recursive: true });
  });

  const failOnce = (code: string) =>
    jest.spyOn(prototype, 'datasync').mockRejectedValueOnce(Object.assign(new Error(`${code}: fdatasync`), { code }));
  const written = async () => {
    const file = await IngestFile.open(join(directory, 'ingest'), 'sha256');
    await file.append(MORE_THAN_A_FLUSH);
    return file;
  };

  test.each([
    ['EIO', /^EIO: fdatasync$/],
    ['ENOSPC', /no space left on device/],
  ])('that fails with %s fails the commit, although its own sync succeeds', async (code, message) => {
    const datasync = failOnce(code);
    const file = await written();

    await expect(file.seal()).rejects.toThrow(message);
    expect(datasync).toHaveBeenCalledTimes(1);
    const again = await IngestFile.open(join(directory, 'ingest'), 'sha256');
    expect(again.sizeBytes).toBe(0);
    await again.close();
  });

  test('that failed is forgotten with the bytes', async () => {
    failOnce('EIO');
    const file = await written();

    await file.reset();
    await file.append(Buffer.from('again'));

    await expect(file.seal()).resolves.toBeUndefined();
  });

  test('that fails does not keep a file from being closed', async () => {
    failOnce('EIO');
    const file = await written();

    await expect(file.close()).resolves.toBeUndefined();
  });
});
