// Running digests of content. It hides node:crypto's names and keeps long updates from holding the event loop.

import { createHash, type Hash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';

export type DigestAlgorithm = 'sha256' | 'sha384' | 'sha512';

/** What content is hashed with when nobody named a digest (OCI image-spec, descriptor). */
export const CANONICAL_ALGORITHM: DigestAlgorithm = 'sha256';

/** Bytes hashed in one go: well under a millisecond of the event loop. */
const SLICE_BYTES = 1 << 20;

/** The algorithm of a digest that checkDigest() accepted. */
export function algorithmOf(digest: string): DigestAlgorithm {
  return digest.slice(0, digest.indexOf(':')) as DigestAlgorithm;
}

/** An immutable running digest: `extend` returns a new one, so a failed write can fall back to the old one. */
export class Hasher {
  readonly algorithm: DigestAlgorithm;
  readonly #hash: Hash;

  constructor(algorithm: DigestAlgorithm, hash: Hash = createHash(algorithm)) {
    this.algorithm = algorithm;
    this.#hash = hash;
  }

  /** Yields to the event loop between slices of large data. */
  async extend(data: Uint8Array): Promise<Hasher> {
    const hash = this.#hash.copy();
    for (let start = 0; start < data.length; start += SLICE_BYTES) {
      if (start > 0) await setImmediate();
      hash.update(data.subarray(start, start + SLICE_BYTES));
    }
    return new Hasher(this.algorithm, hash);
  }

  digest(): string {
    return `${this.algorithm}:${this.#hash.copy().digest('hex')}`;
  }
}
