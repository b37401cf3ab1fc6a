// Unpacks an archive in this thread, as an unpack worker does with a decompressed blob.

import { LayerApplier } from '../../daemon/diff/layer-applier';
import { TarReader } from '../../daemon/diff/tar-reader';
import { Unpacker, type WhiteoutFormat } from '../../runtime-native/layers/unpack';

export interface ApplyArchiveOptions {
  readonly whiteouts?: WhiteoutFormat;
  readonly lowers?: readonly string[];
  readonly chunkBytes?: number;
}

export function applyArchive(root: string, archive: Buffer, options: ApplyArchiveOptions = {}): void {
  const { whiteouts = 'delete', lowers = [], chunkBytes = 100_000 } = options;
  const unpacker = new Unpacker({ root, whiteouts, lowers });
  try {
    const applier = new LayerApplier(unpacker);
    const reader = new TarReader(applier);
    for (let at = 0; at < archive.length; at += chunkBytes) {
      const chunk = archive.subarray(at, at + chunkBytes);
      applier.startChunk(chunk);
      reader.push(chunk);
      applier.endChunk();
    }
    reader.finish();
    applier.finish();
  } finally {
    unpacker.close();
  }
}
