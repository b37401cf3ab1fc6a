// Image records: a name, a target descriptor and labels. It stores of the target only what containerd stores: media
// type, digest, size and annotations. Names are free text.

import { alreadyExists, invalidArgument, messageOf, notFound } from '../../proto/errors';
import { checkDigest } from '../../proto/ids';
import type { Database } from './database';
import { EXPIRE_LABEL, expiryOf } from './expiry';
import { checkLabels, type Labels, parseLabels, serializeLabels, updateLabels } from './labels';
import { attachToLease } from './lease-resources';
import { ensureNamespace } from './namespaces';

interface ImageTarget {
  readonly mediaType: string;
  readonly digest: string;
  readonly sizeBytes: bigint;
  readonly annotations: Labels;
}

export interface Image {
  readonly name: string;
  readonly labels: Labels;
  readonly target: ImageTarget;
}

export interface ImageRecord extends Image {
  readonly createdAtNs: bigint;
  readonly updatedAtNs: bigint;
}

interface Row {
  name: string;
  labels: string;
  digest: string;
  media_type: string;
  size: bigint;
  annotations: string;
  created_at: bigint;
  updated_at: bigint;
}

const COLUMNS = 'name, labels, digest, media_type, size, annotations, created_at, updated_at';

export class ImageStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** @throws NOT_FOUND */
  get(namespace: string, name: string): ImageRecord {
    const row = this.#db
      .prepare(`SELECT ${COLUMNS} FROM images WHERE namespace = ? AND name = ?`)
      .safeIntegers()
      .get(namespace, name) as Row | undefined;
    if (row === undefined) throw notFound(`image "${name}"`);
    return toRecord(row);
  }

  /** All of a namespace, by name. */
  list(namespace: string): ImageRecord[] {
    const rows = this.#db
      .prepare(`SELECT ${COLUMNS} FROM images WHERE namespace = ? ORDER BY name`)
      .safeIntegers()
      .all(namespace) as Row[];
    return rows.map(toRecord);
  }

  /**
   * An image that can expire is put under the caller's lease; others are roots of their own.
   * @throws INVALID_ARGUMENT, ALREADY_EXISTS, NOT_FOUND for an unknown lease
   */
  create(namespace: string, image: Image, options: { lease: string | undefined; nowNs: bigint }): ImageRecord {
    const checked = checkImage(image);
    return this.#db.transaction(() => {
      ensureNamespace(this.#db, namespace);
      const record = { ...checked, createdAtNs: options.nowNs, updatedAtNs: options.nowNs };
      const { changes } = this.#db
        .prepare(
          `INSERT INTO images (namespace, expires_at, ${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (namespace, name) DO NOTHING`,
        )
        .run(namespace, expiryOf(checked.labels), ...values(record));
      if (changes === 0) throw alreadyExists(`image "${image.name}"`);
      this.#lease(namespace, record, options.lease);
      return record;
    });
  }

  /**
   * Changes what the paths name (labels, labels.K, target, annotations, annotations.K); labels and target without any.
   * @throws NOT_FOUND, INVALID_ARGUMENT
   */
  update(
    namespace: string,
    image: Image,
    options: { paths: readonly string[]; lease: string | undefined; nowNs: bigint },
  ): ImageRecord {
    return this.#db.transaction(() => {
      const current = this.get(namespace, image.name);
      const paths = options.paths.length === 0 ? ['labels', 'target'] : options.paths;
      const changed = paths.reduce((before, path) => applyPath(before, image, path), current as Image);
      const record = { ...checkImage(changed), createdAtNs: current.createdAtNs, updatedAtNs: options.nowNs };
      this.#db
        .prepare(
          `UPDATE images SET expires_at = ?, labels = ?, digest = ?, media_type = ?, size = ?, annotations = ?, updated_at = ?
            WHERE namespace = ? AND name = ?`,
        )
        .run(
          expiryOf(record.labels),
          serializeLabels(record.labels),
          record.target.digest,
          record.target.mediaType,
          record.target.sizeBytes,
          serializeLabels(record.target.annotations),
          record.updatedAtNs,
          namespace,
          image.name,
        );
      this.#lease(namespace, record, options.lease);
      return record;
    });
  }

  /** With `digest`, only an image of that target. @throws NOT_FOUND */
  remove(namespace: string, name: string, digest?: string): void {
    this.#db.transaction(() => {
      const { target } = this.get(namespace, name);
      if (digest !== undefined && target.digest !== digest) {
        throw notFound(`image "${name}" has target ${target.digest}, not ${digest}`);
      }
      this.#db.prepare('DELETE FROM images WHERE namespace = ? AND name = ?').run(namespace, name);
    });
  }

  #lease(namespace: string, { name, labels }: Image, lease: string | undefined): void {
    if (labels[EXPIRE_LABEL] === undefined) return;
    attachToLease(this.#db, namespace, lease, { type: 'images', id: name });
  }
}

function checkImage(image: Image): Image {
  const { name, target } = image;
  if (name === '') throw invalidArgument('image name must not be empty');
  const labels = checkLabels(image.labels, 'image.Labels');
  try {
    checkDigest(target.digest);
  } catch (error) {
    throw invalidArgument(`Target.Digest "${target.digest}" invalid: ${messageOf(error)}`, { cause: error });
  }
  if (target.sizeBytes <= 0n) throw invalidArgument('Target.Size must be greater than zero');
  if (target.mediaType === '') throw invalidArgument('Target.MediaType must be set');
  const { digest, sizeBytes, mediaType } = target;
  return { name, labels, target: { digest, sizeBytes, mediaType, annotations: withoutEmpty(target.annotations) } };
}

function applyPath(image: Image, given: Image, path: string): Image {
  if (path === 'target') return { ...image, target: given.target };
  if (path === 'labels' || path.startsWith('labels.')) {
    return { ...image, labels: updateLabels(image.labels, given.labels, [path], 'image.Labels') };
  }
  if (path === 'annotations') return withAnnotations(image, given.target.annotations);
  if (path.startsWith('annotations.')) {
    const key = path.slice('annotations.'.length);
    return withAnnotations(image, { ...image.target.annotations, [key]: given.target.annotations[key] ?? '' });
  }
  throw invalidArgument(`cannot update "${path}" field on image "${image.name}"`);
}

function withAnnotations(image: Image, annotations: Labels): Image {
  return { ...image, target: { ...image.target, annotations } };
}

/** A copy without empty values. */
function withoutEmpty(annotations: Labels): Labels {
  const kept: Labels = Object.create(null);
  for (const [key, value] of Object.entries(annotations)) if (value !== '') kept[key] = value;
  return kept;
}

function values(record: ImageRecord): unknown[] {
  const { name, labels, target, createdAtNs, updatedAtNs } = record;
  const { digest, mediaType, sizeBytes, annotations } = target;
  return [
    name,
    serializeLabels(labels),
    digest,
    mediaType,
    sizeBytes,
    serializeLabels(annotations),
    createdAtNs,
    updatedAtNs,
  ];
}

function toRecord(row: Row): ImageRecord {
  return {
    name: row.name,
    labels: parseLabels(row.labels),
    target: {
      mediaType: row.media_type,
      digest: row.digest,
      sizeBytes: row.size,
      annotations: parseLabels(row.annotations),
    },
    createdAtNs: row.created_at,
    updatedAtNs: row.updated_at,
  };
}
