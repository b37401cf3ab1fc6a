// The isolated sharing policy: blobs of other namespaces spare no upload, unless their namespace says so.

import { WriteAction } from '../../../../proto/generated/containerd.services.content.v1';
import { directApi } from '../../../suites/api';
import { openBench } from '../../../suites/content-bench';
import { ContentClient, fresh, start, writeBlob } from '../../../suites/content-client';

it('isolated content is shared only by namespaces that are labelled shareable', async () => {
  const bench = await openBench('isolated');
  try {
    const client = new ContentClient(directApi(...bench.services));
    const data = fresh();
    const expected = await writeBlob(client.api, data);
    const open = async () => {
      const dialog = client.write({ namespace: 'other' });
      const { offset } = await dialog.ask(start(client.newRef(), { expected }));
      await dialog.end();
      return offset;
    };

    const before = await open();
    bench.db.transaction(() =>
      bench.db
        .prepare(`UPDATE namespaces SET labels = '{"containerd.io/namespace.shareable":"true"}' WHERE name = 'default'`)
        .run(),
    );
    const after = await open();

    expect([before, after]).toEqual([0n, 100n]);
  } finally {
    await bench.close();
  }
});

it('a blob of another namespace with another size than announced is not shared', async () => {
  const bench = await openBench();
  try {
    const client = new ContentClient(directApi(...bench.services));
    const expected = await writeBlob(client.api, fresh());
    const dialog = client.write({ namespace: 'other' });

    const stat = await dialog.ask(start(client.newRef(), { expected, total: 99n }));

    expect(stat.offset).toBe(0n);
    await dialog.end();
  } finally {
    await bench.close();
  }
});

it('a shared blob stays while an ingest relies on it, though its last record goes', async () => {
  const bench = await openBench();
  try {
    const client = new ContentClient(directApi(...bench.services));
    const data = fresh();
    const expected = await writeBlob(client.api, data);
    const dialog = client.write({ namespace: 'other' });
    await dialog.ask(start(client.newRef(), { expected }));
    await bench.collector.run();

    const commit = await dialog.ask({ action: WriteAction.COMMIT, offset: 100n });

    expect(bench.removed.map(({ key }) => key)).toEqual([expected]);
    expect(commit.digest).toBe(expected);
    expect((await client.info(expected, { namespace: 'other' }))?.size).toBe(100n);
  } finally {
    await bench.close();
  }
});
