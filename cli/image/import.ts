// images import: an archive's blobs into the content store, references between them as labels, then the image
// records and, unless told not to, the snapshots. Everything happens under one lease, so an import that fails or is
// interrupted leaves nothing behind once the lease is gone.

import type { Readable } from 'node:stream';
import { invalidArgument, isAlreadyExists, isNotFound } from '../../proto/errors';
import { sha256 } from '../../proto/ids';
import { usageError } from '../failure';
import type { Session } from '../session';
import { type Archive, readArchive, type StoredFile } from './archive';
import { labelBlob, writeBlob } from './content';
import {
  DOCKER_CONFIG,
  DOCKER_LAYER,
  DOCKER_MANIFEST,
  descriptorOf,
  isIndex,
  isIndexType,
  isManifestType,
  OCI_INDEX,
  type OciDescriptor,
  type OciPlatform,
  parseObject,
  readDocument,
} from './documents';
import { withLease } from './lease';
import { resolvePlatform } from './platform';
import { fullName, nameOfRef } from './reference';
import { unpack } from './unpack';

export interface ImportOptions {
  /** The image's name, instead of those in the archive. */
  readonly name?: string | undefined;
  /** Put before tags that are no full names. */
  readonly baseName: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly platform: OciPlatform;
  /** Where to unpack to; undefined leaves the layers packed. */
  readonly snapshotter: string | undefined;
  readonly onProgress?: (text: string, doneBytes: number, sizeBytes: number) => void;
}

export interface ImportedImage {
  readonly name: string;
  readonly target: OciDescriptor;
}

const INDEX_DEPTH_MAX = 4;

/** @throws INVALID_ARGUMENT for a broken archive; CommandError (usage) when it names no image and --name is missing. */
export function importArchive(session: Session, source: Readable, options: ImportOptions): Promise<ImportedImage[]> {
  return withLease(session, async (lease) => {
    const onProgress = options.onProgress;
    const archive = await readArchive(session, source, { lease, onProgress });
    const named = archive.documents.has('oci-layout')
      ? await imagesOfLayout(session, archive, options, lease)
      : await imagesOfDocker(session, archive, lease);
    const images = rename(named, options.name);
    for (const { target } of images) await linkImage(session, target, lease);
    for (const image of images) await putImage(session, image, options.labels, lease);
    if (options.snapshotter !== undefined) {
      for (const image of images) await unpackImage(session, image, options.snapshotter, { options, lease });
    }
    return images;
  });
}

async function unpackImage(
  session: Session,
  image: ImportedImage,
  snapshotter: string,
  { options, lease }: { options: ImportOptions; lease: string },
): Promise<void> {
  const resolved = await resolvePlatform(session, image.target, options.platform);
  const onLayer = (position: number, count: number, sizeBytes: number): void =>
    options.onProgress?.(`unpacking layer ${position} of ${count}`, sizeBytes, sizeBytes);
  await unpack(session, resolved, { snapshotter, lease, onLayer });
}

/** OCI image layout: index.json, its entries named by annotations. Entries of one name become one index. */
async function imagesOfLayout(
  session: Session,
  archive: Archive,
  options: ImportOptions,
  lease: string,
): Promise<ImportedImage[]> {
  const text = archive.documents.get('index.json');
  if (text === undefined) throw invalidArgument('the archive has no index.json');
  const { manifests } = parseObject(text, 'index.json');
  if (!Array.isArray(manifests)) throw invalidArgument('index.json names no manifests');
  const byName = new Map<string, OciDescriptor[]>();
  for (const item of manifests) {
    const descriptor = descriptorOf(item, 'index.json');
    const annotations = descriptor.annotations ?? {};
    if (annotations['io.containerd.manifest.subject'] !== undefined) continue;
    const ref = annotations['org.opencontainers.image.ref.name'];
    const name = annotations['io.containerd.image.name'] ?? (ref === undefined ? '' : nameOfRef(ref, options.baseName));
    byName.set(name, [...(byName.get(name) ?? []), descriptor]);
  }
  const images: ImportedImage[] = [];
  for (const [name, entries] of byName) {
    const [only] = entries;
    const target = entries.length === 1 && only !== undefined ? only : await writeIndex(session, entries, lease);
    images.push({ name, target });
  }
  return images;
}

async function writeIndex(
  session: Session,
  manifests: readonly OciDescriptor[],
  lease: string,
): Promise<OciDescriptor> {
  return writeJson(session, OCI_INDEX, { schemaVersion: 2, mediaType: OCI_INDEX, manifests }, lease);
}

async function writeJson(session: Session, mediaType: string, value: object, lease: string): Promise<OciDescriptor> {
  const text = Buffer.from(JSON.stringify(value));
  const digest = sha256(text);
  const source = async function* (): AsyncGenerator<Uint8Array> {
    yield text;
  };
  await writeBlob(session, { ref: `import-${digest}`, sizeBytes: text.length, digest }, source(), lease);
  return { mediaType, digest, size: text.length };
}

