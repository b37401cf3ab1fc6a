// images convert: the same image with its layers compressed otherwise, or with OCI's media types. What layers hold, and so
// their diff ids and the configuration, stays; manifests and indexes are written anew.

import { PassThrough, Readable, type Transform } from 'node:stream';
import { createGunzip, createGzip, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { invalidArgument } from '../../proto/errors';
import { sha256 } from '../../proto/ids';
import type { Session } from '../session';
import type { Reporter } from '../transfer/report';
import { labelBlob, readBlob, writeBlob } from './content';
import { DOCUMENT_BYTES_MAX, isIndex, type OciDescriptor, type OciPlatform, parseDocument } from './documents';
import { platformMatches } from './platform';

export const COMPRESSIONS = ['none', 'gzip', 'zstd'] as const;
export type Compression = (typeof COMPRESSIONS)[number];

export interface ConvertOptions {
  /** Undefined leaves layers as they are. */
  readonly compression: Compression | undefined;
  /** Media types of OCI in place of docker's. */
  readonly oci: boolean;
  /** Manifests of an index to keep; none: all. */
  readonly platforms: readonly OciPlatform[];
  readonly lease: string;
  readonly reporter: Reporter;
}

const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';
const DOCKER_LAYER = 'application/vnd.docker.image.rootfs.diff.tar';
const LAYER =
  /^(application\/vnd\.oci\.image\.layer\.v1\.tar|application\/vnd\.docker\.image\.rootfs\.diff\.tar)([.+](gzip|zstd))?$/;
const OCI_TYPES: Readonly<Record<string, string>> = {
  'application/vnd.docker.distribution.manifest.list.v2+json': 'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json': 'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.container.image.v1+json': 'application/vnd.oci.image.config.v1+json',
};
const GZIP_MAGIC = '1f8b';
const ZSTD_MAGIC = '28b52ffd';

/** The target of the converted image; its blobs are held by the lease. @throws NOT_FOUND for content that is missing */
export async function convertImage(
  session: Session,
  target: OciDescriptor,
  options: ConvertOptions,
): Promise<OciDescriptor> {
  const text = await readBlob(session, target.digest, DOCUMENT_BYTES_MAX);
  // What is not looked at here is kept as it is.
  const whole = JSON.parse(text.toString('utf8')) as Record<string, unknown>;
  const document = parseDocument(text, target.digest);
  if (isIndex(document)) {
    const kept = document.manifests.filter(
      ({ platform }) =>
        options.platforms.length === 0 ||
        (platform !== undefined && options.platforms.some((wanted) => platformMatches(platform, wanted))),
    );
    if (kept.length === 0) throw invalidArgument(`${target.digest} has no manifest for the platform`);
    const manifests: OciDescriptor[] = [];
    for (const child of kept) manifests.push(await convertImage(session, child, options));
    const labels = manifests.map(({ digest }, index) => [`containerd.io/gc.ref.content.m.${index}`, digest]);
    return writeDocument(session, target, { ...whole, manifests }, { labels: Object.fromEntries(labels), options });
  }
  const layers: OciDescriptor[] = [];
  for (const layer of document.layers) layers.push(await convertLayer(session, layer, options));
  const config = { ...document.config, mediaType: typeOf(document.config.mediaType, options) };
  const labels = layers.map(({ digest }, index) => [`containerd.io/gc.ref.content.l.${index}`, digest]);
  labels.push(['containerd.io/gc.ref.content.config', config.digest]);
  return writeDocument(session, target, { ...whole, config, layers }, { labels: Object.fromEntries(labels), options });
}

async function writeDocument(
  session: Session,
  before: OciDescriptor,
  document: Record<string, unknown>,
  { labels, options }: { labels: Readonly<Record<string, string>>; options: ConvertOptions },
): Promise<OciDescriptor> {
  const mediaType = typeOf(before.mediaType, options);
  const text = Buffer.from(JSON.stringify({ ...document, mediaType }));
  const digest = sha256(text);
  const blob = { ref: `convert-${digest}`, sizeBytes: text.length, digest };
  await writeBlob(session, blob, Readable.from([text]), options.lease);
  await labelBlob(session, digest, labels, options.lease);
  return { ...before, mediaType, digest, size: text.length };
}

async function convertLayer(session: Session, layer: OciDescriptor, options: ConvertOptions): Promise<OciDescriptor> {
  const [, base = '', , suffix] = LAYER.exec(layer.mediaType) ?? [];
  // Layers that may not be passed on, and what is no layer at all.
  if (base === '') return layer;
  const before: Compression = suffix === 'gzip' || suffix === 'zstd' ? suffix : 'none';
  const compression = options.compression ?? before;
  const mediaType = layerType(options.oci ? OCI_LAYER : base, compression);
  if (compression === before) return { ...layer, mediaType };
  const { digest, size } = await recompress(session, layer, compression, options);
  return { ...layer, mediaType, digest, size };
}

async function recompress(
  session: Session,
  { digest: from, size: fromSize }: OciDescriptor,
  compression: Compression,
  { lease, reporter }: ConvertOptions,
): Promise<{ digest: string; size: number }> {
  let size = 0;
  let done = 0n;
  const told = async function* () {
    for await (const { data } of session.connection.content.read({ digest: from })) {
      done += BigInt(data.length);
      reporter.tell({ event: 'converting', name: `layer-${from}`, progress: done, total: BigInt(fromSize) });
      yield data;
    }
  };
  const plain = await decompressed(told());
  const counted = async function* () {
    for await (const piece of compressor(plain, compression) as AsyncIterable<Buffer>) {
      size += piece.length;
      yield piece;
    }
  };
  // Output depends on the compressor's version: what another one began is not gone on with.
  const ref = `convert-${lease}-${compression}-${from}`;
  const digest = await writeBlob(session, { ref, sizeBytes: 0 }, counted(), lease);
  reporter.tell({ event: 'complete', name: `layer-${from}`, progress: BigInt(fromSize), total: BigInt(fromSize) });
  const { info } = await session.connection.content.info({ digest: from });
  const diffId = info?.labels['containerd.io/uncompressed'];
  if (diffId !== undefined) await labelBlob(session, digest, { 'containerd.io/uncompressed': diffId }, lease);
  return { digest, size };
}

function compressor(plain: Readable, compression: Compression): Readable {
  switch (compression) {
    case 'none':
      return plain;
    case 'gzip':
      return joined(plain, createGzip());
    case 'zstd':
      return joined(plain, createZstdCompress());
  }
}

/** By the first bytes: media types do not always tell. */
async function decompressed(source: AsyncGenerator<Buffer>): Promise<Readable> {
  const first = await source.next();
  const head: Buffer = first.done === true ? Buffer.alloc(0) : first.value;
  const whole = Readable.from(
    (async function* () {
      yield head;
      yield* source;
    })(),
    { objectMode: false },
  );
  const magic = head.subarray(0, 4).toString('hex');
  if (magic.startsWith(GZIP_MAGIC)) return joined(whole, createGunzip());
  return magic === ZSTD_MAGIC ? joined(whole, createZstdDecompress()) : joined(whole, new PassThrough());
}

/** pipe() that passes failures on. */
function joined(source: Readable, next: Transform): Readable {
  source.once('error', (error) => next.destroy(error));
  return source.pipe(next);
}

function layerType(base: string, compression: Compression): string {
  if (compression === 'none') return base;
  return base === DOCKER_LAYER ? `${base}.${compression}` : `${base}+${compression}`;
}

function typeOf(mediaType: string, { oci }: ConvertOptions): string {
  return oci ? (OCI_TYPES[mediaType] ?? mediaType) : mediaType;
}
