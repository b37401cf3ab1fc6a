// containerd.services.images.v1: image records over gRPC.

import { invalidArgument } from '../../proto/errors';
import {
  ImageCreate,
  ImageDelete,
  ImagesService,
  ImageUpdate,
  type Image as WireImage,
} from '../../proto/generated/containerd.services.images.v1';
import type { Timestamp } from '../../proto/generated/google.protobuf';
import { fromTimestamp, nowNs, toTimestamp } from '../../proto/time';
import type { EventBus } from '../events/bus';
import type { Collector } from '../gc/collector';
import { defineService, type Service } from '../grpc/handler';
import type { Database } from '../metadata/database';
import { parseFilters } from '../metadata/filters';
import { type Image, type ImageRecord, ImageStore } from '../metadata/image-store';
import { leaseOf } from './leases';

export interface ImagesDeps {
  readonly db: Database;
  readonly events: EventBus;
  readonly collector: Collector;
}

export function imagesService({ db, events, collector }: ImagesDeps): Service {
  const images = new ImageStore(db);
  return defineService(ImagesService, {
    get: ({ name }, context) => ({ image: toWire(images.get(context.requireNamespace(), name)) }),

    list: ({ filters }, context) => {
      const filter = parseFilters(filters);
      const records = images.list(context.requireNamespace());
      return { images: records.filter((image) => filter.matches((path) => lookup(image, path))).map(toWire) };
    },

    create: ({ image, sourceDateEpoch }, context) => {
      const namespace = context.requireNamespace();
      const options = { lease: leaseOf(context), nowNs: epochOr(sourceDateEpoch) };
      const created = db.transaction(() => {
        const record = images.create(namespace, fromWire(image), options);
        events.publish(namespace, '/images/create', ImageCreate, { name: record.name, labels: record.labels });
        return record;
      });
      return { image: toWire(created) };
    },

    update: ({ image, updateMask, sourceDateEpoch }, context) => {
      const namespace = context.requireNamespace();
      const paths = updateMask?.paths ?? [];
      const options = { paths, lease: leaseOf(context), nowNs: epochOr(sourceDateEpoch) };
      const updated = db.transaction(() => {
        const record = images.update(namespace, fromWire(image), options);
        events.publish(namespace, '/images/update', ImageUpdate, { name: record.name, labels: record.labels });
        return record;
      });
      return { image: toWire(updated) };
    },

    delete: async ({ name, sync, target }, context) => {
      const namespace = context.requireNamespace();
      db.essential(() => {
        images.remove(namespace, name, target?.digest);
        events.publish(namespace, '/images/delete', ImageDelete, { name });
      });
      if (sync) await collector.run();
      return {};
    },
  });
}

/** SOURCE_DATE_EPOCH of reproducible builds, or now. */
function epochOr(epoch: Timestamp | undefined): bigint {
  return epoch === undefined ? nowNs() : fromTimestamp(epoch);
}

function fromWire(image: WireImage | undefined): Image {
  if (image === undefined || image.name === '') throw invalidArgument('Image.Name required');
  const { name, labels, target } = image;
  return {
    name,
    labels,
    target: {
      mediaType: target?.mediaType ?? '',
      digest: target?.digest ?? '',
      sizeBytes: target?.size ?? 0n,
      annotations: target?.annotations ?? {},
    },
  };
}

function toWire({ name, labels, target, createdAtNs, updatedAtNs }: ImageRecord): WireImage {
  const { mediaType, digest, sizeBytes, annotations } = target;
  return {
    name,
    labels,
    target: { mediaType, digest, size: sizeBytes, annotations },
    createdAt: toTimestamp(createdAtNs),
    updatedAt: toTimestamp(updatedAtNs),
  };
}

function lookup(image: ImageRecord, path: readonly string[]): string | undefined {
  const [field, ...rest] = path;
  switch (field) {
    case 'name':
      return image.name;
    case 'labels':
      return image.labels[rest.join('.')];
    case 'annotations':
      return image.target.annotations[rest.join('.')];
    case 'target':
      if (rest[0] === 'digest') return image.target.digest;
      return rest[0] === 'mediatype' ? image.target.mediaType : undefined;
    default:
      return undefined;
  }
}
