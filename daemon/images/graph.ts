// The blobs of an image as a graph: an index leads to manifests, a manifest to its configuration and layers. Walking it,
// choosing which branches are wanted, and telling garbage collection of the edges.

import { invalidArgument, notFound } from '../../proto/errors';
import type { ContentStore } from '../content/store';
import { labelBlob } from './blobs';
import {
  type ImageDescriptor,
  INDEX_DEPTH_MAX,
  parseIndex,
  parseManifest,
  readIndex,
  readSmallBlob,
  roleOfBlob,
} from './documents';
import type { PlatformChoice } from './platform';

/** Which manifests of an index are wanted (containerd.types.transfer.ImageStore). */
export interface GraphFilter {
  readonly platforms: PlatformChoice;
  /** Take manifests and configurations of all platforms, but only the layers of those that are wanted. */
  readonly allMetadata: boolean;
  /** At most so many manifests of an index, the best; 0: all. */
  readonly manifestLimit: number;
}

const LABEL = 'containerd.io/gc.ref.content.';

/** The name of a blob in progress and of its ingest, such as layer-sha256:abc. */
export function nameOfBlob(descriptor: ImageDescriptor): string {
  const isAttestation = descriptor.annotations?.['vnd.docker.reference.type'] === 'attestation-manifest';
  return `${isAttestation ? 'attestation' : roleOfBlob(descriptor)}-${descriptor.digest}`;
}

/** What a blob leads to; nothing for what is no index or manifest. @throws NOT_FOUND, INVALID_ARGUMENT */
export async function childrenOf(
  content: ContentStore,
  namespace: string,
  descriptor: ImageDescriptor,
): Promise<readonly ImageDescriptor[]> {
  if (!isDocument(descriptor)) return [];
  return childrenIn(descriptor, await readSmallBlob(content, namespace, descriptor.digest));
}

/** The same of a document's bytes. @throws INVALID_ARGUMENT */
export function childrenIn(descriptor: ImageDescriptor, bytes: Buffer): readonly ImageDescriptor[] {
  if (roleOfBlob(descriptor) === 'index') return parseIndex(bytes, descriptor.digest);
  const { config, layers } = parseManifest(bytes, descriptor.digest);
  return [config, ...layers];
}

/** Whether a blob is an index or a manifest, which lead to others. */
export function isDocument(descriptor: ImageDescriptor): boolean {
  const role = roleOfBlob(descriptor);
  return role === 'index' || role === 'manifest';
}

/** Labels a blob with all that it leads to, by the names that Go clients use. */
export function labelChildren(
  content: ContentStore,
  namespace: string,
  parent: ImageDescriptor,
  children: readonly ImageDescriptor[],
): void {
  const counts = new Map<string, number>();
  const labels: Record<string, string> = {};
  for (const child of children) {
    const prefix = labelPrefix(child);
    const count = counts.get(prefix) ?? 0;
    counts.set(prefix, count + 1);
    labels[prefix.endsWith('.') || count > 0 ? `${prefix}${count}` : prefix] = child.digest;
  }
  if (children.length > 0) labelBlob(content, namespace, parent.digest, labels);
}

/**
 * The children that are wanted.
 * @throws NOT_FOUND when a limited choice finds nothing
 */
export function wantedChildren(
  parent: ImageDescriptor,
  children: readonly ImageDescriptor[],
  { platforms, allMetadata, manifestLimit }: GraphFilter,
): readonly ImageDescriptor[] {
  if (roleOfBlob(parent) === 'manifest') {
    const isWanted = parent.platform === undefined || platforms.matches(parent.platform);
    return isWanted || !allMetadata ? children : children.filter((child) => roleOfBlob(child) === 'config');
  }
  if (roleOfBlob(parent) !== 'index') return children;
  const fits = ({ platform }: ImageDescriptor) => platform === undefined || platforms.matches(platform);
  const wanted = allMetadata ? children : children.filter(fits);
  if (manifestLimit === 0) return wanted;
  if (!wanted.some(fits)) throw notFound(`${parent.digest}: no manifest for the platform`);
  return byRank(wanted, platforms).slice(0, manifestLimit);
}

/** The preferred ones first; those of no platform last. */
export function byRank(descriptors: readonly ImageDescriptor[], platforms: PlatformChoice): ImageDescriptor[] {
  const rank = ({ platform }: ImageDescriptor) =>
    platform === undefined ? Number.MAX_VALUE : platforms.rank(platform);
  return [...descriptors].sort((a, b) => (rank(a) === rank(b) ? 0 : rank(a) < rank(b) ? -1 : 1));
}

/**
 * Visits a blob and all that it leads to, each once, parents before children and siblings at the same time. `visit`
 * returns the children to go on with.
 * @throws INVALID_ARGUMENT for indexes that are nested too deeply, and the first that `visit` throws, after all visits ended
 */
export async function walkGraph(
  root: ImageDescriptor,
  visit: (descriptor: ImageDescriptor) => Promise<readonly ImageDescriptor[]>,
): Promise<void> {
  const seen = new Set<string>();
  const go = async (descriptor: ImageDescriptor, depth: number): Promise<void> => {
    if (seen.has(descriptor.digest)) return;
    seen.add(descriptor.digest);
    if (depth > INDEX_DEPTH_MAX) throw invalidArgument(`${descriptor.digest}: indexes are nested too deeply`);
    const children = await visit(descriptor);
    const visits = await Promise.allSettled(children.map((child) => go(child, depth + 1)));
    for (const one of visits) if (one.status === 'rejected') throw one.reason;
  };
  await go(root, 0);
}

/** Whether the namespace has a blob. */
export function hasBlob(content: ContentStore, namespace: string, { digest }: ImageDescriptor): boolean {
  return content.blobs.has(namespace, digest);
}

/**
 * The manifest for a platform behind a manifest or an index, the best of several.
 * @throws NOT_FOUND when there is none, or when it is not in the store
 */
export async function findManifest(
  content: ContentStore,
  namespace: string,
  target: ImageDescriptor,
  platforms: PlatformChoice,
): Promise<ImageDescriptor> {
  const search = async (found: ImageDescriptor, depth: number): Promise<ImageDescriptor | undefined> => {
    if (roleOfBlob(found) === 'manifest') return found;
    if (roleOfBlob(found) !== 'index' || depth > INDEX_DEPTH_MAX) return undefined;
    const children = (await readIndex(content, namespace, found.digest)).filter(
      ({ platform }) => platform === undefined || platforms.matches(platform),
    );
    for (const child of byRank(children, platforms)) {
      const manifest = await search(child, depth + 1);
      if (manifest !== undefined) return manifest;
    }
    return undefined;
  };
  const manifest = await search(target, 0);
  if (manifest === undefined) throw notFound(`${target.digest}: no manifest for the platform`);
  return manifest;
}

function labelPrefix(child: ImageDescriptor): string {
  switch (roleOfBlob(child)) {
    case 'index':
    case 'manifest':
      return `${LABEL}m.`;
    case 'layer':
      return `${LABEL}l.`;
    case 'config':
      return `${LABEL}config`;
    case 'unknown':
      return LABEL;
  }
}
