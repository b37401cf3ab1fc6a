// The table of transfers: which source goes to which destination, and what does it.

import { unpackAny } from '../../proto/any';
import type { MessageType } from '../../proto/codec';
import { notFound, notImplemented } from '../../proto/errors';
import {
  ImageExportStream,
  ImageImportStream,
  ImageStore,
  OCIRegistry,
} from '../../proto/generated/containerd.types.transfer';
import { ImageImportFile } from '../../proto/generated/gantry.transfer.v1';
import type { Any } from '../../proto/generated/google.protobuf';
import { targetOf } from '../images/image-records';
import { ByteSender, receiveBytes } from '../streaming/byte-stream';
import { exportImages } from './export';
import { givenNames, saveImages } from './image-store';
import { importFile, importStream } from './import';
import type { TransferCall, TransferParts } from './parts';
import { pullImage } from './pull';
import { pushImage } from './push';

/** @throws UNIMPLEMENTED for a pair that is not in the table, INVALID_ARGUMENT when one cannot be decoded */
export type Transferrer = (source: Any, destination: Any, call: TransferCall) => Promise<void>;

export function transferTable(parts: TransferParts): Transferrer {
  const table = new Map<string, Transferrer>();
  const add = <S, D>(
    source: MessageType<S>,
    destination: MessageType<D>,
    run: (parts: TransferParts, source: S, destination: D, call: TransferCall) => Promise<void>,
  ) => {
    table.set(keyOf(source.name, destination.name), (from, to, call) =>
      run(parts, unpackAny(source, from), unpackAny(destination, to), call),
    );
  };
  add(OCIRegistry, ImageStore, pullImage);
  add(ImageStore, OCIRegistry, pushImage);
  add(ImageImportStream, ImageStore, importStream);
  add(ImageImportFile, ImageStore, importFile);
  add(ImageStore, ImageExportStream, exportImages);
  add(ImageStore, ImageStore, tagImage);
  add(ImageImportStream, ImageExportStream, echo);
  return async (source, destination, call) => {
    const run = table.get(keyOf(source.typeUrl, destination.typeUrl));
    if (run === undefined) {
      throw notImplemented(`no transfer from "${source.typeUrl}" to "${destination.typeUrl}"`);
    }
    await run(source, destination, call);
  };
}

/** @throws NOT_FOUND for the source, or when the destination has no name */
async function tagImage(
  { images }: TransferParts,
  source: ImageStore,
  destination: ImageStore,
  { owner }: TransferCall,
): Promise<void> {
  const target = targetOf(images.get(owner.namespace, source.name));
  const names = givenNames(destination, target);
  if (names.length === 0) throw notFound('no image name found');
  saveImages(images, owner, { names, target, labels: destination.labels });
}

/** Sends a client's bytes back to it. */
async function echo(
  { streams }: TransferParts,
  source: ImageImportStream,
  destination: ImageExportStream,
  { owner: { namespace } }: TransferCall,
): Promise<void> {
  const stream = streams.get(namespace, source.stream);
  const sender = new ByteSender(streams.get(namespace, destination.stream));
  try {
    for await (const piece of receiveBytes(stream)) await sender.write(piece);
  } finally {
    stream.close();
    sender.end();
  }
}

function keyOf(source: string, destination: string): string {
  return `${source} > ${destination}`;
}
