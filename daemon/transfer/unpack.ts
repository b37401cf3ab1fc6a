// Unpacking within a transfer: what the client asked for, for one image.

import { isNotFound } from '../../proto/errors';
import type { UnpackConfiguration } from '../../proto/generated/containerd.types.transfer';
import { type ImageDescriptor, readConfiguration, readManifest, roleOfBlob } from '../images/documents';
import { findManifest } from '../images/graph';
import { machinePlatform, type PlatformChoice, runningOn } from '../images/platform';
import type { UnpackOptions } from '../images/unpack';
import type { TransferParts } from './parts';

/** Platforms that an unpack configuration takes, the best first. None given: this machine's. */
export function platformsOf({ platform }: UnpackConfiguration): PlatformChoice {
  return runningOn(platform === undefined || platform.os === '' ? machinePlatform() : platform);
}

/** Does nothing when the image has nothing for the platform. @throws what Unpacker.unpack() throws */
export async function unpackImage(
  { content, unpacker }: TransferParts,
  image: ImageDescriptor,
  unpack: UnpackConfiguration,
  options: Omit<UnpackOptions, 'snapshotter'>,
): Promise<void> {
  const { namespace } = options.owner;
  const platforms = platformsOf(unpack);
  const found = await findManifest(content, namespace, image, platforms).catch((error: unknown) => {
    if (isNotFound(error)) return undefined;
    throw error;
  });
  if (found === undefined) return;
  const manifest = await readManifest(content, namespace, found.digest);
  // An artifact has no layers that could be unpacked.
  if (roleOfBlob(manifest.config) !== 'config') return;
  await options.arrival(manifest.config);
  const { os, architecture, variant = '' } = await readConfiguration(content, namespace, manifest.config.digest);
  if (os !== undefined && architecture !== undefined && !platforms.matches({ os, architecture, variant })) return;
  await unpacker.unpack(manifest, { ...options, snapshotter: unpack.snapshotter });
}
