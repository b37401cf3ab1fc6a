// What `gantry gc df` shows.

import { diskUsage, type Usage } from '../../../../daemon/gc/usage';
import { ContentService, WriteAction } from '../../../../proto/generated/containerd.services.content.v1';
import type { Snapshotter } from '../../../../snapshotter/snapshotter';
import { directApi } from '../../../suites/api';
import { type Bench, openBench } from '../../../suites/content-bench';
import { digest, Records } from '../../../suites/records';

let bench: Bench;

beforeEach(async () => {
  bench = await openBench();
});
afterEach(() => bench.close());

/** As "namespace type: count bytes, garbage count bytes, unused count bytes, unmeasured". */
async function usage(snapshotters: ReadonlyMap<string, Snapshotter> = new Map()): Promise<string[]> {
  const { db, collector, content } = bench;
  return (await diskUsage({ db, collector, content, snapshotters })).map(text);
}

function text(one: Usage): string {
  const { namespace, type, count, sizeBytes, garbageCount, garbageBytes, unusedCount, unusedBytes } = one;
  const parts = [`${garbageCount} ${garbageBytes}`, `${unusedCount} ${unusedBytes}`, `${one.unmeasuredCount}`];
  return `${namespace} ${type}: ${count} ${sizeBytes}, ${parts.join(', ')}`;
}

const NO_SNAPSHOTTER: ReadonlyMap<string, Snapshotter> = new Map();

describe('diskUsage()', () => {
  it('tells apart what is kept, what only images without containers keep, and garbage', async () => {
    new Records(bench.db, 'a')
      .blob('used')
      .blob('unused')
      .blob('garbage')
      .blob('leased')
      .image('used:1', 'used')
      .image('unused:1', 'unused')
      .container('web')
      .lease('mine', [['content', 'leased']]);
    bench.db.transaction(() => {
      bench.db.prepare(`UPDATE containers SET image = 'used:1'`).run();
      bench.db.prepare(`UPDATE blobs SET size = 10 WHERE digest = ?`).run(digest('garbage'));
    });

    expect(await usage()).toEqual([
      'a content: 4 13, 1 10, 1 1, 0',
      'a images: 2 0, 0 0, 1 0, 0',
      ' content: 4 13, 1 10, 1 1, 0',
      ' images: 2 0, 0 0, 1 0, 0',
    ]);
    // Looking has changed nothing.
    expect((await bench.collector.run()).removed.map(({ key }) => key)).toEqual([digest('garbage')]);
  });

  it('counts a blob of several namespaces once among all of them, and by the best of its fates', async () => {
    new Records(bench.db, 'a').blob('shared').image('i', 'shared');
    new Records(bench.db, 'b').blob('shared');

    expect(await usage()).toEqual([
      'a content: 1 1, 0 0, 1 1, 0',
      'a images: 1 0, 0 0, 1 0, 0',
      'b content: 1 1, 1 1, 0 0, 0',
      ' content: 1 1, 0 0, 1 1, 0',
      ' images: 1 0, 0 0, 1 0, 0',
    ]);
  });

  it('measures ingests and snapshots in use, and says what it cannot measure', async () => {
    const dialog = directApi(...bench.services).dialog(ContentService.write);
    await dialog.ask({ action: WriteAction.WRITE, ref: 'r', data: Buffer.alloc(100) });
    new Records(bench.db, 'default').snapshot('base').snapshot('top', 'base').snapshot('x', undefined, {}, 'remote');
    bench.db.transaction(() => {
      bench.db.prepare(`UPDATE snapshots SET size = 5 WHERE key = 'base'`).run();
      bench.db.prepare(`UPDATE snapshots SET kind = 'active' WHERE key != 'base'`).run();
    });
    const overlayfs = { usage: async () => ({ sizeBytes: 7n, inodes: 1n }) } as unknown as Snapshotter;

    const all = await usage(new Map([['overlayfs', overlayfs]]));
    await dialog.end();

    expect(all.slice(0, 3)).toEqual([
      'default ingests: 1 100, 0 0, 0 0, 0',
      'default snapshots/overlayfs: 2 12, 2 12, 0 0, 0',
      'default snapshots/remote: 1 0, 1 0, 0 0, 1',
    ]);
    expect(await usage(NO_SNAPSHOTTER)).toContain('default snapshots/overlayfs: 2 5, 2 5, 0 0, 1');
  });
});
