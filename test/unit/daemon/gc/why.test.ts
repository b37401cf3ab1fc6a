// The chains that `gantry gc why` shows.

import type { ResourceNode } from '../../../../daemon/gc/graph';
import { findWhy, requireObject } from '../../../../daemon/gc/why';
import { GraphBench } from '../../../suites/graph-bench';
import { digest, type Records } from '../../../suites/records';

let bench: GraphBench;
let records: Records;

beforeEach(() => {
  bench = new GraphBench();
  records = bench.records;
});
afterEach(() => bench.close());

function why(type: string, key: string, pins: readonly ResourceNode[] = []): string[] {
  return findWhy(bench.db, { namespace: 'ns', type, key }, pins).map(
    (step) => `${step.type} ${step.key} (${step.cause})`,
  );
}

describe('findWhy()', () => {
  it('shows the way from the root to the object', () => {
    records
      .blob('layer')
      .blob('manifest', { 'containerd.io/gc.ref.content.l.0': digest('layer') })
      .image('web:1', 'manifest');

    expect(why('content', digest('layer'))).toEqual([
      'images web:1 (image)',
      `content ${digest('manifest')} (target)`,
      `content ${digest('layer')} (containerd.io/gc.ref.content.l.0)`,
    ]);
  });

  it('shows the shortest of several ways', () => {
    records
      .blob('a', { 'containerd.io/gc.ref.content': digest('b') })
      .blob('b')
      .image('image', 'a')
      .lease('mine', [['content', 'b']]);

    expect(why('content', digest('b'))).toEqual([`content ${digest('b')} (lease mine)`]);
  });

  it('shows nothing for what only a flat lease would have to follow labels to', () => {
    records
      .blob('a', { 'containerd.io/gc.ref.content': digest('b') })
      .blob('b')
      .lease('flat', [['content', 'a']], { 'containerd.io/gc.flat': 'x' });

    expect(why('content', digest('b'))).toEqual([]);
    expect(why('content', digest('a'))).toEqual([`content ${digest('a')} (lease flat)`]);
  });

  it('knows containers, parents, roots and open writers', () => {
    records
      .snapshot('base')
      .snapshot('top', 'base')
      .container('web', 'top')
      .snapshot('kept', undefined, { 'containerd.io/gc.root': 'x' })
      .ingest('i');

    expect(why('snapshots/overlayfs', 'base')).toEqual([
      'containers web (container)',
      'snapshots/overlayfs top (snapshot)',
      'snapshots/overlayfs base (parent)',
    ]);
    expect(why('snapshots/overlayfs', 'kept')).toEqual(['snapshots/overlayfs kept (containerd.io/gc.root)']);
    expect(why('ingests', 'i')).toEqual([]);
    expect(why('ingests', 'i', [{ namespace: 'ns', type: 'ingests', key: 'i' }])).toEqual(['ingests i (in use)']);
  });
});

describe('requireObject()', () => {
  it('knows objects of every type, and refuses what is none', () => {
    records.blob('a').image('web:1', 'a').container('web').ingest('i').snapshot('base');
    const look = (type: string, key: string) => () => requireObject(bench.db, { namespace: 'ns', type, key });

    for (const [type, key] of [
      ['content', digest('a')],
      ['images', 'web:1'],
      ['containers', 'web'],
      ['ingests', 'i'],
      ['snapshots/overlayfs', 'base'],
    ] as const) {
      expect(look(type, key)).not.toThrow();
      expect(look(type, 'nothing')).toThrow(`${type} "nothing" in namespace "ns": not found`);
    }
    expect(look('snapshots/native', 'base')).toThrow(/not found/);
    for (const type of ['snapshots', 'leases', '', 'content/x', 'constructor']) {
      expect(look(type, 'base')).toThrow(`type "${type}" is none of containers, content, images`);
    }
  });
});
