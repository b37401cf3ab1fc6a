// Media types of layers (OCI image-spec media-types.md, Docker image manifest v2.2).

import { notImplemented, unknown } from '../../proto/errors';

/** What Diff.Apply names its result: the uncompressed archive. */
export const LAYER_TAR = 'application/vnd.oci.image.layer.v1.tar';

const OCI = /^application\/vnd\.oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(\+gzip|\+zstd)?$/;
const DOCKER = /^application\/vnd\.docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.gzip|\.zstd)?$/;

/**
 * Whether a layer of this type may be compressed. Docker's plain type is used for compressed layers too, and a suffix
 * names what should be there, so the first bytes decide in the end (as containerd does it).
 * @throws UNKNOWN, containerd's answer, when it is no layer that can be unpacked
 */
export function mayBeCompressed(mediaType: string): boolean {
  const oci = OCI.exec(mediaType);
  if (oci !== null) return oci[1] !== undefined;
  if (DOCKER.test(mediaType)) return true;
  throw unknown(`failed to get stream processor for ${mediaType}: no processor for media-type`);
}

export type Compression = 'none' | 'gzip' | 'zstd';

const CREATED: Readonly<Record<string, Compression>> = {
  [LAYER_TAR]: 'none',
  [`${LAYER_TAR}+gzip`]: 'gzip',
  [`${LAYER_TAR}+zstd`]: 'zstd',
};

/**
 * How a layer of this type is to be written; gzip when the type is empty.
 * @throws UNIMPLEMENTED
 */
export function createdMediaType(mediaType: string): { readonly mediaType: string; readonly compression: Compression } {
  const wanted = mediaType === '' ? `${LAYER_TAR}+gzip` : mediaType;
  const compression = CREATED[wanted];
  if (compression === undefined) throw notImplemented(`unsupported diff media type: ${mediaType}`);
  return { mediaType: wanted, compression };
}
