// What a client says about images in the store as the source or destination of a transfer
// (containerd.types.transfer.ImageStore): which manifests it wants, and by which names images are kept.

import { notFound, notImplemented } from '../../proto/errors';
import type { ImageReference, ImageStore } from '../../proto/generated/containerd.types.transfer';
import { NAME_ANNOTATION, REF_ANNOTATION } from '../images/archive-index';
import type { NamedImage } from '../images/archive-writer';
import type { Owner } from '../images/blobs';
import type { ImageDescriptor } from '../images/documents';
import type { GraphFilter } from '../images/graph';
import { type ImageRecords, targetOf } from '../images/image-records';
import { anyPlatform, exactly } from '../images/platform';
import { prefixedName } from '../images/reference';

export function filterOf({ platforms, allMetadata, manifestLimit }: ImageStore): GraphFilter {
  return { platforms: platforms.length === 0 ? anyPlatform : exactly(platforms), allMetadata, manifestLimit };
}

/** The images that a source names. @throws NOT_FOUND; UNIMPLEMENTED for a prefix */
export function lookupImages(records: ImageRecords, namespace: string, store: ImageStore): NamedImage[] {
  if (store.extraReferences.some(({ isPrefix }) => isPrefix)) {
    throw notImplemented('prefix lookup on export not implemented');
  }
  const names = [store.name, ...store.extraReferences.map(({ name }) => name)].filter((name) => name !== '');
  if (names.length === 0) throw notFound('no image name given');
  return names.map((name) => ({ name, target: targetOf(records.get(namespace, name)) }));
}

/** Names that a destination gives to a target: its own and further full ones. */
export function givenNames({ name, extraReferences }: ImageStore, { digest }: ImageDescriptor): string[] {
  const full = extraReferences
    .filter(({ isPrefix }) => !isPrefix)
    .map((reference) => (reference.addDigest ? `${reference.name}@${digest}` : reference.name));
  return [name, ...full].filter((given) => given !== '');
}

/** Names for an image of an archive, by its annotations and the prefixes of the destination. */
export function annotatedNames({ extraReferences }: ImageStore, image: ImageDescriptor): string[] {
  return extraReferences.filter(({ isPrefix }) => isPrefix).flatMap((reference) => namesByPrefix(reference, image));
}

function namesByPrefix(reference: ImageReference, { annotations = {}, digest }: ImageDescriptor): string[] {
  const { name: prefix, allowOverwrite, addDigest, skipNamedDigest } = reference;
  const byDigest = `${prefix}@${digest}`;
  const name = annotatedName(annotations, prefix, !allowOverwrite);
  if (name === '') return addDigest ? [byDigest] : [];
  return addDigest && !skipNamedDigest ? [name, byDigest] : [name];
}

/** A full name counts as it is or not at all; a tag is completed. */
function annotatedName(annotations: Readonly<Record<string, string>>, prefix: string, onlyPrefixed: boolean): string {
  const full = annotations[NAME_ANNOTATION] ?? '';
  if (full !== '') return prefixedName(full, prefix, onlyPrefixed) === full ? full : '';
  const ref = annotations[REF_ANNOTATION] ?? '';
  return ref === '' ? '' : prefixedName(ref, prefix, onlyPrefixed);
}

/** Makes or updates the records. */
export function saveImages(
  records: ImageRecords,
  { namespace, lease }: Owner,
  image: { names: readonly string[]; target: ImageDescriptor; labels: Readonly<Record<string, string>> },
): void {
  for (const name of image.names) {
    records.put(namespace, { name, target: image.target, labels: image.labels }, lease);
  }
}
