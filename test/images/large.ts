// An image of many large layers whose bytes do not compress, some with many small files besides: for limits of memory.

import { createCipheriv } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { type LayerCompression, type LayerEntry, writeImage, writeLayerTar } from './oci-image';

export const LARGE_IMAGE = 'test/large:v1';

const LAYERS = 12;
const FILES_EACH = 24;
const FILE_BYTES = (3 << 20) / 2;
const SMALL_FILES_EACH = 500;
const COMPRESSIONS: readonly LayerCompression[] = ['gzip', 'zstd', 'none', 'zstd'];

/** Writes the image file `target`, about 450 MB; as much is needed beside it meanwhile. */
export async function writeLargeImage(target: string): Promise<void> {
  const directory = `${target}.layers`;
  fs.mkdirSync(directory);
  try {
    const layers = Array.from({ length: LAYERS }, (_, index) => index);
    const layerTars: string[] = [];
    for (const layer of layers) {
      const tar = path.join(directory, `${layer}.tar`);
      await writeLayerTar(tar, entriesOf(layer));
      layerTars.push(tar);
    }
    const compressions = layers.map((layer) => COMPRESSIONS[layer % COMPRESSIONS.length] ?? 'none');
    await writeImage(target, {
      name: LARGE_IMAGE,
      layerTars,
      compressions,
      defaults: { Cmd: ['/none'], Env: [], WorkingDir: '/' },
    });
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

function entriesOf(layer: number): LayerEntry[] {
  const directory = `layer-${layer}/`;
  const large = Array.from({ length: FILES_EACH }, (_, file) => ({
    name: `${directory}large-${file}`,
    content: noise(layer * FILES_EACH + file),
  }));
  const small = Array.from({ length: SMALL_FILES_EACH }, (_, file) => ({
    name: `${directory}small-${file}`,
    content: `${layer} ${file}\n`.repeat(100),
    uid: file,
  }));
  return [{ name: directory, type: 'directory', mode: 0o755 }, ...large, ...small];
}

/** The same bytes for the same number. */
function noise(seed: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(FILE_BYTES));
}
