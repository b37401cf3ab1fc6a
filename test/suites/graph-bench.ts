// A database in a directory of its own, ready for garbage collection.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepareGraph } from '../../daemon/gc/graph';
import { Database } from '../../daemon/metadata/database';
import { Records } from './records';

export class GraphBench {
  readonly #directory = mkdtempSync(join(tmpdir(), 'gantry-graph-'));
  readonly db = Database.open(join(this.#directory, 'meta.db'));
  readonly records = new Records(this.db);

  constructor() {
    prepareGraph(this.db);
  }

  async close(): Promise<void> {
    await this.db.close();
    rmSync(this.#directory, { recursive: true });
  }
}
