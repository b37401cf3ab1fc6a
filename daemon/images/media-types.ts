// What a blob of an image is, by its media type (OCI image-spec media-types.md; Docker image manifest version 2, schema 2).

export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
export const DOCKER_CONFIG = 'application/vnd.docker.container.image.v1+json';
export const DOCKER_LAYER = 'application/vnd.docker.image.rootfs.diff.tar';
/** Docker's first manifests, signed JSON that no client writes any more. */
const DOCKER_SCHEMA_1 = /^application\/vnd\.docker\.distribution\.manifest\.v1\+(json|prettyjws)$/;
const CHECKPOINT_CONFIG = 'application/vnd.containerd.container.checkpoint.config.v1+proto';

const LAYER = /^application\/vnd\.(oci\.image\.layer\.|docker\.image\.rootfs\.(foreign\.)?diff\.tar)/;
const NON_DISTRIBUTABLE = /^application\/vnd\.(oci\.image\.layer\.nondistributable\.|docker\.image\.rootfs\.foreign\.)/;

export type BlobRole = 'index' | 'manifest' | 'config' | 'layer' | 'unknown';

export function roleOf(mediaType: string): BlobRole {
  switch (mediaType) {
    case OCI_INDEX:
    case DOCKER_LIST:
      return 'index';
    case OCI_MANIFEST:
    case DOCKER_MANIFEST:
      return 'manifest';
    case OCI_CONFIG:
    case DOCKER_CONFIG:
    case CHECKPOINT_CONFIG:
      return 'config';
    default:
      return LAYER.test(mediaType) ? 'layer' : 'unknown';
  }
}

export function isSchema1(mediaType: string): boolean {
  return DOCKER_SCHEMA_1.test(mediaType);
}

/** Layers that may not be passed on, such as those of Windows. */
export function isNonDistributable(mediaType: string): boolean {
  return NON_DISTRIBUTABLE.test(mediaType);
}
