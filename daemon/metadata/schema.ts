// The SQL schema, as numbered migrations. schema.md draws it. Times are nanoseconds since 1970; labels, annotations
// and extensions are JSON objects; Any values are stored in their encoded form.

import { REFERENCE_SCHEMA } from './reference-schema';

/** Each entry is one migration; its index plus one is the schema version (PRAGMA user_version). */
export const MIGRATIONS: readonly string[] = [
  `
CREATE TABLE namespaces (
  name TEXT PRIMARY KEY,
  labels TEXT NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID;

CREATE TABLE containers (
  namespace TEXT NOT NULL,
  id TEXT NOT NULL,
  labels TEXT NOT NULL,
  image TEXT NOT NULL,
  runtime_name TEXT NOT NULL,
  runtime_options BLOB,
  spec BLOB NOT NULL,
  snapshotter TEXT NOT NULL,
  snapshot_key TEXT NOT NULL,
  extensions BLOB NOT NULL,
  sandbox TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (namespace, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE images (
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  labels TEXT NOT NULL,
  digest TEXT NOT NULL,
  media_type TEXT NOT NULL,
  size INTEGER NOT NULL,
  annotations TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE blobs (
  namespace TEXT NOT NULL,
  digest TEXT NOT NULL,
  size INTEGER NOT NULL,
  labels TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (namespace, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_digest ON blobs (digest);

CREATE TABLE ingests (
  namespace TEXT NOT NULL,
  ref TEXT NOT NULL,
  directory TEXT NOT NULL UNIQUE,
  expected TEXT NOT NULL,
  total INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (namespace, ref)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  namespace TEXT NOT NULL,
  snapshotter TEXT NOT NULL,
  key TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
  parent_id INTEGER REFERENCES snapshots (id),
  labels TEXT NOT NULL,
  size INTEGER NOT NULL DEFAULT 0,
  inodes INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  UNIQUE (namespace, snapshotter, key)
) STRICT;
CREATE INDEX snapshots_parent ON snapshots (parent_id);

CREATE TABLE leases (
  namespace TEXT NOT NULL,
  id TEXT NOT NULL,
  labels TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (namespace, id)
) STRICT, WITHOUT ROWID;

-- type is content, ingests, images or snapshots/NAME.
CREATE TABLE lease_resources (
  namespace TEXT NOT NULL,
  lease TEXT NOT NULL,
  type TEXT NOT NULL,
  resource TEXT NOT NULL,
  PRIMARY KEY (namespace, lease, type, resource),
  FOREIGN KEY (namespace, lease) REFERENCES leases (namespace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- One row per process of a task; exec_id '' is the init process.
CREATE TABLE processes (
  namespace TEXT NOT NULL,
  container_id TEXT NOT NULL,
  exec_id TEXT NOT NULL,
  pid INTEGER NOT NULL DEFAULT 0,
  status TEXT NOT NULL CHECK (status IN ('created', 'running', 'stopped', 'paused', 'pausing')),
  stdin TEXT NOT NULL DEFAULT '',
  stdout TEXT NOT NULL DEFAULT '',
  stderr TEXT NOT NULL DEFAULT '',
  terminal INTEGER NOT NULL DEFAULT 0,
  exit_status INTEGER NOT NULL DEFAULT 0,
  exited_at INTEGER NOT NULL DEFAULT 0,
  -- 0 while an exit is recorded whose event is not in the journal yet.
  announced INTEGER NOT NULL DEFAULT 1,
  PRIMARY KEY (namespace, container_id, exec_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
  namespace TEXT NOT NULL,
  id TEXT NOT NULL,
  bundle TEXT NOT NULL,
  runtime TEXT NOT NULL,
  shim_path TEXT NOT NULL,
  shim_pid INTEGER NOT NULL DEFAULT 0,
  shim_address TEXT NOT NULL DEFAULT '',
  shim_version INTEGER NOT NULL DEFAULT 0,
  -- creating is the intent, before any side effect and until Create is answered.
  state TEXT NOT NULL CHECK (state IN ('creating', 'ready')),
  created_at INTEGER NOT NULL,
  PRIMARY KEY (namespace, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  timestamp INTEGER NOT NULL,
  namespace TEXT NOT NULL,
  topic TEXT NOT NULL,
  -- The encoded Any; empty when the publisher sent none.
  event BLOB NOT NULL,
  -- 1 while the event waits for its first subscriber.
  held INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX events_held ON events (sequence) WHERE held = 1;
`,
  REFERENCE_SCHEMA,
  `
-- What a proxy plug-in keeps for us, written before it is asked to. Without a snapshot: to be removed there.
CREATE TABLE proxy_snapshots (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  snapshotter TEXT NOT NULL,
  namespace TEXT NOT NULL,
  backend_key TEXT NOT NULL,
  snapshot_id INTEGER UNIQUE REFERENCES snapshots (id) ON DELETE SET NULL,
  UNIQUE (snapshotter, namespace, backend_key)
) STRICT;
`,
  `
CREATE TABLE proofs (
  digest TEXT NOT NULL,
  demand TEXT NOT NULL,
  proved_at INTEGER NOT NULL,
  PRIMARY KEY (digest, demand)
) STRICT, WITHOUT ROWID;
`,
];
