// cosign's signatures over a payload that names an image ("simple signing"): the payload is a layer of a manifest beside
// the image, the signature an annotation of the layer (cosign, specs/SIGNATURE_SPEC.md).

import { parseObject } from '../../proto/json';
import { isSignedBy } from './keys';
import type { SignatureDemand } from './policy';
import type { Objection } from './signatures';

export interface SimpleSignature {
  readonly payload: Uint8Array;
  /** Of the layer. */
  readonly annotations: Readonly<Record<string, string>>;
}

const SIGNATURE_ANNOTATION = 'dev.cosignproject.cosign/signature';
/** cosign 2 and before, and cosign 3. */
const TYPES: readonly unknown[] = ['cosign container image signature', 'https://sigstore.dev/cosign/sign/v1'];

/** @throws INVALID_ARGUMENT for a payload that is none */
export function checkSimpleSigning(
  digest: string,
  { keys, signedAs }: SignatureDemand,
  { payload, annotations }: SimpleSignature,
): Objection {
  if (keys.length === 0) return 'it is no sigstore bundle, and the rule has no keys';
  const signature = Buffer.from(annotations[SIGNATURE_ANNOTATION] ?? '', 'base64');
  if (signature.length === 0) return `it lacks the annotation ${SIGNATURE_ANNOTATION}`;
  // Nothing of the payload counts before it is known who wrote it.
  if (!keys.some((key) => isSignedBy(key, payload, signature))) return 'it is not made with a key of the rule';
  const { type, image, identity } = tableIn(parseObject(payload, 'its payload'), 'critical');
  if (!TYPES.includes(type)) return `it says "${String(type)}", which is no signature of an image`;
  const signed = (image as Table | undefined)?.['docker-manifest-digest'];
  if (signed !== digest) return `it is for another image, ${String(signed)}`;
  const name = (identity as Table | undefined)?.['docker-reference'];
  if (signedAs !== undefined && !(typeof name === 'string' && signedAs.test(name))) {
    return `it is for the name "${String(name ?? '')}"`;
  }
  return undefined;
}

type Table = Readonly<Record<string, unknown>>;

function tableIn(table: Table, key: string): Table {
  const value = table[key];
  return typeof value === 'object' && value !== null ? (value as Table) : {};
}
