// Unpacking: the layers of an image become a chain of committed snapshots named by chain id (image-spec, config.md), as
// Go clients do it, so that any client finds what another one unpacked. Whoever needs the same layer at the same time
// waits for the first. Where the snapshotter lets a snapshot get its parent at the commit, several layers are unpacked at
// the same time; they are committed in order.

import { randomBytes } from 'node:crypto';
import { errorKind, failedPrecondition, invalidArgument, isAlreadyExists, isNotFound } from '../../proto/errors';
import { SnapshotCommit, SnapshotPrepare, SnapshotRemove } from '../../proto/generated/containerd.events';
import { sha256 } from '../../proto/ids';
import { nowNs } from '../../proto/time';
import type { UnpackTarget } from '../../runtime-native/layers/layer';
import { type Snapshotter, TARGET_LABEL } from '../../snapshotter/snapshotter';
import { type ApplyDeps, applyLayer } from '../diff/apply';
import type { EventBus } from '../events/bus';
import { UNCOMPRESSED_LABEL } from '../metadata/blob-store';
import type { Database } from '../metadata/database';
import { attachToLease, detachFromLease } from '../metadata/lease-resources';
import { ensureNamespace } from '../metadata/namespaces';
import { labelBlob, type Owner } from './blobs';
import { type ImageDescriptor, type ImageManifest, readConfiguration } from './documents';
import { SingleFlight, unlessAborted } from './single-flight';

export interface UnpackerDeps {
  readonly db: Database;
  readonly events: EventBus;
  readonly diff: ApplyDeps;
  readonly snapshotters: ReadonlyMap<string, Snapshotter>;
}

export interface UnpackOptions {
  readonly owner: Owner;
  readonly snapshotter: string;
  /** Resolves when a layer's blob is in the content store. */
  readonly arrival: (layer: ImageDescriptor) => Promise<void>;
  readonly onLayer?: ((layer: ImageDescriptor, state: 'extracting' | 'extracted') => void) | undefined;
}

interface LayerJob {
  readonly layer: ImageDescriptor;
  readonly diffId: string;
  readonly chainId: string;
  readonly parent: string;
  /** Settles with the layer below. */
  readonly below: Promise<void>;
}

type Mounts = Awaited<ReturnType<Snapshotter['prepare']>>;

/** An active snapshot that a layer is unpacked into. */
interface Extraction {
  readonly mounts: Mounts;
  /** Has no parent yet. */
  readonly isLoose: boolean;
}

/** Layers of one image that are fetched for, unpacked or waiting for their parent at the same time. */
const LAYERS_MAX = 4;

export const DEFAULT_SNAPSHOTTER = 'overlayfs';

/** Chain ids of layers, base first. */
export function chainIds(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) {
    const parent = chain.at(-1);
    chain.push(parent === undefined ? diffId : sha256(`${parent} ${diffId}`));
  }
  return chain;
}

export class Unpacker {
  readonly #deps: UnpackerDeps;
  readonly #flights = new SingleFlight();

  constructor(deps: UnpackerDeps) {
    this.#deps = deps;
  }

  /** @throws INVALID_ARGUMENT for a snapshotter that is not there; empty stands for the default */
  find(name: string): Snapshotter {
    const snapshotter = this.#deps.snapshotters.get(name === '' ? DEFAULT_SNAPSHOTTER : name);
    if (snapshotter === undefined) throw invalidArgument(`snapshotter not loaded: ${name}`);
    return snapshotter;
  }

