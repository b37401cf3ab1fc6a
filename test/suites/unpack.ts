// Unpacks an archive as the daemon does with a blob.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { layerError } from '../../daemon/diff/layer-failure';
import { type UnpackedLayer, unpackLayer, type WhiteoutFormat } from '../../runtime-native/layers/layer';

export interface ApplyArchiveOptions {
  readonly whiteouts?: WhiteoutFormat;
  readonly lowers?: readonly string[];
  readonly chunkBytes?: number;
  readonly mayBeCompressed?: boolean;
}

/** @throws what is wrong with the archive */
export async function applyArchive(
  root: string,
  archive: Buffer,
  options: ApplyArchiveOptions = {},
): Promise<UnpackedLayer> {
  const { whiteouts = 'delete', lowers = [], chunkBytes = 100_000, mayBeCompressed = false } = options;
  const directory = mkdtempSync(join(tmpdir(), 'archive-'));
  const blob = join(directory, 'blob');
  const stop = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  try {
    writeFileSync(blob, archive);
    const target = { root, whiteouts, lowers };
    const result = await unpackLayer({ blob, mayBeCompressed, target, stop, chunkBytes });
    if ('digest' in result) return result;
    throw layerError(result, blob);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
