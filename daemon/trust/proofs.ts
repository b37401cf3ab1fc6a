// What has been proved stays proved: which images have a signature that a rule wants, so that an image that is here can be
// run when its registry cannot be asked.

import { nowNs } from '../../proto/time';
import type { Database } from '../metadata/database';
import type { SignatureDemand } from './policy';

export class Proofs {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Forgets what was proved of images that are no more. */
  prune(): void {
    this.#db.transaction(() => {
      this.#db.prepare('DELETE FROM proofs WHERE digest NOT IN (SELECT digest FROM images)').run();
    });
  }

  has(digest: string, { id }: SignatureDemand): boolean {
    return this.#db.prepare('SELECT 1 FROM proofs WHERE digest = ? AND demand = ?').get(digest, id) !== undefined;
  }

  add(digest: string, { id }: SignatureDemand): void {
    this.#db.transaction(() => {
      this.#db
        .prepare('INSERT INTO proofs (digest, demand, proved_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING')
        .run(digest, id, nowNs());
    });
  }
}
