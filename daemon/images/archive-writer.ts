// Writes images as an archive: a tar of an OCI image layout (image-spec, image-layout.md) that docker load reads too.
// Equal images give equal archives: entries are sorted by name and carry no times.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type Pack, pack } from 'tar-stream';
import { dataLoss, invalidArgument, notFound } from '../../proto/errors';
import type { ContentStore } from '../content/store';
import { NAME_ANNOTATION, REF_ANNOTATION } from './archive-index';
import { type ImageDescriptor, readIndex, readManifest, roleOfBlob } from './documents';
import { byRank, childrenOf, walkGraph } from './graph';
import { isNonDistributable, OCI_INDEX } from './media-types';
import type { PlatformChoice } from './platform';
import { familiarName, objectOf } from './reference';

export interface NamedImage {
  readonly name: string;
  readonly target: ImageDescriptor;
}

export interface WriteArchiveOptions {
  readonly namespace: string;
  readonly platforms: PlatformChoice;
  /** All manifests of an index, which must be there; otherwise those of `platforms`. */
  readonly allPlatforms: boolean;
  /** Leave out manifest.json, by which docker load finds images. */
  readonly skipDockerManifest: boolean;
  readonly skipNonDistributable: boolean;
  readonly signal: AbortSignal;
}

const SOURCE_LABEL = 'containerd.io/distribution.source';
const BLOB_MODE = 0o444;
const FILE_MODE = 0o644;
const DIRECTORY_MODE = 0o755;
const EPOCH = new Date(0);
const READ_BYTES = 128 << 10;

/** A manifest that docker load can use, and its names. */
interface DockerImage {
  readonly manifest: ImageDescriptor;
  readonly names: string[];
}

interface Plan {
  /** By digest. */
  readonly blobs: Map<string, ImageDescriptor>;
  readonly index: ImageDescriptor[];
  readonly dockerImages: Map<string, DockerImage>;
}

/**
 * The archive, piece by piece.
 * @throws NOT_FOUND for content that is missing or a platform that an image does not have, INVALID_ARGUMENT for a target
 *   that is no image
 */
export async function* writeArchive(
  content: ContentStore,
  images: readonly NamedImage[],
  options: WriteArchiveOptions,
): AsyncGenerator<Buffer> {
  const plan: Plan = { blobs: new Map(), index: [], dockerImages: new Map() };
  for (const image of images) await planImage(content, image, options, plan);
  const archive = pack();
  const written = writeEntries(content, archive, await entriesOf(content, plan, options), options.signal);
  written.then(
    () => archive.finalize(),
    (error: Error) => archive.destroy(error),
  );
  try {
    yield* archive as unknown as AsyncIterable<Buffer>;
  } finally {
    archive.destroy();
    await written.catch(() => {});
  }
}

async function planImage(
  content: ContentStore,
  { name, target }: NamedImage,
  options: WriteArchiveOptions,
  plan: Plan,
): Promise<void> {
  const { namespace } = options;
  const role = roleOfBlob(target);
  if (role !== 'index' && role !== 'manifest') {
    throw invalidArgument(`image "${name}": only manifests may be exported, not ${target.mediaType}`);
  }
  const { labels } = content.blobs.get(namespace, target.digest);
  const sources = Object.entries(labels).filter(([key]) => key.startsWith(SOURCE_LABEL));
  const named = { [NAME_ANNOTATION]: name, [REF_ANNOTATION]: objectOf(name) };
  const annotations = sortedByKey({ ...target.annotations, ...named, ...Object.fromEntries(sources) });
  plan.index.push({ mediaType: target.mediaType, digest: target.digest, size: target.size, annotations });
  const manifest = role === 'manifest' ? await planBlobs(content, target, options, plan) : await planIndex();
  if (manifest === undefined) return;
  const dockerImage = plan.dockerImages.get(manifest.digest) ?? { manifest, names: [] };
  dockerImage.names.push(name);
  plan.dockerImages.set(manifest.digest, dockerImage);

  /** Returns the manifest that docker load takes: the best for the platform. */
  async function planIndex(): Promise<ImageDescriptor | undefined> {
    plan.blobs.set(target.digest, target);
    const fits = ({ platform }: ImageDescriptor) => platform === undefined || options.platforms.matches(platform);
    const children = await readIndex(content, namespace, target.digest);
    const chosen = options.allPlatforms ? children : children.filter(fits);
    if (!chosen.some(fits) && !options.allPlatforms) {
      throw notFound(`image "${name}": no manifest found for platform`);
    }
    for (const child of chosen) await planBlobs(content, child, options, plan);
    const fitting = chosen.filter((child) => fits(child) && roleOfBlob(child) === 'manifest');
    return byRank(fitting, options.platforms)[0];
  }
}

