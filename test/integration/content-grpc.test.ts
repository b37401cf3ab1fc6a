// The content contract over a real socket.

import { join } from 'node:path';
import { ApiServer } from '../../daemon/grpc/server';
import { remoteApi } from '../suites/api';
import { contentSuite } from '../suites/content.suite';
import { openBench } from '../suites/content-bench';

contentSuite('gRPC', async () => {
  const bench = await openBench();
  const server = new ApiServer(bench.services, {
    durable: () => bench.db.durable(),
    writeCount: () => bench.db.changes,
    onEnd: () => {},
  });
  const socket = join(bench.directory, 'api.sock');
  await server.listen(socket);
  return {
    api: remoteApi(socket),
    close: async () => {
      await server.close(100);
      await bench.close();
    },
  };
});