  /**
   * Makes sure that the image's snapshots exist, labels the configuration with the topmost one and returns its name,
   * empty for an image without layers.
   * @throws INVALID_ARGUMENT for a bad layer or configuration, FAILED_PRECONDITION for a layer that is not what the
   *   configuration says, NOT_FOUND for missing content
   */
  async unpack({ config, layers }: ImageManifest, options: UnpackOptions): Promise<string> {
    const { content } = this.#deps.diff;
    const { namespace } = options.owner;
    const snapshotter = this.find(options.snapshotter);
    const diffIds = (await readConfiguration(content, namespace, config.digest)).rootfs?.diff_ids ?? [];
    if (diffIds.length !== layers.length) {
      throw invalidArgument(
        `configuration ${config.digest} names ${diffIds.length} layers, the manifest ${layers.length}`,
      );
    }
    const chain = chainIds(diffIds);
    await this.#inOrder(
      layers.length,
      canRebase(snapshotter) ? LAYERS_MAX : 1,
      options,
      async (index, below, inner) => {
        const layer = layers[index] as ImageDescriptor;
        const [diffId = '', chainId = '', parent = ''] = [diffIds[index], chain[index], chain[index - 1]];
        await unlessAborted(options.arrival(layer), inner.owner.signal);
        const flight = `${namespace}/${snapshotter.name}/${chainId}`;
        const job = { layer, diffId, chainId, parent, below };
        await this.#flights.run(flight, inner.owner.signal, () => this.#unpackLayer(snapshotter, job, inner));
        labelBlob(content, namespace, layer.digest, { [UNCOMPRESSED_LABEL]: diffId });
      },
    );
    const top = chain.at(-1);
    if (top === undefined) return '';
    labelBlob(content, namespace, config.digest, { [`containerd.io/gc.ref.snapshot.${snapshotter.name}`]: top });
    return top;
  }

  /**
   * Runs `body` for `count` layers, at most `limit` at a time. Each gets the promise of the one below. The first failure
   * stops the others, and is thrown when all have ended.
   */
  async #inOrder(
    count: number,
    limit: number,
    options: UnpackOptions,
    body: (index: number, below: Promise<void>, options: UnpackOptions) => Promise<void>,
  ): Promise<void> {
    const stop = new AbortController();
    const signal = AbortSignal.any([options.owner.signal, stop.signal]);
    const running: Promise<void>[] = [];
    for (let index = 0; index < count && !stop.signal.aborted; index++) {
      const below = running[index - 1] ?? Promise.resolve();
      const layer = body(index, below, { ...options, owner: { ...options.owner, signal } });
      running.push(layer);
      layer.catch((error: unknown) => stop.abort(error));
      await running[index - limit + 1]?.catch(() => {});
    }
    await Promise.allSettled(running);
    if (stop.signal.aborted) throw stop.signal.reason;
  }

  async #unpackLayer(snapshotter: Snapshotter, job: LayerJob, options: UnpackOptions): Promise<void> {
    const { layer, chainId } = job;
    if (this.#holdExisting(snapshotter, chainId, options.owner)) return;
    options.onLayer?.(layer, 'extracting');
    try {
      const isReady = job.parent === '' || this.#holdExisting(snapshotter, job.parent, options.owner);
      const isDone = !isReady && canRebase(snapshotter) && (await this.#extract(snapshotter, job, options, true));
      if (!isDone) {
        await job.below;
        await this.#extract(snapshotter, job, options, false);
      }
    } catch (error) {
      // Another client was faster with the same layer, or the snapshotter had it.
      if (!isAlreadyExists(error) || !this.#holdExisting(snapshotter, chainId, options.owner)) throw error;
      await job.below;
    }
    options.onLayer?.(layer, 'extracted');
  }

  /** False for a layer that cannot be unpacked without what is below it; only with `isLoose`. */
  async #extract(snapshotter: Snapshotter, job: LayerJob, options: UnpackOptions, isLoose: boolean): Promise<boolean> {
    const key = `extract-${nowNs() % 1_000_000_000n}-${randomBytes(3).toString('base64url')} ${job.chainId}`;
    const parent = isLoose ? '' : job.parent;
    const mounts = await this.#prepare(snapshotter, key, { ...job, parent }, options.owner);
    try {
      await this.#apply({ mounts, isLoose }, job, options);
      await this.#commit(snapshotter, key, isLoose ? { ...job, ready: job.below } : job, options.owner);
      return true;
    } catch (error) {
      this.#remove(snapshotter, key, options.owner);
      if (isLoose && errorKind(error) === 'aborted') return false;
      throw error;
    }
  }

  /** Puts the committed snapshot under the lease; false when there is none. */
  #holdExisting(snapshotter: Snapshotter, name: string, { namespace, lease }: Owner): boolean {
    const { db } = this.#deps;
    return db.transaction(() => {
      try {
        if (snapshotter.stat(namespace, name).kind !== 'committed') return false;
      } catch (error) {
        if (isNotFound(error)) return false;
        throw error;
      }
      attachToLease(db, namespace, lease, { type: typeOf(snapshotter), id: name });
      return true;
    });
  }

  #prepare(snapshotter: Snapshotter, key: string, { parent, chainId }: LayerJob, { namespace, lease, signal }: Owner) {
    const { db, events } = this.#deps;
    const within = () => {
      ensureNamespace(db, namespace);
      attachToLease(db, namespace, lease, { type: typeOf(snapshotter), id: key });
      const event = { key, parent, snapshotter: snapshotter.name };
      events.publish(namespace, '/snapshot/prepare', SnapshotPrepare, event);
    };
    return snapshotter.prepare(namespace, key, parent, { labels: { [TARGET_LABEL]: chainId }, signal, within });
  }

  async #apply({ mounts, isLoose }: Extraction, { layer, diffId }: LayerJob, { owner }: UnpackOptions): Promise<void> {
    const { digest, mediaType, size } = layer;
    const diff = { digest, mediaType, size: BigInt(size), annotations: {} };
    // The commit syncs what it makes permanent.
    const applied = await applyLayer(this.#deps.diff, {
      namespace: owner.namespace,
      diff,
      mounts,
      target: isLoose ? looseTarget(mounts) : undefined,
      syncFs: false,
      signal: owner.signal,
    });
    if (applied.digest === diffId) return;
    throw failedPrecondition(`layer ${digest} unpacks to ${applied.digest}, but the image says ${diffId}`);
  }

  #commit(
    snapshotter: Snapshotter,
    key: string,
    { chainId: name, parent, ready }: LayerJob & { readonly ready?: Promise<void> },
    { namespace, lease, signal }: Owner,
  ): Promise<void> {
    const { db, events } = this.#deps;
    const within = () => {
      attachToLease(db, namespace, lease, { type: typeOf(snapshotter), id: name });
      detachFromLease(db, namespace, lease, { type: typeOf(snapshotter), id: key });
      events.publish(namespace, '/snapshot/commit', SnapshotCommit, { key, name, snapshotter: snapshotter.name });
    };
    return snapshotter.commit(namespace, name, key, { signal, within, parent, ...(ready && { ready }) });
  }

  /** What cannot be removed now goes with the lease. */
  #remove(snapshotter: Snapshotter, key: string, { namespace, lease }: Owner): void {
    const { db, events } = this.#deps;
    const within = () => {
      detachFromLease(db, namespace, lease, { type: typeOf(snapshotter), id: key });
      events.publish(namespace, '/snapshot/remove', SnapshotRemove, { key, snapshotter: snapshotter.name });
    };
    try {
      snapshotter.remove(namespace, key, { within });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

/** The upper directories of overlayfs do not depend on each other. */
function canRebase({ name, capabilities }: Snapshotter): boolean {
  return name === DEFAULT_SNAPSHOTTER && capabilities.includes('rebase');
}

/** A snapshot without a parent is a directory; with the whiteouts of an upper directory it will be one. */
function looseTarget(mounts: Mounts): UnpackTarget {
  return { root: mounts[0]?.source ?? '', whiteouts: 'overlay', lowers: 'unknown' };
}

function typeOf(snapshotter: Snapshotter): string {
  return `snapshots/${snapshotter.name}`;
}
