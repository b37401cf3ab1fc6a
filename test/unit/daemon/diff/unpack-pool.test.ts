// The threads that unpack layers, when they end.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { UnpackPool } from '../../../../daemon/diff/unpack-pool';
import { tar } from '../../../suites/tar-builder';

test('UnpackPool.unpack() does not rely on a thread that ends because nothing came for a while', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'unpack-pool-'));
  const pool = new UnpackPool();
  const blob = join(directory, 'blob');
  writeFileSync(blob, tar([{ name: 'file', content: 'x' }]));
  let count = 0;
  const unpack = () => {
    const root = join(directory, `root${count++}`);
    mkdirSync(root);
    const request = { blob, mayBeCompressed: false, target: { root, whiteouts: 'delete', lowers: [] } } as const;
    return pool.unpack(request, new AbortController().signal);
  };
  const ending = Promise.withResolvers<void>();
  const terminate = jest.spyOn(Worker.prototype, 'terminate').mockImplementationOnce(function (this: Worker) {
    terminate.mockRestore();
    ending.resolve();
    return this.terminate();
  });
  try {
    const first = await unpack();
    await ending.promise;

    expect(await unpack()).toEqual(first);
  } finally {
    jest.restoreAllMocks();
    await pool.close();
    rmSync(directory, { recursive: true });
  }
});
