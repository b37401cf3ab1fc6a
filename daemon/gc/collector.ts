// Garbage collection: mark and removal of records in one transaction, then, once that is durable, the files behind
// them. It decides nothing about when (scheduler.ts) nor about what is reachable (graph.ts). It learns of changes from
// the database itself, so services need not tell it.

import { SnapshotRemove } from '../../proto/generated/containerd.events';
import { ImageDelete } from '../../proto/generated/containerd.services.images.v1';
import { nowNs } from '../../proto/time';
import type { EventBus } from '../events/bus';
import type { Database } from '../metadata/database';
import { MUTATION, nextExpiryNs, prepareGraph, type ResourceNode, removeUnreferenced, takeDirty } from './graph';
import { SCHEDULER_DEFAULTS, Scheduler, type SchedulerOptions } from './scheduler';
import { findWhy, type Step } from './why';

/** Removes what no record stands for any more: blob files, snapshot directories. */
export interface Sweeper {
  /** content, snapshots or snapshots/NAME: swept when records of that type were removed, and in the first run. */
  readonly type: string;
  sweep(): Promise<void>;
}

export interface GcResult {
  readonly removed: readonly ResourceNode[];
  /** How long the mark and the removal of records held up everything else. */
  readonly pauseMs: number;
}

export interface CollectorDeps {
  readonly db: Database;
  readonly events: EventBus;
  readonly options?: Partial<SchedulerOptions>;
  readonly onError: (error: unknown) => void;
  readonly onCollected?: (result: GcResult) => void;
}

const NS_PER_MS = 1_000_000n;
const SNAPSHOTS = 'snapshots/';

export class Collector {
  readonly #deps: CollectorDeps;
  readonly #scheduler: Scheduler;
  readonly #sweepers: Sweeper[] = [];
  readonly #pins: (() => Iterable<ResourceNode>)[] = [];
  /** Types with files that may have lost their record; undefined before the first run: all of them. */
  #dirty: Set<string> | undefined;
  #isMarking = false;
  #last: GcResult = { removed: [], pauseMs: 0 };

  constructor(deps: CollectorDeps) {
    this.#deps = deps;
    prepareGraph(deps.db);
    this.#scheduler = new Scheduler(
      { ...SCHEDULER_DEFAULTS, ...deps.options },
      {
        collect: () => this.#collect(),
        nextExpiryMs: () => this.#nextExpiryMs(),
        onError: deps.onError,
      },
    );
    deps.db.onCommit(() => this.#noteCommit());
  }

  addSweeper(sweeper: Sweeper): void {
    this.#sweepers.push(sweeper);
  }

  /** Adds roots that only the running daemon knows of, such as ingests with an open writer. */
  addPins(pins: () => Iterable<ResourceNode>): void {
    this.#pins.push(pins);
  }

  start(): void {
    this.#scheduler.start();
  }

  async stop(): Promise<void> {
    await this.#scheduler.stop();
  }

  /** A collection that begins after this call, files included. What a `sync` deletion waits for. */
  async run(): Promise<GcResult> {
    await this.#scheduler.run();
    return this.#last;
  }

  /** Why an object is kept: the chain of references from a root to it, empty when nothing keeps it. */
  why(object: ResourceNode): Step[] {
    return findWhy(this.#deps.db, object, this.#currentPins());
  }

  async #collect(): Promise<number> {
    const { db } = this.#deps;
    const startedAt = performance.now();
    const removed = this.#mark();
    const pauseMs = performance.now() - startedAt;
    this.#publish(removed);
    // Files go only when their records are surely gone: after a power cut a record must not outlive its file.
    await db.durable();
    await this.#sweep(removed);
    this.#last = { removed, pauseMs };
    this.#deps.onCollected?.(this.#last);
    return pauseMs;
  }

  #mark(): ResourceNode[] {
    this.#isMarking = true;
    try {
      return removeUnreferenced(this.#deps.db, this.#currentPins(), nowNs());
    } finally {
      this.#isMarking = false;
    }
  }

  /** Runs after every transaction of the daemon: whatever deleted something, no service has to say so. */
  #noteCommit(): void {
    if (this.#isMarking) return;
    const types = takeDirty(this.#deps.db);
    if (types.length === 0) return;
    const deleted = types.filter((type) => type !== MUTATION);
    for (const type of deleted) this.#dirty?.add(type);
    this.#scheduler.note(deleted.length > 0 ? 'deletion' : 'mutation');
  }

  #currentPins(): ResourceNode[] {
    return this.#pins.flatMap((pins) => [...pins()]);
  }

  #publish(removed: readonly ResourceNode[]): void {
    const { events } = this.#deps;
    for (const { namespace, type, key } of removed) {
      if (type === 'images') {
        events.publish(namespace, '/images/delete', ImageDelete, { name: key });
      } else if (type.startsWith(SNAPSHOTS)) {
        const snapshotter = type.slice(SNAPSHOTS.length);
        events.publish(namespace, '/snapshot/remove', SnapshotRemove, { key, snapshotter });
      }
    }
  }

  async #sweep(removed: readonly ResourceNode[]): Promise<void> {
    const dirty = this.#dirty;
    this.#dirty = new Set();
    const types = new Set(
      removed.map(({ type }) => (type === 'ingests' ? 'content' : type)).concat([...(dirty ?? [])]),
    );
    const due = this.#sweepers.filter((sweeper) => dirty === undefined || isTouched(sweeper.type, types));
    const results = await Promise.allSettled(due.map((sweeper) => sweeper.sweep()));
    for (const [index, result] of results.entries()) {
      if (result.status === 'fulfilled') continue;
      this.#dirty.add(due[index]?.type ?? '');
      this.#deps.onError(result.reason);
    }
  }

  #nextExpiryMs(): number | undefined {
    const now = nowNs();
    const next = nextExpiryNs(this.#deps.db, now);
    return next === undefined ? undefined : Number((next - now) / NS_PER_MS);
  }
}

function isTouched(sweeperType: string, types: ReadonlySet<string>): boolean {
  for (const type of types) {
    if (type === sweeperType || type.startsWith(`${sweeperType}/`) || sweeperType.startsWith(`${type}/`)) return true;
  }
  return false;
}
