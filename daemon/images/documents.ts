// The documents of an image: indexes, manifests and configurations, read from the content store. They come from anywhere:
// their size and shape is checked once, here.

import { buffer } from 'node:stream/consumers';
import { invalidArgument } from '../../proto/errors';
import { checkDigest } from '../../proto/ids';
import { parseObject } from '../../proto/json';
import type { ContentStore } from '../content/store';
import { type BlobRole, roleOf } from './media-types';
import type { ImagePlatform } from './platform';

/** Larger manifests and indexes are refused, as registries do. */
export const DOCUMENT_BYTES_MAX = 8 << 20;
/** Indexes within indexes. */
export const INDEX_DEPTH_MAX = 8;
const CHILDREN_MAX = 10_000;

/** A descriptor as OCI and Docker documents hold it (image-spec, descriptor.md). */
export interface ImageDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly urls?: readonly string[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: ImagePlatform;
}

export interface ImageManifest {
  readonly config: ImageDescriptor;
  readonly layers: readonly ImageDescriptor[];
}

export interface ImageConfiguration extends Partial<ImagePlatform> {
  readonly rootfs?: { readonly diff_ids?: readonly string[] };
}

/** What a descriptor's blob is, by its media type. */
export function roleOfBlob({ mediaType }: ImageDescriptor): BlobRole {
  return roleOf(mediaType);
}

/** Those that an index names. @throws NOT_FOUND, INVALID_ARGUMENT */
export async function readIndex(content: ContentStore, namespace: string, digest: string): Promise<ImageDescriptor[]> {
  return parseIndex(await readSmallBlob(content, namespace, digest), digest);
}

/** @throws NOT_FOUND, INVALID_ARGUMENT */
export async function readManifest(content: ContentStore, namespace: string, digest: string): Promise<ImageManifest> {
  return parseManifest(await readSmallBlob(content, namespace, digest), digest);
}

/** Those that the index of these bytes names. @throws INVALID_ARGUMENT */
export function parseIndex(bytes: Buffer, digest: string): ImageDescriptor[] {
  const document = parseObject(bytes, digest);
  // A document that is both would be taken for one here and for the other there (GHSA-5j5w-g665-5m35).
  if (document['config'] !== undefined || document['layers'] !== undefined) {
    throw invalidArgument(`${digest} is an index and a manifest at once`);
  }
  return descriptorsOf(document['manifests'] ?? [], digest);
}

/** @throws INVALID_ARGUMENT */
export function parseManifest(bytes: Buffer, digest: string): ImageManifest {
  const document = parseObject(bytes, digest);
  if (document['manifests'] !== undefined) throw invalidArgument(`${digest} is an index and a manifest at once`);
  if (document['config'] === undefined) throw invalidArgument(`${digest}: manifest has no config`);
  return {
    config: descriptorOf(document['config'], digest),
    layers: descriptorsOf(document['layers'] ?? [], digest),
  };
}

/** @throws NOT_FOUND, INVALID_ARGUMENT */
export async function readConfiguration(
  content: ContentStore,
  namespace: string,
  digest: string,
): Promise<ImageConfiguration> {
  return parseObject(await readSmallBlob(content, namespace, digest), digest) as ImageConfiguration;
}

/** @throws INVALID_ARGUMENT unless it is a list of descriptors with digest, size and media type */
export function descriptorsOf(list: unknown, what: string): ImageDescriptor[] {
  if (!Array.isArray(list)) throw invalidArgument(`${what} holds no list of descriptors`);
  if (list.length > CHILDREN_MAX) throw invalidArgument(`${what} names more than ${CHILDREN_MAX} others`);
  return list.map((item) => descriptorOf(item, what));
}

/** All bytes of a blob. @throws NOT_FOUND, INVALID_ARGUMENT when it is larger than a document may be */
export async function readSmallBlob(content: ContentStore, namespace: string, digest: string): Promise<Buffer> {
  const { sizeBytes } = content.blobs.get(namespace, checkDigest(digest));
  if (sizeBytes > DOCUMENT_BYTES_MAX) throw invalidArgument(`${digest} is larger than ${DOCUMENT_BYTES_MAX} bytes`);
  const read = content.readBlob(digest, (file) => file.createReadStream({ start: 0, autoClose: false }));
  return buffer(read as AsyncIterable<Buffer>);
}

function descriptorOf(value: unknown, what: string): ImageDescriptor {
  const item = value as Partial<ImageDescriptor> | null;
  const { digest, mediaType, size } = item ?? {};
  const isSized = typeof size === 'number' && Number.isSafeInteger(size) && size >= 0;
  if (typeof digest !== 'string' || typeof mediaType !== 'string' || !isSized) {
    throw invalidArgument(`${what} holds a descriptor without digest, size or media type`);
  }
  checkDigest(digest);
  const { platform, annotations, urls } = item as ImageDescriptor;
  if (platform !== undefined && (typeof platform?.os !== 'string' || typeof platform.architecture !== 'string')) {
    throw invalidArgument(`${what}: descriptor of ${digest} has a platform without os or architecture`);
  }
  if (urls !== undefined && !(Array.isArray(urls) && urls.every((url) => typeof url === 'string'))) {
    throw invalidArgument(`${what}: descriptor of ${digest} has URLs that are no list of texts`);
  }
  if (annotations !== undefined && (typeof annotations !== 'object' || annotations === null)) {
    throw invalidArgument(`${what}: descriptor of ${digest} has annotations that are no object`);
  }
  return item as ImageDescriptor;
}
