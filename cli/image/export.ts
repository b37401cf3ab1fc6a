// images export: an OCI image layout as a tar stream, so that any tool, and `images import`, can read it again.

import { type Pack, pack } from 'tar-stream';
import { isNotFound } from '../../proto/errors';
import type { Image } from '../../proto/generated/containerd.services.images.v1';
import { targetOf } from '../container/image';
import type { Session } from '../session';
import { isIndex, isIndexType, isManifestType, type OciDescriptor, type OciPlatform, readDocument } from './documents';
import { platformMatches, platformText } from './platform';

const FILE_MODE = 0o644;

export interface ExportOptions {
  /** Leave out manifests of other platforms; undefined takes all that are there. */
  readonly platform: OciPlatform | undefined;
}

/** The archive of some images, piece by piece; an error while it is made ends the iteration. */
export function exportArchive(
  session: Session,
  images: readonly Image[],
  options: ExportOptions,
): AsyncIterable<Uint8Array> {
  const archive = pack();
  writeAll(session, images, options, archive).then(
    () => archive.finalize(),
    (error: Error) => archive.destroy(error),
  );
  return archive as unknown as AsyncIterable<Uint8Array>;
}

async function writeAll(
  session: Session,
  images: readonly Image[],
  options: ExportOptions,
  archive: Pack,
): Promise<void> {
  const done = new Set<string>();
  await writeFile(archive, 'oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}'));
  for (const image of images) {
    for (const blob of await blobsOf(session, targetOf(image), options)) {
      if (done.has(blob.digest)) continue;
      done.add(blob.digest);
      await writeBlobFile(session, archive, blob);
    }
  }
  const manifests = images.map((image) => {
    const { mediaType, digest, size, annotations } = targetOf(image);
    return { mediaType, digest, size, annotations: { ...annotations, 'io.containerd.image.name': image.name } };
  });
  await writeFile(archive, 'index.json', Buffer.from(JSON.stringify({ schemaVersion: 2, manifests })));
}

/** Everything that a descriptor leads to, itself included. Manifests of other platforms may be missing. */
async function blobsOf(session: Session, target: OciDescriptor, options: ExportOptions): Promise<OciDescriptor[]> {
  const document = await readDocument(session, target);
  if (!isIndex(document)) return [target, document.config, ...document.layers];
  const blobs = [target];
  for (const child of document.manifests) {
    const { platform } = child;
    if (options.platform !== undefined && platform !== undefined && !platformMatches(platform, options.platform))
      continue;
    try {
      const isDocument = isIndexType(child.mediaType) || isManifestType(child.mediaType);
      blobs.push(...(isDocument ? await blobsOf(session, child, options) : [child]));
    } catch (error) {
      if (!isNotFound(error) || platformText(platform) === platformText(options.platform)) throw error;
    }
  }
  return blobs;
}

async function writeBlobFile(session: Session, archive: Pack, blob: OciDescriptor): Promise<void> {
  const name = `blobs/${blob.digest.replace(':', '/')}`;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const entry = archive.entry({ name, size: blob.size, mode: FILE_MODE }, (error) =>
    error ? reject(error) : resolve(),
  );
  // An archive that is given up ends its open entry as well.
  entry.on('error', reject);
  for await (const { data } of session.connection.content.read({ digest: blob.digest })) {
    if (!entry.write(data)) await new Promise<void>((drained) => entry.once('drain', drained));
  }
  entry.end(undefined);
  await promise;
}

async function writeFile(archive: Pack, name: string, data: Buffer): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  archive.entry({ name, mode: FILE_MODE }, data, (error) => (error ? reject(error) : resolve()));
  await promise;
}
