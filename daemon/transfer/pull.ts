// OCIRegistry to ImageStore: an image with all that is wanted of it. Blobs are fetched at the same time, and each layer is
// unpacked as soon as it and those below it are here.

import { ApiError, errorKind, invalidArgument, messageOf, notFound } from '../../proto/errors';
import type { ImageStore, OCIRegistry, UnpackConfiguration } from '../../proto/generated/containerd.types.transfer';
import type { Owner } from '../images/blobs';
import { type ImageDescriptor, roleOfBlob } from '../images/documents';
import { byRank, childrenIn, isDocument, labelChildren, walkGraph, wantedChildren } from '../images/graph';
import { isSchema1 } from '../images/media-types';
import { BlobProgress } from './blob-progress';
import { Fetcher } from './fetch';
import { filterOf, givenNames, saveImages } from './image-store';
import { keepForNextTry } from './keep';
import type { TransferCall, TransferParts } from './parts';
import { openRemote, type RemoteImage } from './registry';
import { platformsOf, unpackImage } from './unpack';

/**
 * @throws PERMISSION_DENIED when the image is not trusted; what the registry client and the unpacker throw: what has
 *   arrived stays for the next try
 */
export async function pullImage(
  parts: TransferParts,
  source: OCIRegistry,
  store: ImageStore,
  call: TransferCall,
): Promise<void> {
  await using remote = openRemote(parts, source, call);
  const { report, owner } = call;
  report.tell({ event: `Resolving from ${remote.title}` });
  const target = await resolve(remote, owner.signal);
  const names = givenNames(store, target);
  if (names.length === 0) throw notFound('no image name found');
  await parts.trust?.checkPull({ ...remote, target }, names, owner);
  report.tell({ event: `Pulling from ${remote.title}` });
  report.tell({ event: 'fetching image content', name: remote.reference.text, descriptor: target });

  await new PulledImage(parts, store, call, remote).run(target);

  saveImages(parts.images, owner, { names, target, labels: store.labels });
  // ctr draws with each entry that has a name: in the last picture, the pull is complete.
  report.tell({ event: `Completed pull from ${remote.title}` });
  for (const name of names) report.tell({ event: 'saved', name, descriptor: target });
}

async function resolve({ client, reference }: RemoteImage, signal: AbortSignal): Promise<ImageDescriptor> {
  try {
    const { mediaType, digest, size } = await client.resolve(reference, signal);
    if (isSchema1(mediaType)) throw invalidArgument('schema 1 image manifests are no longer supported');
    return { mediaType, digest, size: Number(size) };
  } catch (error) {
    const kind = errorKind(error);
    if (kind === undefined || kind === 'canceled') throw error;
    throw new ApiError(kind, `failed to resolve image: ${messageOf(error)}`, { cause: error });
  }
}

/** The walk over one image, and what runs beside it: storing documents, unpacking. */
class PulledImage {
  readonly #parts: TransferParts;
  readonly #store: ImageStore;
  readonly #owner: Owner;
  readonly #stop = new AbortController();
  readonly #progress: BlobProgress;
  readonly #fetcher: Fetcher;
  /** What is to be unpacked, by the digest of the manifest or index that it is chosen from. */
  readonly #unpacks = new Map<string, readonly UnpackConfiguration[]>();
  readonly #running: Promise<unknown>[] = [];

  constructor(parts: TransferParts, store: ImageStore, call: TransferCall, remote: RemoteImage) {
    const { owner, report } = call;
    this.#parts = parts;
    this.#store = store;
    this.#owner = { ...owner, signal: AbortSignal.any([owner.signal, this.#stop.signal]) };
    this.#progress = new BlobProgress(report, remote.reference.text, 'downloading');
    this.#fetcher = new Fetcher(parts.content, remote, { owner: this.#owner, progress: this.#progress });
  }

  /** When it ends, nothing of it runs any more. @throws the first failure, which has stopped everything else */
  async run(target: ImageDescriptor): Promise<void> {
    this.#unpacks.set(target.digest, this.#store.unpacks);
    const walk = walkGraph(target, (blob) => this.#visit(blob).catch((error: unknown) => this.#fail(error)));
    await walk.catch(() => {});
    const ended = await Promise.allSettled(this.#running);
    try {
      await walk;
      for (const one of ended) if (one.status === 'rejected') throw one.reason;
    } catch (error) {
      keepForNextTry(this.#parts.db, this.#owner, error, this.#fetcher.resources());
      throw error;
    }
  }

  async #visit(blob: ImageDescriptor): Promise<readonly ImageDescriptor[]> {
    const stored = this.#fetcher.fetch(blob);
    this.#start(stored);
    if (!isDocument(blob)) {
      await stored;
      return [];
    }
    const children = childrenIn(blob, await this.#fetcher.document(blob));
    // Beside it, what the document leads to is fetched.
    const labelled = stored.then(() => labelChildren(this.#parts.content, this.#owner.namespace, blob, children));
    this.#start(labelled);
    this.#progress.addChildren(blob, children);
    const wanted = wantedChildren(blob, children, filterOf(this.#store));
    this.#chooseUnpacks(blob, wanted, labelled);
    return wanted;
  }

  /** `ready`: the document can be read from the store. */
  #chooseUnpacks(blob: ImageDescriptor, children: readonly ImageDescriptor[], ready: Promise<void>): void {
    const configurations = this.#unpacks.get(blob.digest) ?? [];
    if (roleOfBlob(blob) === 'manifest') {
      for (const unpack of configurations) this.#start(ready.then(() => this.#unpack(blob, unpack)));
      return;
    }
    for (const unpack of configurations) {
      const platforms = platformsOf(unpack);
      const fitting = children.filter(({ platform }) => platform === undefined || platforms.matches(platform));
      const [best] = byRank(fitting, platforms);
      if (best !== undefined) this.#unpacks.set(best.digest, [...(this.#unpacks.get(best.digest) ?? []), unpack]);
    }
  }

  #unpack(manifest: ImageDescriptor, unpack: UnpackConfiguration): Promise<void> {
    return unpackImage(this.#parts, manifest, unpack, {
      owner: this.#owner,
      arrival: (blob) => this.#fetcher.fetch(blob),
      onLayer: (layer, event) => this.#progress.done(layer, event),
    });
  }

  /** Its failure is looked at when the walk has ended. */
  #start(work: Promise<void>): void {
    const watched = work.catch((error: unknown) => this.#fail(error));
    watched.catch(() => {});
    this.#running.push(watched);
  }

  #fail(error: unknown): never {
    this.#stop.abort(error);
    throw this.#stop.signal.reason;
  }
}
