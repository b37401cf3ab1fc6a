// Media types of documents that a registry keeps as manifests.

const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
const DOCKER_INDEX = 'application/vnd.docker.distribution.manifest.list.v2+json';

/** What is asked for, in the order of containerd. */
export const MANIFEST_TYPES: readonly string[] = [DOCKER_MANIFEST, DOCKER_INDEX, OCI_MANIFEST, OCI_INDEX];

export function isManifestType(mediaType: string): boolean {
  return MANIFEST_TYPES.includes(mediaType);
}

/** The media type of a header without its parameters; of a document that is served as something general, what it says itself. */
export function mediaTypeOf(contentType: string | undefined, document: Uint8Array | undefined): string {
  const told = (contentType ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
  if (isManifestType(told) || document === undefined) return isGeneral(told) ? '' : told;
  const { mediaType, manifests, layers } = parseObject(document);
  if (typeof mediaType === 'string' && isManifestType(mediaType)) return mediaType;
  if (!isGeneral(told)) return told;
  if (Array.isArray(manifests)) return OCI_INDEX;
  return Array.isArray(layers) ? OCI_MANIFEST : told || 'application/octet-stream';
}

/** The object that a document holds; empty for anything else. */
export function parseObject(document: Uint8Array): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(document).toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : {};
  } catch {
    return {};
  }
}

function isGeneral(mediaType: string): boolean {
  return ['', 'application/json', 'application/octet-stream', 'text/plain', 'text/html'].includes(mediaType);
}
