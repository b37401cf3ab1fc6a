// What garbage collection keeps and removes, label by label, on a real database.

import { type ResourceNode, removeUnreferenced } from '../../../../daemon/gc/graph';
import { nowNs } from '../../../../proto/time';
import { GraphBench } from '../../../suites/graph-bench';
import { digest, Records } from '../../../suites/records';

const DAY_NS = 86_400_000_000_000n;
const GC = 'containerd.io/gc';
const PAST = '2001-01-01T00:00:00Z';
const FUTURE = '2999-01-01T00:00:00+02:00';

let bench: GraphBench;
let records: Records;

beforeEach(() => {
  bench = new GraphBench();
  records = bench.records;
});
afterEach(() => bench.close());

/** Collects and returns what was removed, as "type key" with the names of blobs for their digests. */
function collect(pins: readonly ResourceNode[] = [], names: readonly string[] = []): string[] {
  const byDigest = new Map(names.map((name) => [digest(name), name]));
  return removeUnreferenced(bench.db, pins, nowNs())
    .map(({ type, key }) => `${type} ${byDigest.get(key) ?? key}`)
    .sort();
}

const BLOBS = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];

describe('removeUnreferenced()', () => {
  it('removes blobs, snapshots and unleased ingests without references', () => {
    records.blob('a').snapshot('base').snapshot('top', 'base').ingest('i');
    expect(collect([], BLOBS)).toEqual([
      'content a',
      'ingests i',
      'snapshots/overlayfs base',
      'snapshots/overlayfs top',
    ]);
    expect(collect()).toEqual([]);
  });

  it('follows an image to its target and on through content labels', () => {
    for (const name of ['f', 'g']) records.blob(name);
    records
      .blob('a', {
        [`${GC}.ref.content.config`]: digest('b'),
        [`${GC}.ref.content.l.0`]: digest('c'),
        [`${GC}.ref.content/x`]: digest('d'),
        [`${GC}.ref.contentx`]: digest('f'),
        [`${GC}.ref.snapshot.overlayfs`]: 'top',
      })
      .blob('b', { [`${GC}.ref.content`]: digest('e') })
      .blob('c')
      .blob('d')
      .blob('e')
      .snapshot('base')
      .snapshot('top', 'base')
      .image('image', 'a');
    expect(collect([], BLOBS)).toEqual(['content f', 'content g']);
  });

  it('follows the labels of images, containers and snapshots', () => {
    records
      .blob('a')
      .blob('b')
      .blob('c')
      .blob('d')
      .image('image', 'a', { [`${GC}.ref.content.0`]: digest('b') })
      .container('container', 'root', {
        [`${GC}.ref.content.x`]: digest('c'),
        [`${GC}.ref.snapshot.native/n`]: 'other',
      })
      .snapshot('base')
      .snapshot('root', 'base', { [`${GC}.ref.content`]: digest('d') })
      .snapshot('other', undefined, {}, 'native')
      .snapshot('gone', undefined, {}, 'native');
    expect(collect([], BLOBS)).toEqual(['snapshots/native gone']);
  });

  it('takes the snapshotter of a label up to the first slash', () => {
    records
      .container('container', '', { [`${GC}.ref.snapshot.overlayfs/some/suffix`]: 'a/key with spaces' })
      .snapshot('a/key with spaces')
      .snapshot('a');
    expect(collect()).toEqual(['snapshots/overlayfs a']);
  });

  it('keeps namespaces apart', () => {
    const other = new Records(bench.db, 'other');
    records.blob('a').image('image', 'a');
    other
      .blob('a')
      .blob('b')
      .container('c', '', { [`${GC}.ref.content`]: digest('b') });
    expect(collect([], BLOBS)).toEqual(['content a']);
  });

  it('keeps content and snapshots with a gc.root label, whatever follows the prefix', () => {
    records
      .blob('a', { [`${GC}.root`]: PAST, [`${GC}.ref.content`]: digest('b') })
      .blob('b')
      .blob('c')
      .snapshot('s', undefined, { [`${GC}.root.mine`]: '1' })
      .image('expired', 'c', { [`${GC}.expire`]: PAST, [`${GC}.root`]: 'yes' });
    expect(collect([], BLOBS)).toEqual(['content c', 'images expired']);
  });

  it('keeps what a lease holds, with its references', () => {
    records
      .blob('a', { [`${GC}.ref.content`]: digest('b') })
      .blob('b')
      .blob('c')
      .snapshot('base')
      .snapshot('s', 'base', { [`${GC}.ref.content`]: digest('c') })
      .ingest('i')
      .lease('l', [
        ['content', 'a'],
        ['snapshots/overlayfs', 's'],
        ['ingests', 'i'],
        ['content', 'unknown'],
      ]);
    expect(collect([], BLOBS)).toEqual([]);
    bench.db.transaction(() => bench.db.prepare(`DELETE FROM leases`).run());
    expect(collect([], BLOBS)).toHaveLength(6);
  });

  it('lets a flat lease keep objects and snapshot parents but follow no labels', () => {
    records
      .blob('a', { [`${GC}.ref.content`]: digest('b') })
      .blob('b')
      .blob('c')
      .blob('d', { [`${GC}.ref.content`]: digest('e') })
      .blob('e')
      .snapshot('base', undefined, { [`${GC}.ref.content`]: digest('c') })
      .snapshot('s', 'base')
      .image('image', 'd', { [`${GC}.expire`]: PAST })
      .lease(
        'l',
        [
          ['content', 'a'],
          ['snapshots/overlayfs', 's'],
          ['images', 'image'],
        ],
        { [`${GC}.flat`]: 'x' },
      );
    expect(collect([], BLOBS)).toEqual(['content b', 'content c', 'content e']);
  });

  it('removes expired leases and what only they kept', () => {
    records
      .blob('a')
      .blob('b')
      .blob('c')
      .lease('past', [['content', 'a']], { [`${GC}.expire`]: PAST })
      .lease('future', [['content', 'b']], { [`${GC}.expire`]: FUTURE })
      .lease('odd', [['content', 'c']], { [`${GC}.expire`]: '5' });
    expect(collect([], BLOBS)).toEqual(['content a', 'leases past']);
  });

  it('removes expired images unless something holds them', () => {
    records
      .image('expired', 'a', { [`${GC}.expire`]: PAST })
      .image('fresh', 'b', { [`${GC}.expire`]: FUTURE })
      .image('odd', 'b', { [`${GC}.expire`]: 'tomorrow' })
      .image('leased', 'c', { [`${GC}.expire`]: PAST })
      .image('referenced', 'd', { [`${GC}.expire`]: PAST })
      .blob('a')
      .blob('b', { [`${GC}.ref.image/x`]: 'referenced' })
      .blob('c')
      .blob('d')
      .lease('l', [['images', 'leased']]);
    expect(collect([], BLOBS)).toEqual(['content a', 'images expired']);
  });

  it('keeps ingests until they expire, with the blob that they expect', () => {
    records
      .blob('a')
      .blob('b')
      .ingest('fresh', { expected: 'a', expiresAtNs: nowNs() + DAY_NS })
      .ingest('stale', { expected: 'b', expiresAtNs: nowNs() - 1n });
    expect(collect([], BLOBS)).toEqual(['content b', 'ingests stale']);
  });

  it('keeps what is pinned', () => {
    records.ingest('open').ingest('other');
    expect(collect([{ namespace: 'ns', type: 'ingests', key: 'open' }])).toEqual(['ingests other']);
    expect(collect()).toEqual(['ingests open']);
  });

  it.each([
    [`${GC}.bref.container`, 'web'],
    [`${GC}.bref.container.x`, 'web'],
    [`${GC}.bref.content.x`, digest('root')],
    [`${GC}.bref.image`, 'image'],
    [`${GC}.bref.snapshot.overlayfs/x`, 'rootfs'],
  ])('keeps what refers back by %s', (label, target) => {
    records
      .container('web', 'rootfs')
      .snapshot('rootfs')
      .blob('root')
      .image('image', 'root')
      .blob('a', { [label]: target })
      .blob('b', { [label]: 'nobody' })
      .snapshot('s', undefined, { [label]: target })
      .image('expired', 'c', { [`${GC}.expire`]: PAST, [label]: target })
      .blob('c');
    expect(collect([], BLOBS)).toEqual(['content b']);
  });

  it('follows gc.cond references only while their condition holds', () => {
    const ago = (hours: number) => ({
      [`${GC}.cond.value-usedat`]: new Date(Date.now() - hours * 3_600_000).toISOString(),
    });
    records
      .snapshot('recent', undefined, ago(1))
      .snapshot('old', undefined, ago(100))
      .snapshot('either', undefined, ago(3))
      .snapshot('never')
      .blob('a', {
        [`${GC}.cond.snapshot.overlayfs/1`]: 'usedat<24h|recent',
        [`${GC}.cond.snapshot.overlayfs/2`]: 'usedat<24h|old',
        [`${GC}.cond.snapshot.overlayfs/3`]: 'usedat<1m,usedat>2h30m|either',
        [`${GC}.cond.snapshot.overlayfs/4`]: 'usedat<24h|never',
      })
      .image('image', 'a');
    expect(collect()).toEqual(['snapshots/overlayfs never', 'snapshots/overlayfs old']);
  });

  it('follows labels as they are now', () => {
    records
      .blob('a', { [`${GC}.ref.content.0`]: digest('b') })
      .blob('b')
      .blob('c')
      .image('image', 'a');
    bench.db.transaction(() =>
      bench.db
        .prepare('UPDATE blobs SET labels = ? WHERE digest = ?')
        .run(JSON.stringify({ [`${GC}.ref.content.0`]: digest('c') }), digest('a')),
    );
    expect(collect([], BLOBS)).toEqual(['content b']);
  });

  it('follows a snapshot that was renamed by its commit', () => {
    records.snapshot('base').snapshot('active', 'base').container('web', 'layer');
    bench.db.transaction(() => bench.db.prepare(`UPDATE snapshots SET key = 'layer' WHERE key = 'active'`).run());
    expect(collect()).toEqual([]);
  });

  it('leaves no edges of what it removed', () => {
    records
      .blob('a', { [`${GC}.ref.content`]: digest('b'), [`${GC}.bref.image`]: 'x' })
      .snapshot('p')
      .snapshot('c', 'p');
    collect();
    expect(bench.db.prepare('SELECT * FROM gc_edges').all()).toEqual([]);
  });

  it('stands loops of references', () => {
    records.blob('a', { [`${GC}.ref.content`]: digest('b') }).blob('b', { [`${GC}.ref.content`]: digest('a') });
    expect(collect([], BLOBS)).toEqual(['content a', 'content b']);
  });
});
