// Random graphs, collected by the daemon's SQL and by a plain walk over the same records written here. The seed of a
// failure is in the test's name; changes between collections go through UPDATE and DELETE, so the triggers are tested too.

import { findUnreferenced, type ResourceNode, removeUnreferenced } from '../../../../daemon/gc/graph';
import { findWhy } from '../../../../daemon/gc/why';
import type { Database } from '../../../../daemon/metadata/database';
import { nowNs } from '../../../../proto/time';
import { GraphBench } from '../../../suites/graph-bench';
import { digest, Records } from '../../../suites/records';

const NAMESPACES = ['one', 'two'];
const SNAPSHOTTERS = ['overlayfs', 'native'];
const EXPIRES = ['2001-01-01T00:00:00Z', '2200-01-01T00:00:00Z', 'nonsense'];
const OBJECTS = 30;
const ROUNDS = 4;
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

type Row = Record<string, string | bigint | null>;
type Random = (below: number) => number;

describe.each(SEEDS)('garbage collection of random graph %i', (seed) => {
  it('removes exactly what a plain walk does not reach', async () => {
    const random = randomOf(seed);
    const bench = new GraphBench();
    const { db } = bench;
    try {
      for (const namespace of NAMESPACES) build(db, namespace, random);
      for (let round = 0; round < ROUNDS; round += 1) {
        const live = walk(db);
        const before = allObjects(db);
        explainAll(db, before, live);
        const { garbage, unused } = findUnreferenced(db, [], nowNs());

        const removed = removeUnreferenced(db, [], nowNs()).map(idOf);

        expect(removed.sort()).toEqual(before.filter((object) => !live.has(object)).sort());
        // It told before what would go, but for leases, which keep and are not kept.
        const collected = removed.filter((object) => (JSON.parse(object) as string[])[1] !== 'leases');
        expect(garbage.map(idOf).sort()).toEqual(collected);
        expect(new Set(unused.map(idOf))).toEqual(new Set([...unused, ...garbage].map(idOf)));
        expect(db.prepare('PRAGMA foreign_key_check').all()).toEqual([]);
        for (const namespace of NAMESPACES) change(db, namespace, random);
      }
    } finally {
      await bench.close();
    }
  });
});

function idOf({ namespace, type, key }: ResourceNode): string {
  return id(namespace, type, key);
}

/** findWhy() finds a chain for everything that lives and none for the rest. */
function explainAll(db: Database, objects: readonly string[], live: ReadonlySet<string>): void {
  for (const object of objects) {
    const [namespace = '', type = '', key = ''] = JSON.parse(object) as string[];
    if (type === 'leases') continue;
    const chain = findWhy(db, { namespace, type, key }, []);
    expect([object, chain.length > 0]).toEqual([object, live.has(object)]);
  }
}

function build(db: Database, namespace: string, random: Random): void {
  const records = new Records(db, namespace);
  const committed: [string, string][] = [];
  for (let index = 0; index < OBJECTS; index += 1) {
    records.blob(`blob${index}`, labels(random, true));
    const snapshotter = pick(random, SNAPSHOTTERS);
    const parent = committed.find(([name]) => name === snapshotter && random(3) > 0)?.[1];
    records.snapshot(`snapshot${index}`, parent, labels(random, true), snapshotter);
    committed.unshift([snapshotter, `snapshot${index}`]);
    if (random(4) === 0)
      records.image(`image${index}`, name(random, 'blob'), { ...labels(random, false), ...expiry(random) });
    if (random(8) === 0) records.container(`container${index}`, name(random, 'snapshot'), labels(random, false));
    if (random(8) === 0) {
      const expiresAtNs = random(2) === 0 ? 1n : nowNs() * 2n;
      records.ingest(
        `ingest${index}`,
        random(2) === 0 ? { expiresAtNs } : { expiresAtNs, expected: name(random, 'blob') },
      );
    }
    if (random(8) === 0) {
      const resources = new Map<string, readonly [string, string]>();
      for (let count = random(5); count > 0; count -= 1) {
        const resource = leased(random);
        resources.set(resource.join(' '), resource);
      }
      const flat = random(2) === 0 ? { 'containerd.io/gc.flat': 'x' } : {};
      records.lease(`lease${index}`, [...resources.values()], { ...flat, ...expiry(random) });
    }
  }
}

