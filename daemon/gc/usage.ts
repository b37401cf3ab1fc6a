// What is on disk, by namespace and kind, and how much of it could go. Blobs are counted by their records; snapshots that
// are in use and ingests are measured.

import type { Snapshotter } from '../../snapshotter/snapshotter';
import type { ContentStore } from '../content/store';
import type { Database } from '../metadata/database';
import type { Collector } from './collector';
import type { ResourceNode } from './graph';

/** Counts, and sizes in bytes. */
export interface Usage {
  /** Empty: all namespaces, with blobs that several of them have counted once. */
  readonly namespace: string;
  /** content, images, ingests or snapshots/NAME. */
  readonly type: string;
  count: number;
  sizeBytes: bigint;
  garbageCount: number;
  garbageBytes: bigint;
  /** What only images without containers keep. */
  unusedCount: number;
  unusedBytes: bigint;
  /** Whose size is not in the sums, because it cannot be learned. */
  unmeasuredCount: number;
}

export interface UsageDeps {
  readonly db: Database;
  readonly collector: Collector;
  readonly content: ContentStore;
  readonly snapshotters: ReadonlyMap<string, Snapshotter>;
}

type Fate = 'kept' | 'unused' | 'garbage';

interface Item extends ResourceNode {
  /** Undefined: not known. */
  readonly sizeBytes: bigint | undefined;
  readonly fate: Fate;
}

interface Row extends ResourceNode {
  readonly size: bigint;
  readonly kind: string;
}

const ITEMS = `
  SELECT namespace, 'content' AS type, digest AS key, size, '' AS kind FROM blobs
  UNION ALL SELECT namespace, 'images', name, 0, '' FROM images
  UNION ALL SELECT namespace, 'ingests', ref, 0, '' FROM ingests
  UNION ALL SELECT namespace, 'snapshots/' || snapshotter, key, size, kind FROM snapshots`;
const SNAPSHOTS = 'snapshots/';
/** The better the later. */
const FATES: readonly Fate[] = ['garbage', 'unused', 'kept'];

/** By namespace and type; those of all namespaces last. */
export async function diskUsage(deps: UsageDeps): Promise<Usage[]> {
  const { garbage, unused } = deps.collector.findUnreferenced();
  const fates = new Map<string, Fate>();
  for (const node of unused) fates.set(idOf(node), 'unused');
  for (const node of garbage) fates.set(idOf(node), 'garbage');
  const sums = new Sums();
  const blobs = new Map<string, Item>();
  for (const row of deps.db.prepare(ITEMS).safeIntegers().all() as Row[]) {
    const item = { ...row, sizeBytes: await sizeOf(deps, row), fate: fates.get(idOf(row)) ?? ('kept' as const) };
    sums.add(item.namespace, item);
    if (item.type !== 'content') sums.add('', item);
    else blobs.set(item.key, better(item, blobs.get(item.key)));
  }
  for (const blob of blobs.values()) sums.add('', blob);
  return sums.sorted();
}

class Sums {
  readonly #usages = new Map<string, Usage>();

  add(namespace: string, { type, sizeBytes, fate }: Item): void {
    const id = `${namespace} ${type}`;
    const usage = this.#usages.get(id) ?? emptyUsage(namespace, type);
    this.#usages.set(id, usage);
    usage.count += 1;
    usage.sizeBytes += sizeBytes ?? 0n;
    if (sizeBytes === undefined) usage.unmeasuredCount += 1;
    if (fate === 'garbage') {
      usage.garbageCount += 1;
      usage.garbageBytes += sizeBytes ?? 0n;
    } else if (fate === 'unused') {
      usage.unusedCount += 1;
      usage.unusedBytes += sizeBytes ?? 0n;
    }
  }

  sorted(): Usage[] {
    const order = (a: string, b: string) => (a === b ? 0 : a < b ? -1 : 1);
    return [...this.#usages.values()].sort(
      (a, b) =>
        Number(a.namespace === '') - Number(b.namespace === '') ||
        order(a.namespace, b.namespace) ||
        order(a.type, b.type),
    );
  }
}

function emptyUsage(namespace: string, type: string): Usage {
  const none = { count: 0, garbageCount: 0, unusedCount: 0, unmeasuredCount: 0 };
  return { namespace, type, ...none, sizeBytes: 0n, garbageBytes: 0n, unusedBytes: 0n };
}

/** A file stays as long as one namespace keeps the blob. */
function better(item: Item, other: Item | undefined): Item {
  return other !== undefined && FATES.indexOf(other.fate) > FATES.indexOf(item.fate) ? other : item;
}

/** What is removed while this looks takes nothing any more. */
async function sizeOf({ content, snapshotters }: UsageDeps, row: Row): Promise<bigint | undefined> {
  const { namespace, type, key, size, kind } = row;
  try {
    if (type === 'ingests') return (await content.status(namespace, key)).offsetBytes;
    if (!type.startsWith(SNAPSHOTS) || kind === 'committed') return size;
    return (await snapshotters.get(type.slice(SNAPSHOTS.length))?.usage(namespace, key))?.sizeBytes;
  } catch {
    return undefined;
  }
}

function idOf({ namespace, type, key }: ResourceNode): string {
  return JSON.stringify([namespace, type, key]);
}
