// Writes OCI images as image-layout tar files, the form that `ctr images import` takes: layers are compressed and hashed,
// configuration, manifest and index are made from them. It must stay reproducible: equal layers give equal digests.

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { PassThrough, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip, createZstdCompress } from 'node:zlib';
import { type Header, pack } from 'tar-stream';

/** One thing in a layer. `name` has no leading slash; folders end with one. */
export interface LayerEntry extends Partial<Omit<Header, 'mtime'>> {
  readonly name: string;
  readonly content?: string | Buffer;
}

/** What a container of the image runs when nothing else is said. */
export interface ImageDefaults {
  readonly Cmd: string[];
  readonly Env: string[];
  readonly WorkingDir: string;
}

export type LayerCompression = 'gzip' | 'zstd' | 'none';

export interface ImagePlan {
  /** The name that importers give to the image. */
  readonly name: string;
  /** Paths of uncompressed tar files, base first. */
  readonly layerTars: readonly string[];
  /** How each layer is stored; gzip where nothing is said. */
  readonly compressions?: readonly LayerCompression[];
  readonly defaults: ImageDefaults;
}

/** A part of the image file: what the image's documents say about it, and where its bytes are. */
interface Blob {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly source: Buffer | { readonly path: string };
}

interface CompressedLayer extends Blob {
  /** Digest of the uncompressed tar. */
  readonly diffId: string;
}

/** All times in test images: 2023-11-14. */
export const IMAGE_TIME = new Date(1_700_000_000_000);
const ARCHITECTURES: Record<string, string> = { x64: 'amd64', arm64: 'arm64' };

/** Writes the image file `target`; temporary files are put beside it and removed. */
export async function writeImage(target: string, plan: ImagePlan): Promise<void> {
  const layers: CompressedLayer[] = [];
  try {
    for (const [index, tar] of plan.layerTars.entries()) {
      layers.push(await compressLayer(tar, `${target}.layer${index}`, plan.compressions?.[index] ?? 'gzip'));
    }
    const config = configBlob(plan.defaults, layers);
    const manifest = jsonBlob('application/vnd.oci.image.manifest.v1+json', {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: descriptor(config),
      layers: layers.map(descriptor),
    });
    await writeLayout(target, plan.name, manifest, [config, ...layers, manifest]);
  } finally {
    for (const layer of layers) {
      fs.rmSync((layer.source as { path: string }).path, { force: true });
    }
  }
}

/** Writes an uncompressed layer tar in the order given. */
export async function writeLayerTar(target: string, entries: readonly LayerEntry[]): Promise<void> {
  const tar = pack();
  const written = pipeline(tar, fs.createWriteStream(target));
  for (const { content, ...header } of entries) {
    tar.entry({ uid: 0, gid: 0, mtime: IMAGE_TIME, ...header }, content ?? '');
  }
  tar.finalize();
  await written;
}

const LAYER_TAR = 'application/vnd.oci.image.layer.v1.tar';

async function compressLayer(tar: string, target: string, compression: LayerCompression): Promise<CompressedLayer> {
  const plain = createHash('sha256');
  const compressed = createHash('sha256');
  const tee = (hash: ReturnType<typeof createHash>) =>
    new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        done(null, chunk);
      },
    });
  const compress = { gzip: createGzip, zstd: createZstdCompress, none: () => new PassThrough() }[compression]();
  await pipeline(fs.createReadStream(tar), tee(plain), compress, tee(compressed), fs.createWriteStream(target));
  return {
    mediaType: compression === 'none' ? LAYER_TAR : `${LAYER_TAR}+${compression}`,
    digest: `sha256:${compressed.digest('hex')}`,
    size: fs.statSync(target).size,
    source: { path: target },
    diffId: `sha256:${plain.digest('hex')}`,
  };
}

function configBlob(defaults: ImageDefaults, layers: readonly CompressedLayer[]): Blob {
  return jsonBlob('application/vnd.oci.image.config.v1+json', {
    created: IMAGE_TIME.toISOString(),
    architecture: ARCHITECTURES[process.arch] ?? process.arch,
    os: 'linux',
    config: defaults,
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
    history: layers.map((_, index) => ({ created: IMAGE_TIME.toISOString(), created_by: `layer ${index + 1}` })),
  });
}

function jsonBlob(mediaType: string, value: unknown): Blob {
  const source = Buffer.from(JSON.stringify(value));
  return {
    mediaType,
    digest: `sha256:${createHash('sha256').update(source).digest('hex')}`,
    size: source.length,
    source,
  };
}

function descriptor({ mediaType, digest, size }: Blob) {
  return { mediaType, digest, size };
}

async function writeLayout(target: string, name: string, manifest: Blob, blobs: readonly Blob[]): Promise<void> {
  const index = jsonBlob('application/vnd.oci.image.index.v1+json', {
    schemaVersion: 2,
    manifests: [
      {
        ...descriptor(manifest),
        annotations: {
          'io.containerd.image.name': name,
          'org.opencontainers.image.ref.name': name.split(':')[1] ?? 'latest',
        },
      },
    ],
  });
  const tar = pack();
  const written = pipeline(tar, fs.createWriteStream(target));
  const file = { mode: 0o644, mtime: IMAGE_TIME };
  tar.entry({ ...file, name: 'oci-layout' }, '{"imageLayoutVersion":"1.0.0"}');
  tar.entry({ ...file, name: 'index.json' }, index.source as Buffer);
  for (const blob of blobs) {
    const path = `blobs/${blob.digest.replace(':', '/')}`;
    if (Buffer.isBuffer(blob.source)) {
      tar.entry({ ...file, name: path }, blob.source);
    } else {
      await pipeline(fs.createReadStream(blob.source.path), tar.entry({ ...file, name: path, size: blob.size }));
    }
  }
  tar.finalize();
  await written;
}
