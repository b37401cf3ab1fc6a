// Reads all that an image consists of here: size and digest of its blobs, and whether its snapshots are there. What is
// damaged is fetched or unpacked again when that is wanted.

import { failedPrecondition, isNotFound, messageOf } from '../../proto/errors';
import { SnapshotRemove } from '../../proto/generated/containerd.events';
import type { OCIRegistry } from '../../proto/generated/containerd.types.transfer';
import { hasSnapshot, type Snapshotter } from '../../snapshotter/snapshotter';
import { FileDigests } from '../content/file-digests';
import { algorithmOf } from '../content/hasher';
import type { EventBus } from '../events/bus';
import type { Owner } from '../images/blobs';
import {
  type ImageDescriptor,
  type ImageManifest,
  INDEX_DEPTH_MAX,
  readConfiguration,
  readManifest,
  roleOfBlob,
} from '../images/documents';
import { childrenOf, findManifest, hasBlob, labelChildren } from '../images/graph';
import { isNonDistributable } from '../images/media-types';
import { machinePlatform, type PlatformChoice, runningOn } from '../images/platform';
import { chainIds } from '../images/unpack';
import type { BlobProgress } from './blob-progress';
import { Fetcher } from './fetch';
import type { TransferParts } from './parts';
import { openRemote } from './registry';

export interface VerifyParts extends TransferParts {
  readonly events: EventBus;
}

export interface VerifyOptions {
  readonly owner: Owner;
  /** What must be complete; undefined: the platforms of which there are layers. */
  readonly platforms: PlatformChoice | undefined;
  /** Where what is damaged is fetched from; undefined: nothing is repaired. */
  readonly source: OCIRegistry | undefined;
  /** Told which blobs are read. */
  readonly progress: BlobProgress;
}

/** A part of an image. */
export interface ImageFinding {
  /** Role of a blob, or snapshots/NAME. */
  readonly kind: string;
  /** Digest of a blob, name of a snapshot. */
  readonly key: string;
  readonly sizeBytes: number;
  readonly state: 'good' | 'missing' | 'corrupt' | 'repaired';
  /** What is wrong, or was. */
  readonly detail: string;
}

type Flaw = Pick<ImageFinding, 'detail'> & { readonly state: 'missing' | 'corrupt' };

const SNAPSHOT_LABEL = 'containerd.io/gc.ref.snapshot.';

/** The findings as they come, parents before children. @throws the signal's reason */
export async function* verifyImage(
  parts: VerifyParts,
  target: ImageDescriptor,
  options: VerifyOptions,
): AsyncGenerator<ImageFinding> {
  await using closing = new AsyncDisposableStack();
  yield* new Verification(parts, closing, options).run(target);
}

class Verification {
  readonly #parts: VerifyParts;
  readonly #digests: FileDigests;
  readonly #closing: AsyncDisposableStack;
  readonly #owner: Owner;
  readonly #platforms: PlatformChoice | undefined;
  readonly #source: OCIRegistry | undefined;
  readonly #progress: BlobProgress;
  /** Made when something has to be fetched: not every image has a name that leads to a registry. */
  #fetcher: Fetcher | undefined;
  /** Blobs that were read, and whether they are good now. */
  readonly #read = new Map<string, boolean>();
  /** Snapshots of the namespace whose data is gone, by snapshotter: a question that takes a look at all of them. */
  readonly #lost = new Map<string, Promise<ReadonlySet<string>>>();
  #hasLayers = false;

  constructor(
    parts: VerifyParts,
    closing: AsyncDisposableStack,
    { owner, platforms, source, progress }: VerifyOptions,
  ) {
    this.#parts = parts;
    this.#digests = closing.use(new FileDigests());
    this.#closing = closing;
    this.#owner = owner;
    this.#platforms = platforms;
    this.#source = source;
    this.#progress = progress;
  }

