// Media types of signatures, as layers of manifests have them.

/** A payload that names an image; the signature is an annotation of the layer. */
export const SIMPLE_SIGNING = 'application/vnd.dev.cosign.simplesigning.v1+json';

/** Whether manifests of this artifact type may hold signatures; cosign's first kind has the configuration's type there. */
export function isSignatureType(artifactType: string): boolean {
  return isBundleType(artifactType) || artifactType === 'application/vnd.dev.cosign.artifact.sig.v1+json';
}

/** A sigstore bundle of any version. */
export function isBundleType(mediaType: string): boolean {
  return /^application\/vnd\.dev\.sigstore\.bundle[.+]/.test(mediaType);
}