/** Some updates and deletions behind the collector's back. */
function change(db: Database, namespace: string, random: Random): void {
  db.transaction(() => {
    for (const table of ['blobs', 'images', 'containers', 'snapshots']) {
      const key = { blobs: 'digest', images: 'name', containers: 'id', snapshots: 'key' }[table];
      for (const row of db.prepare(`SELECT * FROM ${table} WHERE namespace = ?`).all(namespace) as Row[]) {
        if (random(3) > 0) continue;
        db.prepare(
          `UPDATE ${table} SET labels = ?${table === 'images' ? ', expires_at = 0' : ''} WHERE namespace = ? AND ${key} = ?`,
        ).run(
          JSON.stringify(labels(random, table === 'blobs' || table === 'snapshots')),
          namespace,
          row[key as string],
        );
      }
    }
    const containers = db.prepare('SELECT id FROM containers WHERE namespace = ?').pluck().all(namespace) as string[];
    for (const container of containers) {
      if (random(2) === 0)
        db.prepare('DELETE FROM containers WHERE namespace = ? AND id = ?').run(namespace, container);
    }
    const leases = db.prepare('SELECT id FROM leases WHERE namespace = ?').pluck().all(namespace) as string[];
    for (const lease of leases) {
      if (random(3) === 0) db.prepare('DELETE FROM leases WHERE namespace = ? AND id = ?').run(namespace, lease);
    }
  });
}

function labels(random: Random, withRoot: boolean): Record<string, string> {
  const result: Record<string, string> = {};
  for (let count = random(3); count > 0; count -= 1) {
    const snapshotter = pick(random, SNAPSHOTTERS);
    const [key, value] = pick<[string, string]>(random, [
      [`ref.content.l.${random(3)}`, digest(name(random, 'blob'))],
      ['ref.content', digest(name(random, 'blob'))],
      [`ref.snapshot.${snapshotter}${random(2) === 0 ? '/x' : ''}`, name(random, 'snapshot')],
      ['ref.image/y', name(random, 'image')],
      ['bref.content.z', digest(name(random, 'blob'))],
      [`bref.snapshot.${snapshotter}`, name(random, 'snapshot')],
      ['bref.image', name(random, 'image')],
      ['bref.container', name(random, 'container')],
      ['ref.contents', digest(name(random, 'blob'))],
    ]);
    result[`containerd.io/gc.${key}`] = value;
  }
  if (withRoot && random(15) === 0) result['containerd.io/gc.root'] = 'x';
  return result;
}

function expiry(random: Random): Record<string, string> {
  return random(3) > 0 ? {} : { 'containerd.io/gc.expire': pick(random, EXPIRES) };
}

function leased(random: Random): readonly [string, string] {
  return pick<readonly [string, string]>(random, [
    ['content', name(random, 'blob')],
    ['images', name(random, 'image')],
    ['ingests', name(random, 'ingest')],
    [`snapshots/${pick(random, SNAPSHOTTERS)}`, name(random, 'snapshot')],
  ]);
}

function name(random: Random, kind: string): string {
  return `${kind}${random(OBJECTS)}`;
}

