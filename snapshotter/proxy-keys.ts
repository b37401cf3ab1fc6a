// What a proxy plug-in keeps for us, in the table `proxy_snapshots`: its keys and names for our snapshots. A key is written
// before the plug-in hears of it, and outlives its snapshot until the plug-in has removed it.

import { randomBytes } from 'node:crypto';
import type { RecordDatabase } from './records';

export interface Leftover {
  readonly namespace: string;
  readonly backendKey: string;
}

const RANDOM_BYTES = 4;

export class ProxyKeys {
  readonly #db: RecordDatabase;
  readonly #snapshotter: string;
  /** What is being made now. */
  readonly #pending = new Set<string>();

  constructor(db: RecordDatabase, snapshotter: string) {
    this.#db = db;
    this.#snapshotter = snapshotter;
  }

  /**
   * Runs the body with a new key, which becomes a leftover unless the body attaches it. Its form is that of containerd,
   * NAMESPACE/NUMBER/KEY, and unique: a plug-in may serve several daemons, or one whose database was lost.
   */
  async withNew<T>(
    namespace: string,
    { id, key }: { readonly id: number; readonly key: string },
    body: (backendKey: string) => Promise<T>,
  ): Promise<T> {
    const backendKey = `${namespace}/${id}.${randomBytes(RANDOM_BYTES).toString('hex')}/${key}`;
    const entry = `${namespace} ${backendKey}`;
    this.#pending.add(entry);
    try {
      this.#run('INSERT INTO proxy_snapshots (snapshotter, namespace, backend_key) VALUES (?, ?, ?)', [
        this.#snapshotter,
        namespace,
        backendKey,
      ]);
      return await body(backendKey);
    } finally {
      this.#pending.delete(entry);
    }
  }

  /** The plug-in's key of a snapshot, empty when there is none. */
  of(id: number): string {
    const key = this.#db.prepare('SELECT backend_key FROM proxy_snapshots WHERE snapshot_id = ?').pluck().get(id);
    return (key as string | undefined) ?? '';
  }

  /** From now on this key stands for the snapshot, and no other. Call it in the transaction that writes the record. */
  attach(id: number, namespace: string, backendKey: string): void {
    this.#run('DELETE FROM proxy_snapshots WHERE snapshot_id = ?', [id]);
    this.#run(
      `INSERT INTO proxy_snapshots (snapshotter, namespace, backend_key, snapshot_id) VALUES (?, ?, ?, ?)
      ON CONFLICT (snapshotter, namespace, backend_key) DO UPDATE SET snapshot_id = excluded.snapshot_id`,
      [this.#snapshotter, namespace, backendKey, id],
    );
  }

  /**
   * What the plug-in is to remove, children before their parents. A name that the plug-in has chosen may stand for
   * snapshots of several namespaces, and stays until none has it.
   */
  leftovers(): Leftover[] {
    const rows = this.#db
      .prepare(
        `SELECT namespace, backend_key AS backendKey FROM proxy_snapshots p
        WHERE snapshotter = ? AND snapshot_id IS NULL AND NOT EXISTS (
          SELECT 1 FROM proxy_snapshots o WHERE o.snapshotter = p.snapshotter AND o.backend_key = p.backend_key
          AND o.snapshot_id IS NOT NULL
        ) ORDER BY sequence DESC`,
      )
      .all(this.#snapshotter) as Leftover[];
    return rows.filter(({ namespace, backendKey }) => !this.#pending.has(`${namespace} ${backendKey}`));
  }

  /** Forgets a leftover. */
  forget({ namespace, backendKey }: Leftover): void {
    this.#run(
      'DELETE FROM proxy_snapshots WHERE snapshotter = ? AND namespace = ? AND backend_key = ? AND snapshot_id IS NULL',
      [this.#snapshotter, namespace, backendKey],
    );
  }

  #run(sql: string, values: readonly unknown[]): void {
    this.#db.prepare(sql).run(...values);
  }
}
