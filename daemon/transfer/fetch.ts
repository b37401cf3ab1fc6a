// Blobs of a remote image to the content store, each once: whoever asks for one that is under way waits for it.

import { errorKind, isAlreadyExists } from '../../proto/errors';
import type { ContentStore } from '../content/store';
import { labelBlob, type Owner, whenUnlocked, writeBlob } from '../images/blobs';
import { type ImageDescriptor, readSmallBlob } from '../images/documents';
import { hasBlob, isDocument, nameOfBlob } from '../images/graph';
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
  /** Documents that are fetched or stored now, by digest; undefined: it was there. */
  readonly #documents = new Map<string, Promise<Buffer | undefined>>();
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

  /**
   * The proved bytes of an index or manifest, which fetch() may not have stored yet: what it leads to need not wait for
   * the disk. @throws what fetch() throws
   */
  async document(blob: ImageDescriptor): Promise<Buffer> {
    const stored = this.fetch(blob);
    const bytes = await this.#documents.get(blob.digest);
    if (bytes !== undefined) return bytes;
    await stored;
    return readSmallBlob(this.#content, this.#owner.namespace, blob.digest);
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
    const isNew = isDocument(blob) ? await this.#storeDocument(blob) : await this.#fetchFile(blob);
    this.#labelSource(blob);
    this.#progress.done(blob, isNew ? 'complete' : 'already exists');
  }

  /** False when it was there. */
  async #storeDocument(blob: ImageDescriptor): Promise<boolean> {
    const { digest, size: sizeBytes } = blob;
    const fetching = this.#fetchDocument(blob);
    this.#documents.set(digest, fetching);
    try {
      const bytes = await fetching;
      const source = async function* () {
        if (bytes !== undefined) yield bytes;
      };
      // Also what is there has to be put under the lease.
      await writeBlob(this.#content, this.#owner, { ref: nameOfBlob(blob), digest, sizeBytes }, source());
      return bytes !== undefined;
    } finally {
      this.#documents.delete(digest);
    }
  }

  /** Undefined when it is there. */
  async #fetchDocument(blob: ImageDescriptor): Promise<Buffer | undefined> {
    const { client, reference } = this.#remote;
    const { namespace, signal } = this.#owner;
    if (this.#content.isStored(namespace, blob.digest)) return undefined;
    return client.fetchDocument(reference, remoteDescriptor(blob), signal);
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
