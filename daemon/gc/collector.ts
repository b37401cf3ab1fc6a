// Garbage collection: mark and removal of records in one transaction, then, once that is durable, the files behind
// them. It decides nothing about when (scheduler.ts) nor about what is reachable (graph.ts). It learns of changes from
// the database itself, so services need not tell it.

import { SnapshotRemove } from '../../proto/generated/containerd.events';
import { ImageDelete } from '../../proto/generated/containerd.services.images.v1';
import { nowNs } from '../../proto/time';
import type { EventBus } from '../events/bus';
import type { Database } from '../metadata/database';
import {
  findUnreferenced,
  MUTATION,
  nextExpiryNs,
  prepareGraph,
  type ResourceNode,
  removeUnreferenced,
  takeDirty,
  type Unreferenced,
} from './graph';
import { SCHEDULER_DEFAULTS, Scheduler, type SchedulerOptions } from './scheduler';
import { findWhy, requireObject, type Step } from './why';

/** Data that no record stood for. */
export interface SweptData {
  /** content, ingests or snapshots/NAME. */
  readonly type: string;
  readonly count: number;
  /** On disk; 0 where nobody measured it. */
  readonly sizeBytes: bigint;
}

/** Keeps data and records together: blob files, snapshot directories. */
export interface Sweeper {
  /** content, snapshots or snapshots/NAME: swept when records of that type were removed, and in thorough runs. */
  readonly type: string;
  /** Removes what no record stands for any more. `isMeasured`: the sizes are wanted. */
  sweep(isMeasured: boolean): Promise<readonly SweptData[]>;
  /** Records whose data is gone; asked for in thorough runs. */
  lost?(): Promise<readonly ResourceNode[]>;
}

export interface GcResult {
  readonly removed: readonly ResourceNode[];
  readonly swept: readonly SweptData[];
  /** Records without data. They are left alone: what they keep would go with them. */
  readonly lost: readonly ResourceNode[];
  /** Why data could not be looked at. */
  readonly failures: readonly unknown[];
  /** How long the mark and the removal of records held up everything else. */
  readonly pauseMs: number;
  readonly durationMs: number;
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
  #isThoroughWanted = false;
  #last: GcResult = { removed: [], swept: [], lost: [], failures: [], pauseMs: 0, durationMs: 0 };

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

  /** The same, and looks through all data as the first collection does: for orphans, and for records without data. */
  runThoroughly(): Promise<GcResult> {
    this.#isThoroughWanted = true;
    return this.run();
  }

  /**
   * Why an object is kept: the chain of references from a root to it, empty when nothing keeps it.
   * @throws NOT_FOUND, INVALID_ARGUMENT for a type that there is not
   */
  why(object: ResourceNode): Step[] {
    requireObject(this.#deps.db, object);
    return findWhy(this.#deps.db, object, this.#currentPins());
  }

  /** What is on disk, and what of it nothing keeps. */
  findUnreferenced(): Unreferenced {
    return findUnreferenced(this.#deps.db, this.#currentPins(), nowNs());
  }

  async #collect(): Promise<number> {
    const { db } = this.#deps;
    const startedAt = performance.now();
    const isThorough = this.#isThoroughWanted || this.#dirty === undefined;
    this.#isThoroughWanted = false;
    const removed = this.#mark();
    const pauseMs = performance.now() - startedAt;
    this.#publish(removed);
    // Files go only when their records are surely gone: after a power cut a record must not outlive its file.
    await db.durable();
    const data = await this.#sweep(removed, isThorough);
    if (data.swept.some(({ count }) => count > 0)) db.noteRoom();
    this.#last = { removed, ...data, pauseMs, durationMs: performance.now() - startedAt };
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

  async #sweep(
    removed: readonly ResourceNode[],
    isThorough: boolean,
  ): Promise<Pick<GcResult, 'swept' | 'lost' | 'failures'>> {
    const dirty = this.#dirty;
    this.#dirty = new Set();
    const types = new Set(
      removed.map(({ type }) => (type === 'ingests' ? 'content' : type)).concat([...(dirty ?? [])]),
    );
    const due = this.#sweepers.filter((sweeper) => isThorough || isTouched(sweeper.type, types));
    const results = await Promise.allSettled(due.map((sweeper) => sweepOne(sweeper, isThorough)));
    const failures: unknown[] = [];
    for (const [index, result] of results.entries()) {
      if (result.status === 'fulfilled') continue;
      this.#dirty.add(due[index]?.type ?? '');
      failures.push(result.reason);
      this.#deps.onError(result.reason);
    }
    const done = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    return { swept: done.flatMap(({ swept }) => swept), lost: done.flatMap(({ lost }) => lost), failures };
  }

  #nextExpiryMs(): number | undefined {
    const now = nowNs();
    const next = nextExpiryNs(this.#deps.db, now);
    return next === undefined ? undefined : Number((next - now) / NS_PER_MS);
  }
}

async function sweepOne(sweeper: Sweeper, isThorough: boolean) {
  const swept = await sweeper.sweep(isThorough);
  const lost = isThorough ? ((await sweeper.lost?.()) ?? []) : [];
  return { swept, lost };
}

function isTouched(sweeperType: string, types: ReadonlySet<string>): boolean {
  for (const type of types) {
    if (type === sweeperType || type.startsWith(`${sweeperType}/`) || sweeperType.startsWith(`${type}/`)) return true;
  }
  return false;
}
