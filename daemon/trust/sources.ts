// Where signatures of an image are looked for: beside it in a registry, in the store under the names that they have there,
// in an archive beside the image. A signature manifest is found by cosign's tag, or as a referrer of the image.

import { isNotFound, resourceExhausted } from '../../proto/errors';
import type { ContentStore } from '../content/store';
import { type ImageDescriptor, readIndex, readSmallBlob, roleOfBlob } from '../images/documents';
import { type ImageRecords, targetOf } from '../images/image-records';
import { roleOf } from '../images/media-types';
import type { Registry } from '../registry/registry';
import type { Reference } from '../registry/types';
import { isSignatureType } from './signature-types';

export interface SignatureSource {
  /** As errors name it. */
  readonly title: string;
  /** Manifests that may hold signatures of an image. @throws what keeps it from looking */
  manifests(digest: string, signal: AbortSignal): AsyncIterable<ImageDescriptor>;
  /** A manifest, or a layer of one. @throws when it cannot be had, or is larger than a signature may be */
  read(descriptor: ImageDescriptor, signal: AbortSignal): Promise<Buffer>;
}

/** cosign 2 lists its bundles by the type of their configuration, which is empty. */
const UNKNOWN = 'application/vnd.oci.empty.v1+json';
/** Of a manifest or a signature; real ones have some kilobytes. */
const BYTES_MAX = 1 << 20;

/** The registry of the image, and its mirrors. */
export function registrySource(client: Registry, reference: Reference): SignatureSource {
  const { host, repository } = reference;
  return {
    title: `the registry's ${host}/${repository}`,
    async *manifests(digest, signal) {
      const tag = signatureTag(digest);
      const named = { ...reference, tag, digest: undefined, text: `${host}/${repository}:${tag}` };
      const tagged = await orNone(client.resolve(named, signal));
      if (tagged !== undefined) yield { ...tagged, size: Number(tagged.size) };
      for (const referrer of await client.referrers(reference, digest, { signal })) {
        if (mayBeSignature(referrer)) yield { ...referrer, size: Number(referrer.size) };
      }
    },
    read: (descriptor, signal) =>
      client.fetchDocument(reference, { ...bounded(descriptor), size: BigInt(descriptor.size) }, signal),
  };
}

/** The namespace's images: those that are named as a registry's tags for signatures and referrers are. */
export function storeSource(
  { content, images }: { readonly content: ContentStore; readonly images: ImageRecords },
  namespace: string,
  { host, repository }: Reference,
): SignatureSource {
  const recordOf = (tag: string) => {
    try {
      return targetOf(images.get(namespace, `${host}/${repository}:${tag}`));
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  };
  return {
    title: `namespace "${namespace}"`,
    async *manifests(digest) {
      const tagged = recordOf(signatureTag(digest));
      if (tagged !== undefined) yield tagged;
      const list = recordOf(referrersTag(digest));
      if (list === undefined || roleOfBlob(list) !== 'index') return;
      for (const referrer of await readIndex(content, namespace, list.digest)) {
        if (mayBeSignature(referrer)) yield referrer;
      }
    },
    read: (descriptor) => readSmallBlob(content, namespace, bounded(descriptor).digest),
  };
}

/** The manifests of an archive, whatever they are called there; they are in the store by now. */
export function archiveSource(
  content: ContentStore,
  namespace: string,
  manifests: readonly ImageDescriptor[],
): SignatureSource {
  return {
    title: 'the archive',
    async *manifests(digest) {
      for (const manifest of manifests) if (manifest.digest !== digest && mayBeSignature(manifest)) yield manifest;
    },
    read: (descriptor) => readSmallBlob(content, namespace, bounded(descriptor).digest),
  };
}

/** The tag that cosign puts signatures under. */
export function signatureTag(digest: string): string {
  return `${referrersTag(digest)}.sig`;
}

/** The tag for the list of referrers (distribution-spec, referrers tag schema). */
export function referrersTag(digest: string): string {
  return digest.replace(':', '-').slice(0, 128);
}

/** Not known to be something else, such as a bill of materials. */
function mayBeSignature(manifest: { readonly mediaType: string; readonly artifactType?: string }): boolean {
  if (roleOf(manifest.mediaType) !== 'manifest') return false;
  const { artifactType = UNKNOWN } = manifest;
  return artifactType === UNKNOWN || isSignatureType(artifactType);
}

function bounded(descriptor: ImageDescriptor): ImageDescriptor {
  if (descriptor.size <= BYTES_MAX) return descriptor;
  throw resourceExhausted(`${descriptor.digest} has ${descriptor.size} bytes, more than a signature may`);
}

async function orNone<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}
