// The content contract on the services in process.

import { directApi } from '../../../suites/api';
import { contentSuite } from '../../../suites/content.suite';
import { openBench } from '../../../suites/content-bench';

contentSuite('in process', async () => {
  const bench = await openBench();
  return { api: directApi(...bench.services), close: () => bench.close() };
});
