// The gate: whoever pulls, imports or runs an image asks here. A refusal is PERMISSION_DENIED and names the image, its
// digest, the rule and the cause.

import { isNotFound, permissionDenied } from '../../proto/errors';
import type { ContentStore } from '../content/store';
import { type ImageDescriptor, readSmallBlob } from '../images/documents';
import { type ImageRecords, targetOf } from '../images/image-records';
import type { Logger } from '../log';
import type { Database } from '../metadata/database';
import type { Registries } from '../registry/registries';
import type { Registry } from '../registry/registry';
import type { Reference } from '../registry/types';
import type { TrustConfig } from './config';
import { bundles } from './load-bundles';
import { referenceOf } from './pattern';
import { loadPolicy, type Policy, type Rule, type SignatureDemand } from './policy';
import { Proofs } from './proofs';
import { objectionTo, type SignedImage } from './signatures';
import { archiveSource, registrySource, type SignatureSource, storeSource } from './sources';
import { refusalOf } from './verifiers';

export interface TrustParts {
  readonly db: Database;
  readonly content: ContentStore;
  readonly images: ImageRecords;
  readonly registries: Registries;
  readonly log: Logger;
}

/** Larger archives prove images only under the names that they give them. */
const ARCHIVE_MANIFESTS_MAX = 100;
/** Where somebody who runs an image waits for its registry at most. */
const LOOKUP_TIMEOUT_MS = 60_000;

export class Trust {
  readonly #config: TrustConfig;
  readonly #policy: Policy;
  readonly #proofs: Proofs;
  readonly #parts: TrustParts;

  private constructor(config: TrustConfig, parts: TrustParts) {
    this.#config = config;
    this.#policy = loadPolicy(config);
    this.#proofs = new Proofs(parts.db);
    this.#parts = parts;
  }

  /**
   * Undefined when every image is accepted, so that nobody has to ask.
   * @throws INVALID_ARGUMENT for keys and trusted roots that cannot be read
   */
  static async open(config: TrustConfig, parts: TrustParts): Promise<Trust | undefined> {
    const { rules, verifiers } = config;
    const acceptsAll = config.default === 'accept' && rules.every(({ require }) => require === 'accept');
    if (acceptsAll && verifiers.binDir === '') return undefined;
    const trust = new Trust(config, parts);
    trust.#proofs.prune();
    for (const { certificate } of trust.#policy.signatures) {
      if (certificate !== undefined) bundles().materialOf(certificate);
    }
    return trust;
  }

