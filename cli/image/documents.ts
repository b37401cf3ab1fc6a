// OCI and Docker image documents: media types, and reading them from the content store with their shape checked
// (image-spec; Docker's image manifest version 2, schema 2).

import { invalidArgument } from '../../proto/errors';
import { checkDigest } from '../../proto/ids';
import { parseObject } from '../../proto/json';
import type { CallOptions } from '../client';
import type { Session } from '../session';
import type { ImageConfig } from '../spec/types';
import { readBlob } from './content';

const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';

/** Manifests and indexes are small; an archive that says otherwise is refused. */
export const DOCUMENT_BYTES_MAX = 8 * 1024 * 1024;

export interface OciPlatform {
  readonly os?: string;
  readonly architecture?: string;
  readonly variant?: string;
}

export interface OciDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Record<string, string>;
  readonly platform?: OciPlatform;
}

export interface Index {
  readonly manifests: readonly OciDescriptor[];
}

export interface Manifest {
  readonly config: OciDescriptor;
  readonly layers: readonly OciDescriptor[];
}

export interface Configuration extends OciPlatform {
  readonly created?: string;
  readonly config?: ImageConfig;
  readonly rootfs?: { readonly diff_ids?: readonly string[] };
}

export const isIndexType = (mediaType: string): boolean => mediaType === OCI_INDEX || mediaType === DOCKER_LIST;

/** Reads and checks an index or a manifest. @throws INVALID_ARGUMENT when it is neither, or both (GHSA-5j5w-g665-5m35). */
export async function readDocument(
  session: Session,
  descriptor: Pick<OciDescriptor, 'digest' | 'mediaType'>,
  options?: CallOptions,
): Promise<Index | Manifest> {
  const text = await readBlob(session, descriptor.digest, DOCUMENT_BYTES_MAX, options);
  return parseDocument(text, descriptor.digest);
}

export function parseDocument(text: Uint8Array, what: string): Index | Manifest {
  const document = parseObject(text, what);
  const { manifests, config, layers } = document;
  const isManifest = config !== undefined || layers !== undefined;
  if (Array.isArray(manifests) && isManifest) throw invalidArgument(`${what} is an index and a manifest at once`);
  if (Array.isArray(manifests)) return { manifests: manifests.map((item) => descriptorOf(item, what)) };
  if (Array.isArray(layers) && config !== undefined) {
    return { config: descriptorOf(config, what), layers: layers.map((item) => descriptorOf(item, what)) };
  }
  throw invalidArgument(`${what} is neither an image index nor an image manifest`);
}

export function isIndex(document: Index | Manifest): document is Index {
  return 'manifests' in document;
}

export async function readConfiguration(
  session: Session,
  digest: string,
  options?: CallOptions,
): Promise<Configuration> {
  return parseObject(await readBlob(session, digest, DOCUMENT_BYTES_MAX, options), digest) as Configuration;
}

/** @throws INVALID_ARGUMENT unless digest, size and media type are there and well-formed. */
function descriptorOf(value: unknown, what: string): OciDescriptor {
  const item = value as Partial<OciDescriptor> | null;
  if (typeof item?.digest !== 'string' || typeof item.mediaType !== 'string' || !isSize(item.size)) {
    throw invalidArgument(`${what} holds a descriptor without digest, size or media type`);
  }
  checkDigest(item.digest);
  return item as OciDescriptor;
}

function isSize(size: unknown): boolean {
  return typeof size === 'number' && Number.isSafeInteger(size) && size >= 0;
}
