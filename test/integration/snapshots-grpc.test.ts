// The contract of snapshotters over a real socket.

import { join } from 'node:path';
import { ApiServer } from '../../daemon/grpc/server';
import { describeUnless } from '../setup/needs';
import { remoteApi } from '../suites/api';
import { openSnapshotBench } from '../suites/snapshot-bench';
import { rebaseSuite } from '../suites/snapshot-rebase';
import { snapshotterSuite } from '../suites/snapshotter.suite';
import { SNAPSHOTTERS } from '../suites/snapshotters';

for (const { snapshotter, canRebase, missing, mountRoot } of SNAPSHOTTERS) {
  const open = async () => {
    const bench = await openSnapshotBench({ mountRoot });
    const server = new ApiServer([bench.service], {
      durable: () => bench.db.durable(),
      writeCount: () => bench.db.changes,
      onEnd: () => {},
    });
    const socket = join(bench.directory, 'api.sock');
    await server.listen(socket);
    const api = remoteApi(socket);
    return {
      api,
      bench,
      close: async () => {
        await api.close();
        await server.close(100);
        await bench.close();
      },
    };
  };
  describeUnless(missing)('Snapshots', () => {
    snapshotterSuite('gRPC', snapshotter, open);
    rebaseSuite(snapshotter, canRebase, open);
  });
}
