// ImageImportStream or ImageImportFile to ImageStore: the images of an archive that the client sends or has open.

import { notFound } from '../../proto/errors';
import type { ImageImportStream, ImageStore } from '../../proto/generated/containerd.types.transfer';
import type { ImageImportFile } from '../../proto/generated/gantry.transfer.v1';
import { indexOfArchive } from '../images/archive-index';
import { readArchive } from '../images/archive-reader';
import { type ImageDescriptor, readIndex, roleOfBlob } from '../images/documents';
import {
  childrenOf,
  type GraphFilter,
  hasBlob,
  labelChildren,
  nameOfBlob,
  walkGraph,
  wantedChildren,
} from '../images/graph';
import { isNonDistributable } from '../images/media-types';
import { receiveBytes } from '../streaming/byte-stream';
import { openClientFile, readPieces } from './client-file';
import { annotatedNames, filterOf, givenNames, saveImages } from './image-store';
import type { TransferCall, TransferParts } from './parts';
import { unpackImage } from './unpack';

/** Entry of an index that belongs to another image, such as a signature: no image of its own. */
const SUBJECT_ANNOTATION = 'io.containerd.manifest.subject';
/** What `cosign save` puts beside an image says so in its annotation "kind". */
const COSIGN_PART = /^dev\.cosignproject\.cosign\/(?!image)/;

interface Archived {
  readonly bytes: AsyncIterable<Buffer>;
  readonly compressLayers: boolean;
}

/** @throws as importImages() */
export async function importStream(
  parts: TransferParts,
  source: ImageImportStream,
  store: ImageStore,
  call: TransferCall,
): Promise<void> {
  const stream = parts.streams.get(call.owner.namespace, source.stream);
  const bytes = async function* () {
    try {
      yield* receiveBytes(stream);
    } finally {
      stream.close();
    }
  };
  await importImages(parts, { bytes: bytes(), compressLayers: source.forceCompress }, store, call);
}

/** @throws UNIMPLEMENTED when the client's file cannot be reached from here, and as importImages() */
export async function importFile(
  parts: TransferParts,
  source: ImageImportFile,
  store: ImageStore,
  call: TransferCall,
): Promise<void> {
  await using file = await openClientFile(source);
  const archived = { bytes: readPieces(file, call.report), compressLayers: source.forceCompress };
  await importImages(parts, archived, store, call);
}

/**
 * @throws INVALID_ARGUMENT for a bad archive, NOT_FOUND when it lacks content that it names, PERMISSION_DENIED when one
 *   of its images is not trusted
 */
async function importImages(
  parts: TransferParts,
  { bytes, compressLayers }: Archived,
  store: ImageStore,
  call: TransferCall,
): Promise<void> {
  const { content, images } = parts;
  const { owner, report } = call;
  report.tell({ event: 'Importing' });
  const filter = filterOf(store);
  const options = { owner, compressLayers };
  const index = await indexOfArchive(content, await readArchive(content, bytes, options), options);
  const manifests = await readIndex(content, owner.namespace, index.digest);
  const entries = wantedChildren(index, manifests, filter);
  if (entries.length === 0) throw notFound('archive holds no image that is asked for');
  const named = [
    { target: index, names: givenNames(store, index) },
    ...entries
      .filter(({ annotations }) => annotations?.[SUBJECT_ANNOTATION] === undefined)
      .filter(({ annotations }) => !COSIGN_PART.test(annotations?.['kind'] ?? ''))
      .map((entry) => ({ target: entry, names: annotatedNames(store, entry) })),
  ];
  for (const { target, names } of named) await parts.trust?.checkImport({ target, manifests }, names, owner);
  await linkGraph(parts, index, filter, owner.namespace);
  for (const entry of entries)
    for (const unpack of store.unpacks) {
      await unpackImage(parts, entry, unpack, {
        owner,
        arrival: async () => {},
        onLayer: (layer, event) =>
          report.tell({ event, name: nameOfBlob(layer), progress: layer.size, total: layer.size, descriptor: layer }),
      });
    }

  for (const { target, names } of named) {
    saveImages(images, owner, { names, target, labels: store.labels });
    for (const name of names) report.tell({ event: 'saved', name, descriptor: target });
  }
  report.tell({ event: 'Completed import' });
}

/**
 * Labels every document with what it leads to and checks that all of it is there. An index may name manifests of other
 * platforms that the archive leaves out, as long as it holds one.
 */
async function linkGraph(
  { content }: TransferParts,
  index: ImageDescriptor,
  filter: GraphFilter,
  namespace: string,
): Promise<void> {
  await walkGraph(index, async (descriptor) => {
    const children = await childrenOf(content, namespace, descriptor);
    labelChildren(content, namespace, descriptor, children);
    const wanted = wantedChildren(descriptor, children, filter);
    const present = wanted.filter((child) => hasBlob(content, namespace, child));
    const isEnough = roleOfBlob(descriptor) === 'index' && descriptor !== index && present.length > 0;
    const missing = wanted.find((child) => !present.includes(child) && !isNonDistributable(child.mediaType));
    if (missing !== undefined && !isEnough) {
      throw notFound(`archive names ${missing.digest} (${missing.mediaType}) but does not hold it`);
    }
    return present;
  });
}
