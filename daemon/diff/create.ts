// Diff.Diff: a layer blob from what lies between two lists of mounts.

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { isAlreadyExists, resourceExhausted } from '../../proto/errors';
import type { Descriptor } from '../../proto/generated/containerd.types';
import { nowNs } from '../../proto/time';
import type { Mount } from '../../runtime-native/index';
import type { ContentStore } from '../content/store';
import type { Writer } from '../content/writer';
import { UNCOMPRESSED_LABEL } from '../metadata/blob-store';
import { createInThread } from './create-thread';
import type { DiffSource } from './create-worker';
import { createdMediaType } from './media-types';
import { optionOf, splitLowers, withMount } from './mounts';

export interface CreateDeps {
  readonly content: ContentStore;
  readonly mountDirectory: string;
}

export interface CreateOptions {
  readonly namespace: string;
  readonly lease: string | undefined;
  readonly left: readonly Mount[];
  readonly right: readonly Mount[];
  /** Empty: gzip. */
  readonly mediaType: string;
  /** Ingest to write to, which is started anew; empty: a fresh one. */
  readonly ref: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly epochSeconds: number | undefined;
  readonly signal: AbortSignal;
}

/** Layers created at the same time; each has a thread. */
const CREATIONS_MAX = 8;

let running = 0;

/**
 * Creates the blob, which the caller's lease holds.
 * @throws UNIMPLEMENTED for another media type, UNAVAILABLE when the ref is in use
 */
export async function createLayer(deps: CreateDeps, options: CreateOptions): Promise<Descriptor> {
  const { mediaType, compression } = createdMediaType(options.mediaType);
  if (running >= CREATIONS_MAX) throw resourceExhausted(`${CREATIONS_MAX} layers are being created already`);
  running++;
  try {
    const ref = options.ref === '' ? `${nowNs()}-${randomBytes(3).toString('base64url')}` : options.ref;
    const { namespace, lease, epochSeconds, signal } = options;
    const writer = await deps.content.openWriter({ namespace, ref, lease });
    try {
      await writer.reset();
      const uncompressed = await withSource(deps.mountDirectory, options, (source) =>
        createInThread(writer, { source, compression, epochSeconds }, signal),
      );
      const digest = writer.digest();
      const size = writer.status.offsetBytes;
      await commit(writer, digest, { ...options.labels, [UNCOMPRESSED_LABEL]: uncompressed });
      return { mediaType, digest, size, annotations: {} };
    } finally {
      await writer.close();
    }
  } finally {
    running--;
  }
}

/** A blob that was there before is as good. */
async function commit(writer: Writer, expected: string, labels: Record<string, string>): Promise<void> {
  try {
    await writer.commit({ sizeBytes: 0n, expected, labels });
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
  }
}

/** Finds out what has to be compared, and mounts it for as long as needed where it is not in a directory already. */
async function withSource<T>(
  directory: string,
  { left, right }: Pick<CreateOptions, 'left' | 'right'>,
  body: (source: DiffSource) => Promise<T>,
): Promise<T> {
  const [lower, upper] = [stackOf(left), stackOf(right)];
  const [top, ...rest] = upper ?? [];
  if (top !== undefined && right[0]?.type === 'overlay' && isEqual(rest, lower)) {
    return body({ kind: 'upper', root: top });
  }
  return withTree(directory, left, (from) =>
    withTree(directory, right, (to) => body({ kind: 'trees', left: from, right: to })),
  );
}

/** Directories of a mount, nearest first; undefined for mounts that are not made of directories. */
function stackOf(mounts: readonly Mount[]): string[] | undefined {
  const [mount] = mounts;
  if (mount === undefined) return [];
  if (mounts.length > 1 || mount.target !== '') return undefined;
  if (isBind(mount)) return [mount.source];
  if (mount.type !== 'overlay') return undefined;
  const upper = optionOf(mount.options, 'upperdir');
  return [...(upper === undefined ? [] : [upper]), ...splitLowers(optionOf(mount.options, 'lowerdir') ?? '')];
}

async function withTree<T>(
  directory: string,
  mounts: readonly Mount[],
  body: (root: string) => Promise<T>,
): Promise<T> {
  const [mount] = mounts;
  if (mount === undefined) {
    const empty = mkdtempSync(join(directory, 'empty-'));
    return body(empty).finally(() => rmdirSync(empty));
  }
  if (mounts.length === 1 && mount.target === '' && isBind(mount)) return body(mount.source);
  return withMount(mounts.map(toReadOnly), directory, body);
}

/** An upper directory may be in use by a container; below another one the kernel only reads it. */
function toReadOnly(mount: Mount): Mount {
  const upper = optionOf(mount.options, 'upperdir');
  if (mount.type !== 'overlay' || upper === undefined) return { ...mount, options: [...mount.options, 'ro'] };
  const others = mount.options.filter((option) => !/^(upperdir|workdir|lowerdir)=/.test(option));
  const lowers = optionOf(mount.options, 'lowerdir') ?? '';
  return { ...mount, options: [...others, `lowerdir=${upper}:${lowers}`, 'ro'] };
}

function isBind({ options }: Mount): boolean {
  return options.some((option) => option === 'bind' || option === 'rbind');
}

function isEqual(left: readonly string[], right: readonly string[] | undefined): boolean {
  return right !== undefined && left.length === right.length && left.every((path, index) => path === right[index]);
}
