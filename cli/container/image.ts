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
  const found = await Promise.all(candidates.map((candidate) => getImage(session, candidate)));
  const image = found.find((item) => item !== undefined);
  if (image !== undefined) return image;
  return orElsewhere(session, 'image', candidates, () => Promise.reject(notFound(`image "${name}"`)));
}

async function getImage(session: Session, name: string): Promise<Image | undefined> {
  try {
    return (await session.connection.images.get({ name })).image;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
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
