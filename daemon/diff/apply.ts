// Diff.Apply: a layer blob of the content store, unpacked into the mounts of a snapshot.

import { ApiError, errorKind, messageOf } from '../../proto/errors';
import type { Descriptor } from '../../proto/generated/containerd.types';
import { checkDigest } from '../../proto/ids';
import type { Mount } from '../../runtime-native/index';
import type { UnpackedLayer, UnpackTarget } from '../../runtime-native/layers/layer';
import { syncFileSystem } from '../../runtime-native/layers/tree';
import type { ContentStore } from '../content/store';
import { LAYER_TAR, mayBeCompressed } from './media-types';
import { withMount } from './mounts';
import { directTarget } from './target';
import type { UnpackPool } from './unpack-pool';

export interface ApplyDeps {
  readonly content: ContentStore;
  readonly pool: UnpackPool;
  /** Where temporary mounts are made; cleared at start. */
  readonly mountDirectory: string;
}

export interface ApplyOptions {
  readonly namespace: string;
  readonly diff: Descriptor;
  readonly mounts: readonly Mount[];
  /** Where the layer goes, if the mounts do not say it. With unknown lowers ABORTED tells that they are needed. */
  readonly target?: UnpackTarget | undefined;
  /** Wait until the result is on disk. */
  readonly syncFs: boolean;
  readonly signal: AbortSignal;
}

/**
 * Unpacks and returns the descriptor of the uncompressed archive.
 * @throws UNKNOWN for a media type that is no layer, NOT_FOUND without the blob, INVALID_ARGUMENT for a bad layer. The
 * target is then incomplete: the caller removes the snapshot.
 */
export async function applyLayer(deps: ApplyDeps, options: ApplyOptions): Promise<Descriptor> {
  const { namespace, diff, mounts, syncFs, signal } = options;
  const compressed = mayBeCompressed(diff.mediaType);
  deps.content.blobs.get(namespace, checkDigest(diff.digest));
  const blob = deps.content.blobPath(diff.digest);
  const unpack = async (target: UnpackTarget): Promise<UnpackedLayer> => {
    const unpacked = await deps.pool.unpack({ blob, mayBeCompressed: compressed, target }, signal);
    if (syncFs) await syncFileSystem(target.root);
    return unpacked;
  };
  try {
    const target = options.target ?? directTarget(mounts);
    const { digest, sizeBytes } =
      target === undefined
        ? await withMount(mounts, deps.mountDirectory, (root) => unpack({ root, whiteouts: 'delete', lowers: [] }))
        : await unpack(target);
    return { mediaType: LAYER_TAR, digest, size: BigInt(sizeBytes), annotations: {} };
  } catch (error) {
    const kind = errorKind(error) ?? 'unknown';
    if (kind === 'canceled') throw error;
    throw new ApiError(kind, `failed to extract layer ${diff.digest}: ${messageOf(error)}`, { cause: error });
  }
}
