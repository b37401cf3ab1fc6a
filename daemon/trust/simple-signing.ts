// cosign's signatures over a payload that names an image ("simple signing"): the payload is a layer of a manifest beside
// the image, the signature an annotation of the layer (cosign, specs/SIGNATURE_SPEC.md).

import { createHash } from 'node:crypto';
import { parseObject } from '../../proto/json';
import { isSignedBy } from './keys';
import { bundles } from './load-bundles';
import type { SignatureDemand } from './policy';
import type { Objection } from './signatures';

export interface SimpleSignature {
  readonly payload: Uint8Array;
  /** Of the layer. */
  readonly annotations: Readonly<Record<string, string>>;
}

const SIGNATURE_ANNOTATION = 'dev.cosignproject.cosign/signature';
/** For signatures by certificate: PEM, and what the log says of the signature. */
const CERTIFICATE_ANNOTATION = 'dev.sigstore.cosign/certificate';
const LOG_ANNOTATION = 'dev.sigstore.cosign/bundle';
/** cosign 2 and before, and cosign 3. */
const TYPES: readonly unknown[] = ['cosign container image signature', 'https://sigstore.dev/cosign/sign/v1'];

/** @throws INVALID_ARGUMENT for a payload or an annotation that is none */
export function checkSimpleSigning(digest: string, demand: SignatureDemand, signature: SimpleSignature): Objection {
  // Nothing of the payload counts before it is known who wrote it.
  const objection = objectionToSigner(demand, signature);
  if (objection !== undefined) return objection;
  const { signedAs } = demand;
  const { type, image, identity } = tableIn(parseObject(signature.payload, 'its payload'), 'critical');
  if (!TYPES.includes(type)) return `it says "${String(type)}", which is no signature of an image`;
  const signed = (image as Table | undefined)?.['docker-manifest-digest'];
  if (signed !== digest) return `it is for another image, ${String(signed)}`;
  const name = (identity as Table | undefined)?.['docker-reference'];
  if (signedAs !== undefined && !(typeof name === 'string' && signedAs.test(name))) {
    return `it is for the name "${String(name ?? '')}"`;
  }
  return undefined;
}

function objectionToSigner({ keys, certificate }: SignatureDemand, signed: SimpleSignature): Objection {
  const { payload, annotations } = signed;
  const signature = Buffer.from(annotations[SIGNATURE_ANNOTATION] ?? '', 'base64');
  if (signature.length === 0) return `it lacks the annotation ${SIGNATURE_ANNOTATION}`;
  if (keys.some((key) => isSignedBy(key, payload, signature))) return undefined;
  if (certificate === undefined) return 'it is not made with a key of the rule';
  if (annotations[CERTIFICATE_ANNOTATION] === undefined) {
    return 'it is neither made with a key of the rule nor with a certificate';
  }
  return bundles().objectionToMessage(asBundle(signed, signature), Buffer.from(payload), certificate);
}

/** The annotations as the bundle, of the first version, that came after them. */
function asBundle({ payload, annotations }: SimpleSignature, signature: Buffer): object {
  const log = parseObject(Buffer.from(annotations[LOG_ANNOTATION] ?? '{}'), `its annotation ${LOG_ANNOTATION}`);
  const { body, integratedTime, logIndex, logID } = tableIn(log, 'Payload');
  const entry = {
    logIndex: String(logIndex),
    logId: { keyId: Buffer.from(String(logID), 'hex').toString('base64') },
    kindVersion: { kind: 'hashedrekord', version: '0.0.1' },
    integratedTime: String(integratedTime),
    inclusionPromise: { signedEntryTimestamp: log['SignedEntryTimestamp'] },
    canonicalizedBody: body,
  };
  const certificate = (annotations[CERTIFICATE_ANNOTATION] ?? '').replace(/-----[A-Z ]+-----|\s/g, '');
  return {
    mediaType: 'application/vnd.dev.sigstore.bundle+json;version=0.1',
    verificationMaterial: {
      x509CertificateChain: { certificates: [{ rawBytes: certificate }] },
      tlogEntries: body === undefined ? [] : [entry],
    },
    messageSignature: {
      messageDigest: { algorithm: 'SHA2_256', digest: createHash('sha256').update(payload).digest('base64') },
      signature: signature.toString('base64'),
    },
  };
}

type Table = Readonly<Record<string, unknown>>;

function tableIn(table: Table, key: string): Table {
  const value = table[key];
  return typeof value === 'object' && value !== null ? (value as Table) : {};
}
