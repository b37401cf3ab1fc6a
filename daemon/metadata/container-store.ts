// Container records.

import { alreadyExists, invalidArgument, messageOf, notFound } from '../../proto/errors';
import type { Container } from '../../proto/generated/containerd.services.containers.v1';
import { Container as ContainerType } from '../../proto/generated/containerd.services.containers.v1';
import { Any } from '../../proto/generated/google.protobuf';
import { checkIdentifier } from '../../proto/ids';
import { fromTimestamp, nowNs, toTimestamp } from '../../proto/time';
import type { Database } from './database';
import { checkLabels, parseLabels, serializeLabels, updateLabels } from './labels';

interface Row {
  id: string;
  labels: string;
  image: string;
  runtime_name: string;
  runtime_options: Buffer | null;
  spec: Buffer;
  snapshotter: string;
  snapshot_key: string;
  extensions: Buffer;
  sandbox: string;
  created_at: bigint;
  updated_at: bigint;
}

const NAMELESS_EXTENSION = 'container.Extension keys must not be zero-length';
const MUTABLE_PATHS = ['labels', 'spec', 'extensions', 'image', 'snapshotkey'] as const;

export function findContainer(db: Database, namespace: string, id: string): Container | undefined {
  const row = db.prepare('SELECT * FROM containers WHERE namespace = ? AND id = ?').get(namespace, id) as
    | Row
    | undefined;
  return row && toContainer(row);
}

/** @throws NOT_FOUND */
export function getContainer(db: Database, namespace: string, id: string): Container {
  const container = findContainer(db, namespace, id);
  if (container === undefined) throw notFound(`container "${id}" in namespace "${namespace}"`);
  return container;
}

/** All containers of a namespace, ordered by id. */
export function listContainers(db: Database, namespace: string): Container[] {
  const rows = db.prepare('SELECT * FROM containers WHERE namespace = ? ORDER BY id').all(namespace) as Row[];
  return rows.map(toContainer);
}

/** Call inside a transaction. @throws INVALID_ARGUMENT, ALREADY_EXISTS */
export function createContainer(db: Database, namespace: string, container: Container): Container {
  validate(container, 'create container failed validation');
  if (findContainer(db, namespace, container.id) !== undefined) throw alreadyExists(`container "${container.id}"`);
  const now = toTimestamp(nowNs());
  const created = { ...container, labels: checkLabels(container.labels), createdAt: now, updatedAt: now };
  write(db, namespace, created);
  return created;
}

/**
 * Replaces the fields that `paths` name, all mutable ones when it is empty. Call inside a transaction.
 * @throws NOT_FOUND, INVALID_ARGUMENT for a path that cannot change.
 */
export function updateContainer(
  db: Database,
  namespace: string,
  change: { given: Container; paths: readonly string[] },
): Container {
  const { given, paths } = change;
  const current = getContainer(db, namespace, given.id);
  if (paths.length === 0) checkImmutable(current, given);
  const updated = { ...current, updatedAt: toTimestamp(nowNs()) };
  for (const path of paths.length > 0 ? paths : MUTABLE_PATHS) applyPath(updated, given, path);
  validate(updated, 'update failed validation');
  write(db, namespace, updated);
  return updated;
}

/** Call inside a transaction. @throws NOT_FOUND */
export function deleteContainer(db: Database, namespace: string, id: string): void {
  getContainer(db, namespace, id);
  db.prepare('DELETE FROM containers WHERE namespace = ? AND id = ?').run(namespace, id);
}

/** What must hold for every stored container, in containerd's words. @throws INVALID_ARGUMENT */
function validate(container: Container, stage: string): void {
  const problem = findProblem(container);
  if (problem !== undefined) throw invalidArgument(`${stage}: ${problem}`);
}

function findProblem(container: Container): string | undefined {
  try {
    checkIdentifier(container.id);
  } catch (error) {
    return `container.ID: ${messageOf(error)}`;
  }
  if (Object.hasOwn(container.extensions, '')) return NAMELESS_EXTENSION;
  try {
    checkLabels(container.labels, 'containers.Labels');
  } catch (error) {
    return messageOf(error);
  }
  if (!container.runtime?.name) return 'container.Runtime.Name must be set';
  if (container.spec === undefined) return 'container.Spec must be set';
  const needsSnapshotter = container.snapshotKey !== '' && container.snapshotter === '';
  return needsSnapshotter ? 'container.Snapshotter must be set if container.SnapshotKey is set' : undefined;
}

function checkImmutable(current: Container, given: Container): void {
  if (given.snapshotter !== current.snapshotter) {
    throw invalidArgument('container.Snapshotter field is immutable');
  }
  if ((given.runtime?.name ?? '') !== (current.runtime?.name ?? '')) {
    throw invalidArgument('container.Runtime.Name field is immutable');
  }
}

function applyPath(updated: Container, given: Container, path: string): void {
  if (path === 'labels' || path.startsWith('labels.')) {
    updated.labels = updateLabels(updated.labels, given.labels, [path], 'update failed validation: containers.Labels');
  } else if (path.startsWith('extensions.')) {
    const key = path.slice('extensions.'.length);
    if (key === '') throw invalidArgument(`update failed validation: ${NAMELESS_EXTENSION}`);
    const { [key]: _replaced, ...rest } = updated.extensions;
    const next = given.extensions[key];
    updated.extensions = next === undefined ? rest : { ...rest, [key]: next };
  } else if (path === 'extensions') updated.extensions = given.extensions;
  else if (path === 'image') updated.image = given.image;
  else if (path === 'spec') updated.spec = given.spec;
  else if (path === 'snapshotkey') updated.snapshotKey = given.snapshotKey;
  else throw invalidArgument(`cannot update "${path}" field on "${given.id}"`);
}

function write(db: Database, namespace: string, container: Container): void {
  const { runtime, spec } = container;
  db.prepare(
    `INSERT INTO containers (namespace, id, labels, image, runtime_name, runtime_options, spec, snapshotter, snapshot_key,
       extensions, sandbox, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET labels = excluded.labels, image = excluded.image, spec = excluded.spec,
       snapshot_key = excluded.snapshot_key, extensions = excluded.extensions, updated_at = excluded.updated_at`,
  ).run(
    namespace,
    container.id,
    serializeLabels(container.labels),
    container.image,
    runtime?.name ?? '',
    runtime?.options ? Any.encode(runtime.options) : null,
    spec ? Any.encode(spec) : Buffer.alloc(0),
    container.snapshotter,
    container.snapshotKey,
    ContainerType.encode({ extensions: container.extensions }),
    container.sandbox,
    fromTimestamp(container.createdAt),
    fromTimestamp(container.updatedAt),
  );
}

function toContainer(row: Row): Container {
  return {
    id: row.id,
    labels: parseLabels(row.labels),
    image: row.image,
    runtime: {
      name: row.runtime_name,
      options: row.runtime_options === null ? undefined : Any.decode(row.runtime_options),
    },
    spec: Any.decode(row.spec),
    snapshotter: row.snapshotter,
    snapshotKey: row.snapshot_key,
    extensions: ContainerType.decode(row.extensions).extensions,
    sandbox: row.sandbox,
    createdAt: toTimestamp(row.created_at),
    updatedAt: toTimestamp(row.updated_at),
  };
}
