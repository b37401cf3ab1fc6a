// Records written straight into the tables, for tests that need a graph rather than the services that make it.

import { createHash } from 'node:crypto';
import type { Database } from '../../daemon/metadata/database';
import { expiryOf } from '../../daemon/metadata/expiry';

export type Labels = Readonly<Record<string, string>>;

/** A digest made from a name. */
export function digest(name: string): string {
  return `sha256:${createHash('sha256').update(name).digest('hex')}`;
}

/** Inserts records of one namespace. Blobs are named, their digests made from the name. */
export class Records {
  readonly #db: Database;
  readonly #namespace: string;

  constructor(db: Database, namespace = 'ns') {
    this.#db = db;
    this.#namespace = namespace;
  }

  blob(name: string, labels: Labels = {}): this {
    return this.#insert('blobs', {
      digest: digest(name),
      size: 1,
      labels: JSON.stringify(labels),
      created_at: 1,
      updated_at: 1,
    });
  }

  image(name: string, target: string, labels: Labels = {}): this {
    return this.#insert('images', {
      name,
      labels: JSON.stringify(labels),
      digest: digest(target),
      media_type: 'x',
      size: 1,
      annotations: '{}',
      expires_at: expiryOf(labels),
      created_at: 1,
      updated_at: 1,
    });
  }

  snapshot(key: string, parent?: string, labels: Labels = {}, snapshotter = 'overlayfs'): this {
    const parentId =
      parent === undefined
        ? null
        : this.#db
            .prepare('SELECT id FROM snapshots WHERE namespace = ? AND snapshotter = ? AND key = ?')
            .pluck()
            .get(this.#namespace, snapshotter, parent);
    return this.#insert('snapshots', {
      snapshotter,
      key,
      kind: 'committed',
      parent_id: parentId,
      labels: JSON.stringify(labels),
      created_at: 1,
      updated_at: 1,
    });
  }

  container(id: string, snapshotKey = '', labels: Labels = {}): this {
    return this.#insert('containers', {
      id,
      labels: JSON.stringify(labels),
      image: '',
      runtime_name: '',
      spec: Buffer.alloc(0),
      snapshotter: snapshotKey === '' ? '' : 'overlayfs',
      snapshot_key: snapshotKey,
      extensions: Buffer.alloc(0),
      sandbox: '',
      created_at: 1,
      updated_at: 1,
    });
  }

  ingest(ref: string, options: { expected?: string; expiresAtNs?: bigint } = {}): this {
    return this.#insert('ingests', {
      ref,
      directory: `${this.#namespace}-${ref}`,
      expected: options.expected === undefined ? '' : digest(options.expected),
      total: 0,
      started_at: 1,
      updated_at: 1,
      expires_at: options.expiresAtNs ?? 0n,
    });
  }

  /** Resources are [type, id]; the id of content is a blob's name. */
  lease(id: string, resources: readonly (readonly [string, string])[], labels: Labels = {}): this {
    this.#insert('leases', { id, labels: JSON.stringify(labels), expires_at: expiryOf(labels), created_at: 1 });
    for (const [type, name] of resources) {
      this.#insert('lease_resources', { lease: id, type, resource: type === 'content' ? digest(name) : name });
    }
    return this;
  }

  #insert(table: string, row: Record<string, unknown>): this {
    const columns = Object.keys(row);
    const marks = columns.map(() => '?').join(', ');
    this.#db.transaction(() => {
      this.#db
        .prepare(`INSERT INTO ${table} (namespace, ${columns.join(', ')}) VALUES (?, ${marks})`)
        .run(this.#namespace, ...Object.values(row));
    });
    return this;
  }
}