/** docker save's own format: manifest.json names the files, a manifest is made from them. */
async function imagesOfDocker(session: Session, archive: Archive, lease: string): Promise<ImportedImage[]> {
  const text = archive.documents.get('manifest.json');
  if (text === undefined) {
    throw invalidArgument(
      'the archive is neither an OCI image layout (oci-layout) nor a docker archive (manifest.json)',
    );
  }
  const items = Object.values(parseObject(text, 'manifest.json')) as {
    Config?: unknown;
    RepoTags?: unknown;
    Layers?: unknown;
  }[];
  const images: ImportedImage[] = [];
  for (const { Config, RepoTags, Layers } of items) {
    if (typeof Config !== 'string' || !Array.isArray(Layers)) {
      throw invalidArgument('manifest.json holds an entry without Config or Layers');
    }
    const config = fileOf(archive, Config);
    const layers = Layers.map((name: unknown) => fileOf(archive, String(name)));
    const target = await writeJson(
      session,
      DOCKER_MANIFEST,
      {
        schemaVersion: 2,
        mediaType: DOCKER_MANIFEST,
        config: { mediaType: DOCKER_CONFIG, digest: config.digest, size: config.sizeBytes },
        layers: layers.map(layerDescriptor),
      },
      lease,
    );
    const tags = Array.isArray(RepoTags) && RepoTags.length > 0 ? RepoTags.map((tag) => fullName(String(tag))) : [''];
    images.push(...tags.map((name) => ({ name, target })));
  }
  return images;
}

function layerDescriptor(file: StoredFile): OciDescriptor {
  const suffix = file.compression === 'none' ? '' : `.${file.compression}`;
  return { mediaType: `${DOCKER_LAYER}${suffix}`, digest: file.digest, size: file.sizeBytes };
}

function fileOf(archive: Archive, name: string): StoredFile {
  const direct = archive.files.get(name);
  const linked = direct ?? archive.files.get(archive.links.get(name) ?? '');
  if (linked === undefined) throw invalidArgument(`manifest.json names "${name}", which is not in the archive`);
  return linked;
}

/** Applies --name, and makes sure that every image has one. */
function rename(images: readonly ImportedImage[], name: string | undefined): ImportedImage[] {
  const targets = new Set(images.map((image) => image.target.digest));
  const [first] = images;
  if (first === undefined) throw invalidArgument('the archive holds no image');
  if (name !== undefined) {
    if (targets.size > 1) {
      throw usageError(`--name needs an archive with one image, this one has ${targets.size}`);
    }
    return [{ name: fullName(name), target: first.target }];
  }
  if (images.some((image) => image.name === '')) throw usageError('the archive does not name its image; give --name');
  return [...images];
}

async function linkImage(session: Session, target: OciDescriptor, lease: string): Promise<void> {
  try {
    await linkBlobs(session, target, lease, 0);
  } catch (error) {
    if (!isNotFound(error)) throw error;
    throw invalidArgument(`the archive names ${target.digest} but does not hold it`, { cause: error });
  }
}

/** Labels that tell garbage collection what a manifest or an index refers to (the Go client's label names). */
async function linkBlobs(session: Session, target: OciDescriptor, lease: string, depth: number): Promise<void> {
  if (depth > INDEX_DEPTH_MAX) throw invalidArgument(`${target.digest}: indexes are nested too deeply`);
  const document = await readDocument(session, target);
  const labels: Record<string, string> = {};
  if (!isIndex(document)) {
    labels['containerd.io/gc.ref.content.config'] = document.config.digest;
    for (const [index, layer] of document.layers.entries()) {
      labels[`containerd.io/gc.ref.content.l.${index}`] = layer.digest;
    }
  } else {
    for (const [index, child] of document.manifests.entries()) {
      try {
        if (isIndexType(child.mediaType) || isManifestType(child.mediaType)) {
          await linkBlobs(session, child, lease, depth + 1);
        }
        labels[`containerd.io/gc.ref.content.m.${index}`] = child.digest;
      } catch (error) {
        // An archive may leave out the manifests of other platforms.
        if (!isNotFound(error)) throw error;
      }
    }
  }
  await labelBlob(session, target.digest, labels, lease);
}

async function putImage(
  session: Session,
  image: ImportedImage,
  labels: Readonly<Record<string, string>>,
  lease: string,
): Promise<void> {
  const { images } = session.connection;
  const { digest, mediaType, size, annotations } = image.target;
  const record = { name: image.name, labels, target: { digest, mediaType, size: BigInt(size), annotations } };
  try {
    await images.create({ image: record }, { lease });
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    const paths = ['target', ...Object.keys(labels).map((key) => `labels.${key}`)];
    await images.update({ image: record, updateMask: { paths } }, { lease });
  }
}
