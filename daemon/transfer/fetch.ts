// Blobs of a remote image to the content store, each once: whoever asks for one that is under way waits for it.

import { errorKind, isAlreadyExists } from '../../proto/errors';
import type { ContentStore } from '../content/store';
import { labelBlob, type Owner, whenUnlocked, writeBlob } from '../images/blobs';
import { type ImageDescriptor, roleOfBlob } from '../images/documents';
import { hasBlob, nameOfBlob } from '../images/graph';
import type { LeaseResource } from '../metadata/lease-resources';
import { sourceLabel } from '../registry/distribution-source';
import type { BlobProgress } from './blob-progress';
import { type RemoteImage, remoteDescriptor } from './registry';

export class Fetcher {
  readonly #content: ContentStore;
  readonly #remote: RemoteImage;
  readonly #owner: Owner;
  readonly #progress: BlobProgress;
  readonly #fetches = new Map<string, Promise<void>>();
  readonly #begun = new Set<ImageDescriptor>();

  constructor(
    content: ContentStore,
    remote: RemoteImage,
    { owner, progress }: { owner: Owner; progress: BlobProgress },
  ) {
    this.#content = content;
    this.#remote = remote;
    this.#owner = owner;
    this.#progress = progress;
  }

  /** Resolves when the blob is in the store. @throws what the registry client throws, RESOURCE_EXHAUSTED on a full disk */
  fetch(blob: ImageDescriptor): Promise<void> {
    const running = this.#fetches.get(blob.digest) ?? this.#fetchOnce(blob);
    this.#fetches.set(blob.digest, running);
    return running;
  }

  /** What was begun: blobs that are here, and ingests of those that are not. */
  resources(): LeaseResource[] {
    return [...this.#begun].map((blob) =>
      hasBlob(this.#content, this.#owner.namespace, blob)
        ? { type: 'content', id: blob.digest }
        : { type: 'ingests', id: nameOfBlob(blob) },
    );
  }

  async #fetchOnce(blob: ImageDescriptor): Promise<void> {
    this.#begun.add(blob);
    this.#progress.waiting(blob);
    const isNew = isDocument(blob) ? await this.#fetchDocument(blob) : await this.#fetchFile(blob);
    this.#labelSource(blob);
    this.#progress.done(blob, isNew ? 'complete' : 'already exists');
  }

  /** False when it was there. */
  async #fetchDocument(blob: ImageDescriptor): Promise<boolean> {
    const { client, reference } = this.#remote;
    const { namespace, signal } = this.#owner;
    const { digest, size: sizeBytes } = blob;
    const isNew = !this.#content.isStored(namespace, digest);
    const bytes = isNew ? await client.fetchDocument(reference, remoteDescriptor(blob), signal) : Buffer.alloc(0);
    const source = async function* () {
      yield bytes;
    };
    // Also what is there has to be put under the lease.
    await writeBlob(this.#content, this.#owner, { ref: nameOfBlob(blob), digest, sizeBytes }, source());
    return isNew;
  }

  async #fetchFile(blob: ImageDescriptor): Promise<boolean> {
    const { client, reference } = this.#remote;
    const { namespace, lease, signal } = this.#owner;
    const { digest, size } = blob;
    const ref = nameOfBlob(blob);
    const open = () =>
      this.#content.openReceivedFile({ namespace, lease, ref, expected: digest, totalBytes: BigInt(size) });
    const file = await whenUnlocked(open, signal);
    if (file === undefined) return false;
    let isNew = false;
    try {
      if (!file.isComplete) {
        const onProgress = ({ offsetBytes }: { offsetBytes: bigint }) =>
          this.#progress.bytes(blob, Number(offsetBytes));
        await client.fetch(reference, remoteDescriptor(blob), { path: file.path }, { signal, onProgress });
        isNew = true;
      }
      await file.commit({ sizeBytes: BigInt(size), labels: {} });
      return isNew;
    } catch (error) {
      if (isAlreadyExists(error)) return isNew;
      file.close();
      // Bytes that were wrong to the end are of no use to the next try.
      if (errorKind(error) === 'failed precondition') await this.#content.abort(namespace, ref, lease).catch(() => {});
      throw error;
    } finally {
      file.close();
    }
  }

  #labelSource({ digest }: ImageDescriptor): void {
    const { namespace } = this.#owner;
    const { key, value } = sourceLabel(this.#remote.reference, this.#content.blobs.get(namespace, digest).labels);
    labelBlob(this.#content, namespace, digest, { [key]: value });
  }
}

function isDocument(blob: ImageDescriptor): boolean {
  const role = roleOfBlob(blob);
  return role === 'index' || role === 'manifest';
}