/** What lives, by a walk over the records as they are. Nodes carry whether they were reached through a flat lease. */
function walk(db: Database): Set<string> {
  const edges = new Map<string, { to: string; isLabel: boolean }[]>();
  const roots: { node: string; flat: boolean }[] = [];
  const edge = (from: string, to: string, isLabel: boolean) =>
    edges.set(from, [...(edges.get(from) ?? []), { to, isLabel }]);
  const all = (table: string) => db.prepare(`SELECT * FROM ${table}`).all() as Row[];
  const isPast = (row: Row) => (JSON.parse(String(row['labels'])) as Row)['containerd.io/gc.expire'] === EXPIRES[0];

  for (const row of all('blobs')) labelEdges(row, id(row['namespace'], 'content', row['digest']));
  for (const row of all('containers')) {
    const node = id(row['namespace'], 'containers', row['id']);
    roots.push({ node, flat: false });
    edge(node, id(row['namespace'], `snapshots/${row['snapshotter']}`, row['snapshot_key']), false);
    labelEdges(row, node);
  }
  for (const row of all('images')) {
    const node = id(row['namespace'], 'images', row['name']);
    if (!isPast(row)) roots.push({ node, flat: false });
    edge(node, id(row['namespace'], 'content', row['digest']), false);
    labelEdges(row, node);
  }
  const snapshots = all('snapshots');
  for (const row of snapshots) {
    const node = id(row['namespace'], `snapshots/${row['snapshotter']}`, row['key']);
    const parent = snapshots.find((other) => other['id'] === row['parent_id']);
    if (parent !== undefined)
      edge(node, id(parent['namespace'], `snapshots/${parent['snapshotter']}`, parent['key']), false);
    labelEdges(row, node);
  }
  for (const row of all('ingests')) {
    const node = id(row['namespace'], 'ingests', row['ref']);
    if ((row['expires_at'] as bigint) > 1n) roots.push({ node, flat: false });
    if (row['expected'] !== '') edge(node, id(row['namespace'], 'content', row['expected']), false);
  }
  for (const lease of all('leases')) {
    if (isPast(lease)) continue;
    const isFlat = 'containerd.io/gc.flat' in (JSON.parse(String(lease['labels'])) as Row);
    for (const row of all('lease_resources')) {
      if (row['namespace'] !== lease['namespace'] || row['lease'] !== lease['id']) continue;
      const flat = isFlat && row['type'] !== 'ingests';
      roots.push({ node: id(row['namespace'], row['type'], row['resource']), flat });
    }
  }

  const seen = new Set<string>();
  const live = new Set(
    all('leases')
      .filter((row) => !isPast(row))
      .map((row) => id(row['namespace'], 'leases', row['id'])),
  );
  for (let next = roots.pop(); next !== undefined; next = roots.pop()) {
    const state = `${next.node} ${next.flat}`;
    if (seen.has(state)) continue;
    seen.add(state);
    live.add(next.node);
    for (const { to, isLabel } of edges.get(next.node) ?? []) {
      if (!next.flat || !isLabel) roots.push({ node: to, flat: next.flat });
    }
  }
  return live;

  function labelEdges(row: Row, owner: string): void {
    for (const [key, value] of Object.entries(JSON.parse(String(row['labels'])) as Record<string, string>)) {
      const match = /^containerd\.io\/gc\.(ref|bref)\.(content|image|container|snapshot\.([^/]+))(?:[./].*)?$/.exec(
        key,
      );
      if (key === 'containerd.io/gc.root') roots.push({ node: owner, flat: false });
      if (match === null) continue;
      const type =
        match[3] === undefined
          ? { content: 'content', image: 'images', container: 'containers' }[match[2] ?? '']
          : `snapshots/${match[3]}`;
      const other = id(row['namespace'], type, value);
      if (match[1] === 'ref') edge(owner, other, true);
      else edge(other, owner, true);
    }
  }
}

function allObjects(db: Database): string[] {
  return [
    ['blobs', `'content'`, 'digest'],
    ['images', `'images'`, 'name'],
    ['snapshots', `'snapshots/' || snapshotter`, 'key'],
    ['ingests', `'ingests'`, 'ref'],
    ['leases', `'leases'`, 'id'],
  ].flatMap(([table, type, key]) =>
    (db.prepare(`SELECT namespace, ${type} AS type, ${key} AS key FROM ${table}`).all() as Row[]).map((row) =>
      id(row['namespace'], row['type'], row['key']),
    ),
  );
}

function id(...parts: unknown[]): string {
  return JSON.stringify(parts);
}

function pick<T>(random: Random, items: readonly T[]): T {
  return items[random(items.length)] as T;
}

/** A small linear congruential generator: the same numbers for the same seed. */
function randomOf(seed: number): Random {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
