// Does one of the signatures that are found prove an image? Where they come from is in sources.ts, what each of the two
// kinds means in simple-signing.ts and bundles.ts.

import { messageOf } from '../../proto/errors';
import { parseObject } from '../../proto/json';
import { descriptorsOf, type ImageDescriptor } from '../images/documents';
import { printable } from '../registry/http/failure';
import { bundles } from './load-bundles';
import type { SignatureDemand } from './policy';
import { isBundleType, SIMPLE_SIGNING } from './signature-types';
import { checkSimpleSigning } from './simple-signing';
import type { SignatureSource } from './sources';

/** The image that is to be proved. */
export interface SignedImage {
  readonly digest: string;
  /** The bytes that the digest is of. Only asked for where a signature is made over them. */
  readonly bytes: () => Promise<Uint8Array>;
}

/** Why a signature does not count; undefined: it does. */
export type Objection = string | undefined;

/** Signatures of one image that are looked at. */
const SIGNATURES_MAX = 100;
/** Manifests that are looked into for them. */
const MANIFESTS_MAX = 100;
/** Reasons that an error names. */
const REASONS_MAX = 5;
const REASON_LENGTH_MAX = 300;

/**
 * Looks through the sources in order until a signature counts. What cannot be read counts as a signature that does not.
 * @returns why none does, in one sentence; undefined when one does
 * @throws the signal's reason
 */
export async function objectionTo(
  image: SignedImage,
  demand: SignatureDemand,
  sources: readonly SignatureSource[],
  signal: AbortSignal,
): Promise<Objection> {
  const search = new Search(image, demand, signal);
  for (const source of sources) {
    if (await search.in(source)) return undefined;
  }
  return search.summary(sources);
}

class Search {
  readonly #image: SignedImage;
  readonly #demand: SignatureDemand;
  readonly #signal: AbortSignal;
  readonly #objections: string[] = [];
  #manifests = 0;
  #signatures = 0;

  constructor(image: SignedImage, demand: SignatureDemand, signal: AbortSignal) {
    this.#image = image;
    this.#demand = demand;
    this.#signal = signal;
  }

  /** True when a signature of the source counts. */
  async in(source: SignatureSource): Promise<boolean> {
    try {
      for await (const manifest of source.manifests(this.#image.digest, this.#signal)) {
        this.#manifests += 1;
        if (this.#manifests > MANIFESTS_MAX) throw new Error(`only ${MANIFESTS_MAX} manifests were looked into`);
        if (await this.#inManifest(source, manifest)) return true;
      }
    } catch (error) {
      this.#object(source.title, error);
    }
    return false;
  }

  summary(sources: readonly SignatureSource[]): string {
    const where = sources.map(({ title }) => title).join(' and ');
    const count = this.#signatures;
    const head = count === 0 ? `no signature was found in ${where}` : `no signature counts of ${count} in ${where}`;
    const reasons = this.#objections.slice(0, REASONS_MAX);
    const more = this.#objections.length - reasons.length;
    if (more > 0) reasons.push(`${more} more`);
    return reasons.length === 0 ? head : `${head} (${reasons.join('; ')})`;
  }

  /** One that is broken does not hide the others. */
  async #inManifest(source: SignatureSource, manifest: ImageDescriptor): Promise<boolean> {
    try {
      const document = parseObject(await source.read(manifest, this.#signal), 'the manifest');
      for (const layer of descriptorsOf(document['layers'] ?? [], 'the manifest')) {
        if (layer.mediaType !== SIMPLE_SIGNING && !isBundleType(layer.mediaType)) continue;
        this.#signatures += 1;
        if (this.#signatures > SIGNATURES_MAX) throw new Error(`only ${SIGNATURES_MAX} signatures were looked at`);
        if (await this.#isProof(source, layer)) return true;
      }
    } catch (error) {
      this.#object(manifest.digest, error);
    }
    return false;
  }

  async #isProof(source: SignatureSource, layer: ImageDescriptor): Promise<boolean> {
    try {
      const objection = await this.#objectionTo(layer, await source.read(layer, this.#signal));
      if (objection === undefined) return true;
      this.#objections.push(`${layer.digest}: ${objection}`);
    } catch (error) {
      this.#object(layer.digest, error);
    }
    return false;
  }

  async #objectionTo(layer: ImageDescriptor, bytes: Buffer): Promise<Objection> {
    if (layer.mediaType === SIMPLE_SIGNING) {
      const signature = { payload: bytes, annotations: layer.annotations ?? {} };
      return checkSimpleSigning(this.#image.digest, this.#demand, signature);
    }
    return bundles().checkBundle(this.#image, this.#demand, bytes);
  }

  #object(what: string, error: unknown): void {
    this.#signal.throwIfAborted();
    this.#objections.push(`${what}: ${printable(messageOf(error), REASON_LENGTH_MAX)}`);
  }
}
