// The image of a container: found by any of its names, its manifest chosen by platform, its snapshots made sure of.

import { isNotFound, notFound } from '../../proto/errors';
import type { Image } from '../../proto/generated/containerd.services.images.v1';
import type { OciDescriptor, OciPlatform } from '../image/documents';
import { type ResolvedImage, resolvePlatform } from '../image/platform';
import { candidateNames } from '../image/reference';
import { orElsewhere, type Session } from '../session';

/** The image record for a name as written or in full. @throws CommandError (not found) with a hint where it is. */
export async function findImage(session: Session, name: string): Promise<Image> {
  const candidates = candidateNames(name);
  for (const candidate of candidates) {
    try {
      const { image } = await session.connection.images.get({ name: candidate });
      if (image !== undefined) return image;
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
  return orElsewhere(session, 'image', candidates, () => Promise.reject(notFound(`image "${name}"`)));
}

export async function findManifest(session: Session, image: Image, platform: OciPlatform): Promise<ResolvedImage> {
  return resolvePlatform(session, targetOf(image), platform);
}

/** The image's target with its size as a number. */
export function targetOf(image: Image): OciDescriptor {
  const { target } = image;
  return {
    mediaType: target?.mediaType ?? '',
    digest: target?.digest ?? '',
    size: Number(target?.size ?? 0n),
    annotations: target?.annotations ?? {},
  };
}
