// The contract of snapshotters on both drivers, in process.

import { directApi } from '../../suites/api';
import { openSnapshotBench } from '../../suites/snapshot-bench';
import { snapshotterSuite } from '../../suites/snapshotter.suite';

for (const snapshotter of ['overlayfs', 'native']) {
  snapshotterSuite('in process', snapshotter, async () => {
    const bench = await openSnapshotBench();
    return { api: directApi(bench.service), bench, close: () => bench.close() };
  });
}
