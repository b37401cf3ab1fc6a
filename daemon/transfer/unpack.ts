// Unpacking within a transfer: what the client asked for, for one image.

import { isNotFound } from '../../proto/errors';
import type { UnpackConfiguration } from '../../proto/generated/containerd.types.transfer';
import { type ImageDescriptor, readConfiguration, readManifest, roleOfBlob } from '../images/documents';
import { findManifest, nameOfBlob } from '../images/graph';
import { machinePlatform, type PlatformChoice, runningOn } from '../images/platform';
import type { TransferCall, TransferParts } from './parts';

/** Platforms that an unpack configuration takes, the best first. None given: this machine's. */
export function platformsOf({ platform }: UnpackConfiguration): PlatformChoice {
  return runningOn(platform === undefined || platform.os === '' ? machinePlatform() : platform);
}

/** Does nothing when the image has nothing for the platform. @throws what Unpacker.unpack() throws */
export async function unpackImage(
  { content, unpacker }: TransferParts,
  image: ImageDescriptor,
  unpack: UnpackConfiguration,
  { owner, report }: TransferCall,
): Promise<void> {
  const { namespace } = owner;
  const platforms = platformsOf(unpack);
  const found = await findManifest(content, namespace, image, platforms).catch((error: unknown) => {
    if (isNotFound(error)) return undefined;
    throw error;
  });
  if (found === undefined || roleOfBlob(found) !== 'manifest') return;
  const manifest = await readManifest(content, namespace, found.digest);
  // An artifact has no layers that could be unpacked.
  if (roleOfBlob(manifest.config) !== 'config') return;
  const { os, architecture, variant = '' } = await readConfiguration(content, namespace, manifest.config.digest);
  if (os !== undefined && architecture !== undefined && !platforms.matches({ os, architecture, variant })) return;
  await unpacker.unpack(manifest, {
    owner,
    snapshotter: unpack.snapshotter,
    arrival: async () => {},
    onLayer: (layer, event) =>
      report.tell({ event, name: nameOfBlob(layer), progress: layer.size, total: layer.size, descriptor: layer }),
  });
}
