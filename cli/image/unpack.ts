// Unpacking: an image's layers become a chain of committed snapshots, named by chain id (image-spec, config.md), as
// Go clients do it, so that any client finds what another one unpacked.

import { randomBytes } from 'node:crypto';
import { failedPrecondition, invalidArgument, isAlreadyExists, isNotFound } from '../../proto/errors';
import { sha256 } from '../../proto/ids';
import { nowNs } from '../../proto/time';
import type { Session } from '../session';
import { labelBlob } from './content';
import type { OciDescriptor } from './documents';
import type { ResolvedImage } from './platform';

export interface UnpackOptions {
  readonly snapshotter: string;
  readonly lease: string | undefined;
  /** Told before and after each layer that has to be unpacked. */
  readonly onLayer?: (layer: OciDescriptor, event: 'extracting' | 'extracted') => void;
}

/** Chain ids of the layers, base first. */
export function chainIds(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) {
    const parent = chain.at(-1);
    chain.push(parent === undefined ? diffId : sha256(`${parent} ${diffId}`));
  }
  return chain;
}

export function diffIdsOf(image: ResolvedImage): readonly string[] {
  const diffIds = image.configuration.rootfs?.diff_ids ?? [];
  if (diffIds.length !== image.document.layers.length) {
    throw invalidArgument(
      `image configuration names ${diffIds.length} layers, its manifest ${image.document.layers.length}`,
    );
  }
  return diffIds;
}

/** Makes sure that the image's snapshots exist and returns the name of the topmost one; empty for an empty image. */
export async function unpack(session: Session, image: ResolvedImage, options: UnpackOptions): Promise<string> {
  const diffIds = diffIdsOf(image);
  const chain = chainIds(diffIds);
  const top = chain.at(-1);
  if (top === undefined) return '';
  let first = chain.length;
  while (first > 0 && !(await exists(session, options.snapshotter, chain[first - 1] ?? ''))) first -= 1;
  for (let index = first; index < chain.length; index += 1) {
    await unpackLayer(session, image, { index, chain, diffIds }, options);
  }
  const label = `containerd.io/gc.ref.snapshot.${options.snapshotter}`;
  await labelBlob(session, image.document.config.digest, { [label]: top }, options.lease);
  return top;
}

async function exists(session: Session, snapshotter: string, key: string): Promise<boolean> {
  try {
    await session.connection.snapshots.stat({ snapshotter, key });
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

interface Layer {
  readonly index: number;
  readonly chain: readonly string[];
  readonly diffIds: readonly string[];
}

async function unpackLayer(
  session: Session,
  image: ResolvedImage,
  layer: Layer,
  options: UnpackOptions,
): Promise<void> {
  const { snapshots, diff } = session.connection;
  const { snapshotter, lease } = options;
  const descriptor = image.document.layers[layer.index];
  const name = layer.chain[layer.index] ?? '';
  const parent = layer.chain[layer.index - 1] ?? '';
  const diffId = layer.diffIds[layer.index] ?? '';
  if (descriptor === undefined) return;
  options.onLayer?.(descriptor, 'extracting');
  const { digest, mediaType, size, annotations } = descriptor;
  const key = `extract-${nowNs() % 1_000_000_000n}-${randomBytes(3).toString('base64url')} ${name}`;
  const { mounts } = await snapshots.prepare({ snapshotter, key, parent }, { lease });
  try {
    const request = { diff: { digest, mediaType, size: BigInt(size), annotations }, mounts };
    const { applied } = await diff.apply(request, { lease });
    if (applied?.digest !== diffId) {
      throw failedPrecondition(`layer ${digest} unpacks to ${applied?.digest}, but the image says ${diffId}`);
    }
    await snapshots.commit({ snapshotter, name, key }, { lease });
  } catch (error) {
    await snapshots.remove({ snapshotter, key }).catch(() => undefined);
    // Another client was faster with the same layer.
    if (!isAlreadyExists(error)) throw error;
  }
  await labelBlob(session, digest, { 'containerd.io/uncompressed': diffId }, lease);
  options.onLayer?.(descriptor, 'extracted');
}
