// A registry with signatures in it, written as cosign writes them: under a tag beside the image, or as a referrer of it,
// which Debian's docker-registry keeps under a tag as well.

import { type SignatureBlob, signatureManifest } from '../../images/signatures';

const INDEX = 'application/vnd.oci.image.index.v1+json';

export class SigningRegistry {
  readonly #url: string;

  /** @param host with port, over plain HTTP */
  constructor(host: string) {
    this.#url = `http://${host}/v2`;
  }

  /** Under cosign's tag for the image. */
  async sign(repository: string, digest: string, signatures: readonly SignatureBlob[]): Promise<void> {
    const { manifest, config } = signatureManifest(signatures);
    await this.#putBlobs(repository, [config, ...signatures]);
    await this.#putManifest(
      repository,
      `${digest.replace(':', '-')}.sig`,
      manifest.bytes,
      manifest.descriptor.mediaType,
    );
  }

  /** As referrers of the image, one for each signature; what they are is what their layer is, unless given. */
  async refer(
    repository: string,
    digest: string,
    signatures: readonly SignatureBlob[],
    artifactType?: string,
  ): Promise<void> {
    const image = await this.manifest(repository, digest);
    const subject = { mediaType: image.mediaType, digest, size: image.bytes.length };
    const manifests: object[] = [];
    for (const signature of signatures) {
      const { manifest, config } = signatureManifest([signature], subject);
      await this.#putBlobs(repository, [config, signature]);
      const { mediaType } = manifest.descriptor;
      await this.#putManifest(repository, manifest.descriptor.digest, manifest.bytes, mediaType);
      manifests.push({ ...manifest.descriptor, artifactType: artifactType ?? signature.descriptor.mediaType });
    }
    const list = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests }));
    await this.#putManifest(repository, digest.replace(':', '-'), list, INDEX);
  }

  async manifest(repository: string, object: string): Promise<{ mediaType: string; bytes: Buffer }> {
    const headers = { accept: 'application/vnd.oci.image.manifest.v1+json' };
    const answer = await this.#ask(`${this.#url}/${repository}/manifests/${object}`, { headers });
    return { mediaType: answer.headers.get('content-type') ?? '', bytes: Buffer.from(await answer.arrayBuffer()) };
  }

  async #putBlobs(repository: string, blobs: readonly SignatureBlob[]): Promise<void> {
    for (const { descriptor, bytes } of blobs) {
      const upload = await this.#ask(`${this.#url}/${repository}/blobs/uploads/`, { method: 'POST' });
      const place = new URL(upload.headers.get('location') ?? '', this.#url);
      place.searchParams.set('digest', descriptor.digest);
      await this.#ask(place.href, { method: 'PUT', body: new Uint8Array(bytes) });
    }
  }

  async #putManifest(repository: string, object: string, bytes: Buffer, mediaType: string): Promise<void> {
    const request = { method: 'PUT', body: new Uint8Array(bytes), headers: { 'content-type': mediaType } };
    await this.#ask(`${this.#url}/${repository}/manifests/${object}`, request);
  }

  async #ask(url: string, request: RequestInit): Promise<Response> {
    const answer = await fetch(url, request);
    if (!answer.ok) throw new Error(`${request.method ?? 'GET'} ${url}: ${answer.status} ${await answer.text()}`);
    return answer;
  }
}