  /**
   * Before anything of an image is fetched.
   * @param names that it is pulled by and shall have
   * @throws PERMISSION_DENIED, the signal's reason
   */
  async checkPull(
    image: { readonly reference: Reference; readonly client: Registry; readonly target: ImageDescriptor },
    names: readonly string[],
    { namespace, signal }: { readonly namespace: string; readonly signal: AbortSignal },
  ): Promise<void> {
    const { reference, client, target } = image;
    const sources = [storeSource(this.#parts, namespace, reference), registrySource(client, reference)];
    const bytes = () => client.fetchDocument(reference, { ...target, size: BigInt(target.size) }, signal);
    for (const name of new Set([reference.text, ...names])) {
      await this.#checkRule(name, { digest: target.digest, bytes }, () => sources, signal);
    }
    await this.#askVerifiers(reference.text, target, signal);
  }

  /**
   * Before an image of an archive is unpacked and named. What the archive proves is remembered, whatever it is called.
   * @param manifests of the archive, where signatures may be
   * @throws PERMISSION_DENIED, the signal's reason
   */
  async checkImport(
    image: { readonly target: ImageDescriptor; readonly manifests: readonly ImageDescriptor[] },
    names: readonly string[],
    { namespace, signal }: { readonly namespace: string; readonly signal: AbortSignal },
  ): Promise<void> {
    const { target, manifests } = image;
    const archive = archiveSource(this.#parts.content, namespace, manifests);
    const stored = this.#storedImage(namespace, target.digest);
    // The image may be called otherwise later, when the archive is not here any more.
    if (manifests.length > 1 && manifests.length <= ARCHIVE_MANIFESTS_MAX) {
      for (const demand of this.#policy.signatures) await this.#objectionTo(stored, demand, () => [archive], signal);
    }
    for (const name of names) {
      const sources = () => [archive, ...this.#sourcesOf(namespace, name)];
      await this.#checkRule(name, stored, sources, signal);
      await this.#askVerifiers(name, target, signal);
    }
  }

  /**
   * Before a container is made of an image.
   * @param name as the container has it; empty: none, which only a pattern for every name covers
   * @throws PERMISSION_DENIED, the signal's reason
   */
  async checkContainer(namespace: string, name: string, signal: AbortSignal): Promise<void> {
    await this.checkRun(namespace, name, signal);
    if (this.#config.verifiers.binDir === '' || name === '') return;
    const target = this.#targetOf(namespace, name);
    if (target !== undefined) return this.#askVerifiers(name, target, signal);
    throw permissionDenied(
      `image "${name}": namespace "${namespace}" has none of this name that verifiers could judge`,
    );
  }

  /** As checkContainer(), by rules only: before a container is started whose making was perhaps never judged. */
  async checkRun(namespace: string, name: string, signal: AbortSignal): Promise<void> {
    const rule = this.#policy.ruleFor(name);
    if (rule === undefined) return;
    if (rule.demand.kind === 'reject') throw refusal(name, undefined, rule, 'it rejects such images');
    const target = this.#targetOf(namespace, name);
    if (target === undefined) {
      const cause = name === '' ? 'the container names no image' : `namespace "${namespace}" has no image of this name`;
      throw refusal(name, undefined, rule, `${cause}, so that nothing can be proved`);
    }
    const image = this.#storedImage(namespace, target.digest);
    const limit = AbortSignal.any([signal, AbortSignal.timeout(LOOKUP_TIMEOUT_MS)]);
    try {
      await this.#checkRule(name, image, () => this.#sourcesOf(namespace, name), limit);
    } catch (error) {
      signal.throwIfAborted();
      if (!limit.aborted) throw error;
      throw refusal(name, target.digest, rule, `its signatures were not found in ${LOOKUP_TIMEOUT_MS / 1000} s`);
    }
  }

  async #checkRule(
    name: string,
    image: SignedImage,
    sources: () => readonly SignatureSource[],
    signal: AbortSignal,
  ): Promise<void> {
    const rule = this.#policy.ruleFor(name);
    if (rule === undefined) return;
    const { demand } = rule;
    if (demand.kind === 'signature') {
      const objection = await this.#objectionTo(image, demand, sources, signal);
      if (objection !== undefined) throw refusal(name, image.digest, rule, objection);
    } else if (demand.kind === 'digest') {
      const digests = demand.digests.length > 0 ? demand.digests : [referenceOf(name)?.digest];
      if (digests.includes(image.digest)) return;
      const cause = demand.digests.length > 0 ? 'this digest is not in its list' : 'the name does not hold this digest';
      throw refusal(name, image.digest, rule, cause);
    } else throw refusal(name, image.digest, rule, 'it rejects such images');
  }

  async #objectionTo(
    image: SignedImage,
    demand: SignatureDemand,
    sources: () => readonly SignatureSource[],
    signal: AbortSignal,
  ): Promise<string | undefined> {
    if (this.#proofs.has(image.digest, demand)) return undefined;
    const objection = await objectionTo(image, demand, sources(), signal);
    if (objection === undefined) this.#proofs.add(image.digest, demand);
    return objection;
  }

  async #askVerifiers(name: string, target: ImageDescriptor, signal: AbortSignal): Promise<void> {
    const { verifiers } = this.#config;
    if (verifiers.binDir === '') return;
    const { mediaType, digest, size, annotations } = target;
    const descriptor = { mediaType, digest, size, ...(annotations === undefined ? {} : { annotations }) };
    const reason = await refusalOf({ name, target: descriptor }, verifiers, { log: this.#parts.log, signal });
    if (reason !== undefined) throw permissionDenied(`image "${name}" with digest ${digest} is refused: ${reason}`);
  }

  /** Where signatures of an image that is here may be. */
  #sourcesOf(namespace: string, name: string): SignatureSource[] {
    const reference = referenceOf(name);
    if (reference === undefined) return [];
    const { registries } = this.#parts;
    return [storeSource(this.#parts, namespace, reference), registrySource(registries.open(), reference)];
  }

  #storedImage(namespace: string, digest: string): SignedImage {
    return { digest, bytes: () => readSmallBlob(this.#parts.content, namespace, digest) };
  }

  #targetOf(namespace: string, name: string): ImageDescriptor | undefined {
    try {
      return targetOf(this.#parts.images.get(namespace, name));
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }
}

function refusal(name: string, digest: string | undefined, rule: Rule, cause: string): Error {
  const object = digest === undefined ? `image "${name}"` : `image "${name}" with digest ${digest}`;
  return permissionDenied(`${object}: the trust policy refuses it by ${rule.title}: ${cause}`);
}