/** Everything that a blob leads to, itself included. */
async function planBlobs(
  content: ContentStore,
  root: ImageDescriptor,
  { namespace, skipNonDistributable }: WriteArchiveOptions,
  { blobs }: Plan,
): Promise<ImageDescriptor> {
  await walkGraph(root, async (descriptor) => {
    if (skipNonDistributable && isNonDistributable(descriptor.mediaType)) return [];
    // Missing content is found before the archive begins.
    content.blobs.get(namespace, descriptor.digest);
    blobs.set(descriptor.digest, descriptor);
    return childrenOf(content, namespace, descriptor);
  });
  return root;
}

type Entry =
  | { readonly name: string; readonly data: Buffer; readonly mode: number }
  | { readonly name: string; readonly blob: ImageDescriptor }
  | { readonly name: string; readonly isDirectory: true };

async function entriesOf(content: ContentStore, plan: Plan, options: WriteArchiveOptions): Promise<Entry[]> {
  const json = (name: string, value: unknown, mode: number) => ({
    name,
    data: Buffer.from(JSON.stringify(value)),
    mode,
  });
  const algorithms = new Set([...plan.blobs.values()].map(algorithmOf));
  const entries: Entry[] = [
    json('oci-layout', { imageLayoutVersion: '1.0.0' }, BLOB_MODE),
    json('index.json', { schemaVersion: 2, mediaType: OCI_INDEX, manifests: plan.index }, FILE_MODE),
    { name: 'blobs/', isDirectory: true },
    ...[...algorithms].map((algorithm) => ({ name: `blobs/${algorithm}/`, isDirectory: true as const })),
    ...[...plan.blobs.values()].map((blob) => ({ name: pathOf(blob), blob })),
  ];
  if (!options.skipDockerManifest && plan.dockerImages.size > 0) {
    const images = [];
    for (const image of plan.dockerImages.values()) images.push(await dockerImageOf(content, options.namespace, image));
    entries.push(json('manifest.json', images, FILE_MODE));
  }
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function dockerImageOf(content: ContentStore, namespace: string, { manifest, names }: DockerImage) {
  const { config, layers } = await readManifest(content, namespace, manifest.digest);
  return { Config: pathOf(config), RepoTags: names.map(familiarName), Layers: layers.map(pathOf) };
}

function pathOf({ digest }: { readonly digest: string }): string {
  return `blobs/${digest.replace(':', '/')}`;
}

function algorithmOf({ digest }: { readonly digest: string }): string {
  return digest.slice(0, digest.indexOf(':'));
}

async function writeEntries(
  content: ContentStore,
  archive: Pack,
  entries: readonly Entry[],
  signal: AbortSignal,
): Promise<void> {
  for (const entry of entries) {
    signal.throwIfAborted();
    const { name } = entry;
    if ('data' in entry) {
      const { mode, data } = entry;
      await written((done) => archive.entry({ name, mode, mtime: EPOCH }, data, done));
    } else if ('isDirectory' in entry) {
      const header = { name, type: 'directory', mode: DIRECTORY_MODE, mtime: EPOCH } as const;
      await written((done) => archive.entry(header, done));
    } else await writeBlob(content, archive, entry.blob, signal);
  }
}

function written(write: (done: (error?: Error | null) => void) => unknown): Promise<void> {
  return new Promise((resolve, reject) => {
    write((error) => (error ? reject(error) : resolve()));
  });
}

/** @throws DATA_LOSS when the file is not what its digest says: an archive must not spread it */
async function writeBlob(
  content: ContentStore,
  archive: Pack,
  { digest, size }: ImageDescriptor,
  signal: AbortSignal,
): Promise<void> {
  const algorithm = algorithmOf({ digest });
  const hash = createHash(algorithm);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const header = { name: pathOf({ digest }), size, mode: BLOB_MODE, mtime: EPOCH };
  const entry = archive.entry(header, (error) => (error ? reject(error) : resolve()));
  // An archive that is given up ends its open entry as well, which may be waiting.
  promise.catch(() => {});
  const given = new AbortController();
  entry.on('error', reject).on('close', () => given.abort());
  const chunks = content.readBlob(digest, (file) =>
    file.createReadStream({ start: 0, autoClose: false, highWaterMark: READ_BYTES }),
  );
  for await (const data of chunks as AsyncIterable<Buffer>) {
    signal.throwIfAborted();
    hash.update(data);
    if (!entry.write(data)) await once(entry, 'drain', { signal: given.signal });
  }
  if (digest !== `${algorithm}:${hash.digest('hex')}`) {
    throw dataLoss(`content ${digest}: its file has other bytes`);
  }
  entry.end(undefined);
  await promise;
}

function sortedByKey(object: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));
}
