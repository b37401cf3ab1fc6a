// ImageStore to OCIRegistry: an image with all that it leads to. What a manifest names goes before it, the tag last.

import type { ImageStore, OCIRegistry } from '../../proto/generated/containerd.types.transfer';
import { labelBlob } from '../images/blobs';
import type { ImageDescriptor } from '../images/documents';
import { childrenOf, findManifest, type GraphFilter, hasBlob, wantedChildren } from '../images/graph';
import { targetOf } from '../images/image-records';
import { isNonDistributable } from '../images/media-types';
import { anyPlatform, exactly, type PlatformChoice } from '../images/platform';
import { mountCandidates, sourceLabel } from '../registry/distribution-source';
import { BlobProgress } from './blob-progress';
import type { TransferCall, TransferParts } from './parts';
import { openRemote, type RemoteImage, remoteDescriptor } from './registry';

/**
 * With one platform in the source, its manifest is pushed instead of an index; with several, the index and what it has for
 * them, which a registry refuses that lacks the rest.
 * @throws NOT_FOUND for the image or content that is missing, and what the registry client throws
 */
export async function pushImage(
  parts: TransferParts,
  source: ImageStore,
  destination: OCIRegistry,
  call: TransferCall,
): Promise<void> {
  const { content, images } = parts;
  const { owner, report } = call;
  const image = targetOf(images.get(owner.namespace, source.name));
  const platforms = source.platforms.length === 0 ? anyPlatform : exactly(source.platforms);
  const target = source.platforms.length === 1 ? await findManifest(content, owner.namespace, image, platforms) : image;
  await using remote = openRemote(parts, destination, call);
  report.tell({ event: `Pushing to ${remote.title}` });
  report.tell({ event: 'pushing content', name: source.name, descriptor: target });

  // The first failure stops everything else.
  const stop = new AbortController();
  const signal = AbortSignal.any([owner.signal, stop.signal]);
  const pushed = new PushedImage(parts, remote, { ...call, owner: { ...owner, signal } }, { ...source, platforms });
  try {
    await pushed.push(target, false);
  } catch (error) {
    stop.abort(error);
    await pushed.settled();
    throw owner.signal.aborted ? owner.signal.reason : error;
  }

  // ctr draws with each entry that has a name: in the last picture, the push is complete.
  report.tell({ event: `Completed push to ${remote.title}`, descriptor: target });
  report.tell({ event: 'pushed content', name: source.name, descriptor: target });
}

class PushedImage {
  readonly #parts: TransferParts;
  readonly #remote: RemoteImage;
  readonly #call: TransferCall;
  readonly #filter: GraphFilter;
  readonly #progress: BlobProgress;
  readonly #pushes = new Map<string, Promise<void>>();

  constructor(
    parts: TransferParts,
    remote: RemoteImage,
    call: TransferCall,
    { name, platforms }: { readonly name: string; readonly platforms: PlatformChoice },
  ) {
    this.#parts = parts;
    this.#remote = remote;
    this.#call = call;
    this.#filter = { platforms, allMetadata: false, manifestLimit: 0 };
    this.#progress = new BlobProgress(call.report, name, 'uploading');
  }

  /** Each blob once. `byDigest`: a manifest that an index names, which gets no tag. */
  push(blob: ImageDescriptor, byDigest: boolean): Promise<void> {
    const running = this.#pushes.get(blob.digest) ?? this.#pushOnce(blob, byDigest);
    this.#pushes.set(blob.digest, running);
    return running;
  }

  /** Resolves when nothing of it runs any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#pushes.values());
  }

  async #pushOnce(blob: ImageDescriptor, byDigest: boolean): Promise<void> {
    const { content } = this.#parts;
    const { namespace } = this.#call.owner;
    this.#progress.waiting(blob);
    if (hasBlob(content, namespace, blob)) {
      const children = wantedChildren(blob, await childrenOf(content, namespace, blob), this.#filter);
      this.#progress.addChildren(blob, children);
      const kept = children.filter(({ mediaType }) => !isNonDistributable(mediaType));
      await Promise.all(kept.map((child) => this.push(child, true)));
    }
    await this.#send(blob, byDigest);
  }

  async #send(blob: ImageDescriptor, byDigest: boolean): Promise<void> {
    const { content } = this.#parts;
    const { namespace, signal } = this.#call.owner;
    const { client, reference } = this.#remote;
    const isHere = hasBlob(content, namespace, blob);
    const labels = isHere ? content.blobs.get(namespace, blob.digest).labels : {};
    const source = isHere ? { path: content.blobPath(blob.digest) } : undefined;
    const outcome = await client.push(reference, remoteDescriptor(blob), source, {
      signal,
      byDigest,
      mountFrom: mountCandidates(reference, labels),
      onProgress: ({ offsetBytes }) => this.#progress.bytes(blob, Number(offsetBytes)),
    });
    if (isHere) {
      const { key, value } = sourceLabel(reference, labels);
      labelBlob(content, namespace, blob.digest, { [key]: value });
    }
    this.#progress.done(blob, outcome === 'uploaded' ? 'complete' : 'already exists');
  }
}
