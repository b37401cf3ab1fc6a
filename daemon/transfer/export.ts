// ImageStore to ImageExportStream: images as an archive that the client receives.

import type { ImageExportStream, ImageStore } from '../../proto/generated/containerd.types.transfer';
import { writeArchive } from '../images/archive-writer';
import { exactly, machinePlatform } from '../images/platform';
import { ByteSender } from '../streaming/byte-stream';
import { lookupImages } from './image-store';
import type { TransferCall, TransferParts } from './parts';

/** @throws NOT_FOUND for an image, a platform or content that is not there */
export async function exportImages(
  { content, streams, images }: TransferParts,
  store: ImageStore,
  destination: ImageExportStream,
  { owner, report }: TransferCall,
): Promise<void> {
  const { namespace, signal } = owner;
  const { platforms, allPlatforms, skipCompatibilityManifest, skipNonDistributable } = destination;
  const sender = new ByteSender(streams.get(namespace, destination.stream));
  try {
    report.tell({ event: 'Exporting' });
    const archive = writeArchive(content, lookupImages(images, namespace, store), {
      namespace,
      platforms: exactly(platforms.length === 0 ? [machinePlatform()] : platforms),
      allPlatforms,
      skipDockerManifest: skipCompatibilityManifest,
      skipNonDistributable,
      signal,
    });
    for await (const piece of archive) await sender.write(piece);
    report.tell({ event: 'Completed export' });
  } finally {
    sender.end();
  }
}
