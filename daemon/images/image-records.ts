// Image records as transfers write them, with their events.

import { isAlreadyExists } from '../../proto/errors';
import { ImageCreate, ImageUpdate } from '../../proto/generated/containerd.services.images.v1';
import { nowNs } from '../../proto/time';
import type { EventBus } from '../events/bus';
import type { Database } from '../metadata/database';
import { type ImageRecord, ImageStore } from '../metadata/image-store';
import type { ImageDescriptor } from './documents';

export class ImageRecords {
  readonly #db: Database;
  readonly #events: EventBus;
  readonly #images: ImageStore;

  constructor(db: Database, events: EventBus) {
    this.#db = db;
    this.#events = events;
    this.#images = new ImageStore(db);
  }

  /** @throws NOT_FOUND */
  get(namespace: string, name: string): ImageRecord {
    return this.#images.get(namespace, name);
  }

  /** Makes an image, or gives an existing one this target and these labels. @throws INVALID_ARGUMENT */
  put(
    namespace: string,
    image: { name: string; target: ImageDescriptor; labels: Readonly<Record<string, string>> },
    lease: string,
  ): ImageRecord {
    const { name, target, labels } = image;
    const { mediaType, digest, size, annotations = {} } = target;
    const given = {
      name,
      labels: { ...labels },
      target: { mediaType, digest, sizeBytes: BigInt(size), annotations: { ...annotations } },
    };
    return this.#db.transaction(() => {
      const options = { lease, nowNs: nowNs() };
      try {
        const created = this.#images.create(namespace, given, options);
        this.#events.publish(namespace, '/images/create', ImageCreate, { name, labels: created.labels });
        return created;
      } catch (error) {
        if (!isAlreadyExists(error)) throw error;
        const updated = this.#images.update(namespace, given, { ...options, paths: [] });
        this.#events.publish(namespace, '/images/update', ImageUpdate, { name, labels: updated.labels });
        return updated;
      }
    });
  }
}

/** The target of a record as image documents have descriptors. */
export function targetOf({ target }: ImageRecord): ImageDescriptor {
  const { mediaType, digest, sizeBytes, annotations } = target;
  return { mediaType, digest, size: Number(sizeBytes), annotations: { ...annotations } };
}