  async *run(target: ImageDescriptor): AsyncGenerator<ImageFinding> {
    yield* this.#walk(target, true, 0);
    if (this.#hasLayers || this.#platforms !== undefined || this.#read.get(target.digest) !== true) return;
    // An index of which nothing was taken: then it is this machine's platform that is missing.
    const { content } = this.#parts;
    const { namespace } = this.#owner;
    const best = await findManifest(content, namespace, target, runningOn(machinePlatform())).catch(ignoreNotFound);
    if (best === undefined || this.#read.get(best.digest) === false) return;
    if (this.#read.has(best.digest)) yield* this.#below(best, true, 0);
    else yield* this.#walk(best, true, 0);
  }

  /** A blob and all below it. What is not here counts as missing only when it `isNeeded`. */
  async *#walk(blob: ImageDescriptor, isNeeded: boolean, depth: number): AsyncGenerator<ImageFinding> {
    const isHere = hasBlob(this.#parts.content, this.#owner.namespace, blob);
    if ((!isHere && !isNeeded) || this.#read.has(blob.digest) || depth > INDEX_DEPTH_MAX) return;
    const finding = await this.#examine(blob);
    this.#progress.done(blob, finding.state);
    const isGood = finding.state === 'good' || finding.state === 'repaired';
    this.#read.set(blob.digest, isGood);
    yield finding;
    if (isGood) yield* this.#below(blob, isNeeded, depth);
  }

  async *#below(blob: ImageDescriptor, isNeeded: boolean, depth: number): AsyncGenerator<ImageFinding> {
    const { content } = this.#parts;
    const { namespace } = this.#owner;
    const role = roleOfBlob(blob);
    if (role !== 'index' && role !== 'manifest') return;
    let children: readonly ImageDescriptor[];
    try {
      children = await childrenOf(content, namespace, blob);
    } catch (error) {
      yield { ...partOf(blob), state: 'corrupt', detail: messageOf(error) };
      return;
    }
    this.#progress.addChildren(blob, children);
    // Labels tell garbage collection of the edges; a record that was made again has none.
    if (this.#source !== undefined) labelChildren(content, namespace, blob, children);
    if (role === 'manifest') {
      yield* this.#manifest(blob, children, { isNeeded, depth });
      return;
    }
    for (const child of children) yield* this.#walk(child, this.#isWanted(child), depth + 1);
  }

  /** Which manifests of an index must be here. */
  #isWanted({ platform }: ImageDescriptor): boolean {
    return this.#platforms !== undefined && (platform === undefined || this.#platforms.matches(platform));
  }

  async *#manifest(
    blob: ImageDescriptor,
    [config, ...layers]: readonly ImageDescriptor[],
    { isNeeded, depth }: { readonly isNeeded: boolean; readonly depth: number },
  ): AsyncGenerator<ImageFinding> {
    const { content } = this.#parts;
    const { namespace } = this.#owner;
    const isComplete = isNeeded || layers.length === 0 || layers.some((layer) => hasBlob(content, namespace, layer));
    this.#hasLayers ||= isComplete;
    for (const child of config === undefined ? layers : [config, ...layers]) {
      yield* this.#walk(child, isComplete && !isNonDistributable(child.mediaType), depth + 1);
    }
    if (isComplete && config !== undefined && roleOfBlob(config) === 'config') yield* this.#snapshots(blob, config);
  }

  async #examine(blob: ImageDescriptor): Promise<ImageFinding> {
    const { content } = this.#parts;
    const part = partOf(blob);
    const flaw = await this.#flawOf(blob);
    if (flaw === undefined) return { ...part, state: 'good', detail: '' };
    // Known from now on: whoever pulls the image brings the blob again.
    if (flaw.state === 'corrupt') content.markDamaged(blob.digest);
    if (this.#source === undefined) return { ...part, ...flaw };
    try {
      this.#fetcher ??= this.#openFetcher(this.#source);
      await this.#fetcher.fetch(blob);
    } catch (error) {
      this.#owner.signal.throwIfAborted();
      return { ...part, ...flaw, detail: `${flaw.detail}; it cannot be fetched again: ${messageOf(error)}` };
    }
    const rest = await this.#flawOf(blob);
    return rest === undefined ? { ...part, state: 'repaired', detail: flaw.detail } : { ...part, ...rest };
  }

  #openFetcher(source: OCIRegistry): Fetcher {
    const owner = this.#owner;
    const progress = this.#progress.as('downloading');
    const remote = this.#closing.use(openRemote(this.#parts, source, { owner }));
    return new Fetcher(this.#parts.content, remote, { owner, progress });
  }

  async #flawOf(blob: ImageDescriptor): Promise<Flaw | undefined> {
    const { digest, size } = blob;
    const { content } = this.#parts;
    const { namespace, signal } = this.#owner;
    if (!content.blobs.has(namespace, digest)) return { state: 'missing', detail: 'the namespace has no such blob' };
    const job = { path: content.blobPath(digest), algorithm: algorithmOf(digest) };
    const onProgress = (readBytes: number) => this.#progress.bytes(blob, readBytes);
    onProgress(0);
    const found = await this.#digests.of(job, signal, onProgress);
    if ('code' in found) {
      if (found.code === 'ENOENT') return { state: 'missing', detail: 'its file is gone' };
      return { state: 'corrupt', detail: `its file cannot be read: ${found.message}` };
    }
    if (found.sizeBytes !== size) {
      return { state: 'corrupt', detail: `its file has ${found.sizeBytes} bytes in place of ${size}` };
    }
    return found.digest === digest ? undefined : { state: 'corrupt', detail: `its bytes are those of ${found.digest}` };
  }

  /** Those that the configuration's labels name, as whoever unpacked the image has written. */
  async *#snapshots(blob: ImageDescriptor, { digest }: ImageDescriptor): AsyncGenerator<ImageFinding> {
    const { content, unpacker } = this.#parts;
    const { namespace } = this.#owner;
    if (this.#read.get(digest) !== true) return;
    const manifest = await readManifest(content, namespace, blob.digest);
    const configuration = await readConfiguration(content, namespace, digest);
    const chain = chainIds(configuration.rootfs?.diff_ids ?? []);
    for (const [label, top] of Object.entries(content.blobs.get(namespace, digest).labels)) {
      if (!label.startsWith(SNAPSHOT_LABEL) || top !== chain.at(-1)) continue;
      const [name = ''] = label.slice(SNAPSHOT_LABEL.length).split('/');
      const kind = `snapshots/${name}`;
      try {
        yield* this.#chain(unpacker.find(name), chain, manifest);
      } catch (error) {
        this.#owner.signal.throwIfAborted();
        yield { kind, key: top, sizeBytes: 0, state: 'missing', detail: messageOf(error) };
      }
    }
  }

  async *#chain(
    snapshotter: Snapshotter,
    chain: readonly string[],
    manifest: ImageManifest,
  ): AsyncGenerator<ImageFinding> {
    const before = await this.#snapshotFlaws(snapshotter, chain);
    let after = before;
    let failure = '';
    if (before.some((flaw) => flaw !== undefined) && this.#source !== undefined) {
      try {
        await this.#unpackAgain(snapshotter, chain, manifest);
        after = await this.#snapshotFlaws(snapshotter, chain);
      } catch (error) {
        this.#owner.signal.throwIfAborted();
        failure = `; it cannot be unpacked again: ${messageOf(error)}`;
      }
    }
    for (const [index, key] of chain.entries()) {
      const part = { kind: `snapshots/${snapshotter.name}`, key, sizeBytes: 0 };
      const [was, is] = [before[index], after[index]];
      if (is !== undefined) yield { ...part, state: 'missing', detail: `${is}${failure}` };
      else yield { ...part, state: was === undefined ? 'good' : 'repaired', detail: was ?? '' };
    }
  }

