// From the files of an archive to one index of its images: the layout's own, or one made from docker's manifest.json.

import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGzip } from 'node:zlib';
import { invalidArgument } from '../../proto/errors';
import { sha256 } from '../../proto/ids';
import { parseObject } from '../../proto/json';
import type { ContentStore } from '../content/store';
import { UNCOMPRESSED_LABEL } from '../metadata/blob-store';
import { normalizeReference } from '../registry/reference';
import { type Archive, compressionOf, MAGIC_BYTES, type StoredFile } from './archive-reader';
import { type Owner, writeBlob } from './blobs';
import { descriptorsOf, type ImageDescriptor, readConfiguration } from './documents';
import { DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, OCI_INDEX } from './media-types';
import { objectOf } from './reference';

export const NAME_ANNOTATION = 'io.containerd.image.name';
export const REF_ANNOTATION = 'org.opencontainers.image.ref.name';
const LAYOUT_VERSION = '1.0.0';

export interface ArchiveIndexOptions {
  readonly owner: Owner;
  /** Plain layers of a docker archive become gzip blobs. */
  readonly compressLayers: boolean;
}

interface DockerImage {
  readonly Config?: unknown;
  readonly RepoTags?: unknown;
  readonly Layers?: unknown;
}

/**
 * The index of an archive, which is in the content store afterwards.
 * @throws INVALID_ARGUMENT when the archive is of neither form or contradicts itself
 */
export async function indexOfArchive(
  content: ContentStore,
  archive: Archive,
  options: ArchiveIndexOptions,
): Promise<ImageDescriptor> {
  const layout = archive.documents.get('oci-layout');
  if (layout !== undefined) return indexOfLayout(content, archive, layout, options);
  const text = archive.documents.get('manifest.json');
  if (text === undefined) {
    throw invalidArgument(
      'unrecognized image format: neither an OCI image layout (oci-layout) nor a docker archive (manifest.json)',
    );
  }
  const manifests: ImageDescriptor[] = [];
  for (const image of Object.values(parseObject(text, 'manifest.json')) as DockerImage[]) {
    manifests.push(...(await manifestsOfDocker(content, archive, image, options)));
  }
  return writeJson(content, options, OCI_INDEX, { schemaVersion: 2, manifests });
}

async function indexOfLayout(
  content: ContentStore,
  { documents }: Archive,
  layout: Buffer,
  options: ArchiveIndexOptions,
): Promise<ImageDescriptor> {
  const { imageLayoutVersion } = parseObject(layout, 'oci-layout');
  if (imageLayoutVersion !== LAYOUT_VERSION) {
    throw invalidArgument(`oci-layout: unsupported version ${JSON.stringify(imageLayoutVersion)}`);
  }
  const text = documents.get('index.json');
  if (text === undefined) throw invalidArgument('missing index.json in OCI layout');
  descriptorsOf(parseObject(text, 'index.json')['manifests'], 'index.json');
  return writeDocument(content, options, OCI_INDEX, text);
}

/** A manifest for each tag of an image of docker's form; one without a name when it has no tags. */
async function manifestsOfDocker(
  content: ContentStore,
  archive: Archive,
  { Config, RepoTags, Layers }: DockerImage,
  options: ArchiveIndexOptions,
): Promise<ImageDescriptor[]> {
  if (typeof Config !== 'string' || !Array.isArray(Layers)) {
    throw invalidArgument('manifest.json holds an image without Config or Layers');
  }
  const config = fileOf(archive, Config);
  const layers: ImageDescriptor[] = [];
  for (const name of Layers) layers.push(await layerOf(content, fileOf(archive, String(name)), options));
  const manifest = {
    schemaVersion: 2,
    mediaType: DOCKER_MANIFEST,
    config: { mediaType: DOCKER_CONFIG, digest: config.digest, size: config.sizeBytes },
    layers,
  };
  const written = await writeJson(content, options, DOCKER_MANIFEST, manifest);
  const { os, architecture, variant } = await readConfiguration(content, options.owner.namespace, config.digest);
  const platform =
    os === undefined || architecture === undefined
      ? {}
      : { platform: { architecture, os, ...(variant === undefined || variant === '' ? {} : { variant }) } };
  const tags = Array.isArray(RepoTags) ? RepoTags.map((tag) => normalizeReference(String(tag)).text) : [];
  if (tags.length === 0) return [{ ...written, ...platform }];
  return tags.map((name) => ({
    ...written,
    annotations: { [NAME_ANNOTATION]: name, [REF_ANNOTATION]: objectOf(name) },
    ...platform,
  }));
}

async function layerOf(
  content: ContentStore,
  file: StoredFile,
  options: ArchiveIndexOptions,
): Promise<ImageDescriptor> {
  if (file.compression !== 'none') return describe(file);
  const compressed = await findCompressed(content, file.digest, options);
  if (compressed !== undefined) return describe(compressed);
  return options.compressLayers ? compress(content, file.digest, options) : describe(file);
}

function describe({ digest, sizeBytes, compression }: StoredFile): ImageDescriptor {
  const suffix = compression === 'none' ? '' : `.${compression}`;
  return { mediaType: `${DOCKER_LAYER}${suffix}`, digest, size: sizeBytes };
}

/** The same layer as the namespace has it already, as part of an image that was pulled, say. */
async function findCompressed(
  content: ContentStore,
  plain: string,
  { owner }: ArchiveIndexOptions,
): Promise<StoredFile | undefined> {
  const found = content.blobs.findCompressed(owner.namespace, plain);
  if (found === undefined || !content.hold(owner.namespace, found.digest, owner.lease)) return undefined;
  const file = await open(content.blobPath(found.digest));
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0);
    const compression = compressionOf(buffer.subarray(0, bytesRead));
    return { digest: found.digest, sizeBytes: Number(found.sizeBytes), compression };
  } finally {
    await file.close();
  }
}

/** The same layer as a gzip blob, labelled with the digest of the plain one. */
async function compress(
  content: ContentStore,
  plain: string,
  { owner }: ArchiveIndexOptions,
): Promise<ImageDescriptor> {
  const gzip = createReadStream(content.blobPath(plain), { highWaterMark: 1 << 20 }).pipe(createGzip());
  const ref = `compress-blob-${plain.replace(':', '-')}`;
  const labels = { [UNCOMPRESSED_LABEL]: plain };
  const { digest, sizeBytes } = await writeBlob(content, owner, { ref, digest: '', sizeBytes: 0, labels }, gzip);
  return { mediaType: `${DOCKER_LAYER}.gzip`, digest, size: Number(sizeBytes) };
}

function writeJson(
  content: ContentStore,
  options: ArchiveIndexOptions,
  mediaType: string,
  value: object,
): Promise<ImageDescriptor> {
  return writeDocument(content, options, mediaType, Buffer.from(JSON.stringify(value)));
}

async function writeDocument(
  content: ContentStore,
  { owner }: ArchiveIndexOptions,
  mediaType: string,
  text: Buffer,
): Promise<ImageDescriptor> {
  const digest = sha256(text);
  const source = async function* () {
    yield text;
  };
  await writeBlob(content, owner, { ref: `manifest-${digest}`, digest, sizeBytes: text.length }, source());
  return { mediaType, digest, size: text.length };
}

function fileOf(archive: Archive, name: string): StoredFile {
  const found = archive.files.get(name) ?? archive.files.get(archive.links.get(name) ?? '');
  if (found === undefined) throw invalidArgument(`manifest.json names "${name}", which is not in the archive`);
  return found;
}