  /** For each of them what is wrong with it. */
  async #snapshotFlaws(snapshotter: Snapshotter, names: readonly string[]): Promise<(string | undefined)[]> {
    const { namespace } = this.#owner;
    const lost = await this.#lostKeys(snapshotter);
    return names.map((name) => {
      if (!hasSnapshot(snapshotter, namespace, name)) return 'the namespace has no such snapshot';
      return lost.has(name) ? 'its directory is gone' : undefined;
    });
  }

  #lostKeys(snapshotter: Snapshotter): Promise<ReadonlySet<string>> {
    const known = this.#lost.get(snapshotter.name);
    if (known !== undefined) return known;
    const { namespace } = this.#owner;
    const found = snapshotter
      .lost()
      .then((lost) => new Set(lost.filter((one) => one.namespace === namespace).map(({ key }) => key)));
    this.#lost.set(snapshotter.name, found);
    return found;
  }

  /** @throws FAILED_PRECONDITION while others are on top of what has to go, and what Unpacker.unpack() throws */
  async #unpackAgain(snapshotter: Snapshotter, chain: readonly string[], manifest: ImageManifest): Promise<void> {
    try {
      await this.#removeLost(snapshotter, chain);
      await this.#parts.unpacker.unpack(manifest, {
        owner: this.#owner,
        snapshotter: snapshotter.name,
        arrival: async ({ digest }) => {
          if (this.#read.get(digest) !== true) throw failedPrecondition(`layer ${digest} is damaged`);
        },
        onLayer: (layer, event) => this.#progress.done(layer, event),
      });
    } finally {
      this.#lost.delete(snapshotter.name);
    }
  }

  /** All records from the lowest without data upwards, or none. */
  async #removeLost(snapshotter: Snapshotter, chain: readonly string[]): Promise<void> {
    const { db, events } = this.#parts;
    const { namespace } = this.#owner;
    const lost = await this.#lostKeys(snapshotter);
    const lowest = chain.findIndex((name) => lost.has(name));
    if (lowest < 0) return;
    db.transaction(() => {
      for (const key of chain.slice(lowest).reverse()) {
        if (!hasSnapshot(snapshotter, namespace, key)) continue;
        const event = { key, snapshotter: snapshotter.name };
        const within = () => events.publish(namespace, '/snapshot/remove', SnapshotRemove, event);
        snapshotter.remove(namespace, key, { within });
      }
    });
  }
}

function partOf(blob: ImageDescriptor): Pick<ImageFinding, 'kind' | 'key' | 'sizeBytes'> {
  return { kind: roleOfBlob(blob), key: blob.digest, sizeBytes: blob.size };
}

function ignoreNotFound(error: unknown): undefined {
  if (!isNotFound(error)) throw error;
}
