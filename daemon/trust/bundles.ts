// sigstore bundles: a signature with all that is needed to verify it offline (sigstore, protobuf-specs). The only file that
// loads sigstore's packages.

import { type Bundle, bundleFromJSON } from '@sigstore/bundle';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { type SignedEntity, type TrustMaterial, toSignedEntity, toTrustMaterial, Verifier } from '@sigstore/verify';
import { failedPrecondition, invalidArgument, messageOf } from '../../proto/errors';
import { sha256 } from '../../proto/ids';
import { parseObject } from '../../proto/json';
import { isSignedBy, type TrustedKey } from './keys';
import type { CertificateDemand, SignatureDemand } from './policy';
import type { Objection, SignedImage } from './signatures';

const IN_TOTO = 'application/vnd.in-toto+json';
const STATEMENT = /^https:\/\/in-toto\.io\/Statement\//;
/** With a key of the rule, neither a log nor a time has to vouch for anything. */
const NOTHING_ELSE = { ctlogThreshold: 0, tlogThreshold: 0, timestampThreshold: 0 };
const NO_AUTHORITIES = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };

/** @throws what the packages throw for a bundle that is none, and when the image cannot be read */
export async function checkBundle(image: SignedImage, demand: SignatureDemand, json: Uint8Array): Promise<Objection> {
  const bundle = bundleFromJSON(parseObject(json, 'the bundle'));
  const artifact = bundle.content.$case === 'messageSignature' ? await bytesOf(image) : Buffer.alloc(0);
  const entity = toSignedEntity(bundle, artifact);
  const objection = objectionToSigner(bundle, entity, artifact, demand);
  return objection ?? objectionToContent(bundle, image.digest, demand);
}

/**
 * As checkBundle(), for a bundle that was put together of annotations: who signed, but not what.
 * @throws what the packages throw for a bundle that is none
 */
export function objectionToMessage(json: object, message: Buffer, demand: CertificateDemand): Objection {
  return objectionToCertificate(toSignedEntity(bundleFromJSON(json), message), demand);
}

function objectionToSigner(
  bundle: Bundle,
  entity: SignedEntity,
  artifact: Buffer,
  { keys, certificate }: SignatureDemand,
): Objection {
  if (keys.some((key) => isMadeWith(key, bundle, entity, artifact))) return undefined;
  if (certificate === undefined) return 'it is not made with a key of the rule';
  if (entity.key.$case !== 'certificate') return 'it is neither made with a key of the rule nor with a certificate';
  return objectionToCertificate(entity, certificate);
}

function isMadeWith(key: TrustedKey, bundle: Bundle, entity: SignedEntity, artifact: Buffer): boolean {
  if (bundle.content.$case === 'messageSignature' && key.key.asymmetricKeyType === 'ed25519') {
    // The package hashes messages first, which this kind of key does not allow.
    return isSignedBy(key, artifact, bundle.content.messageSignature.signature);
  }
  const publicKey = () => ({ publicKey: key.key, validFor: () => true });
  const verifier = new Verifier({ ...NO_AUTHORITIES, publicKey }, NOTHING_ELSE);
  try {
    verifier.verify({
      signature: entity.signature,
      key: { $case: 'public-key', hint: key.fingerprint },
      tlogEntries: [],
      timestamps: [],
    });
    return true;
  } catch {
    return false;
  }
}

/**
 * The certificate has to lead to an authority of the trusted root at a time that is proved, and name whom the rule names.
 * Logs have to vouch for certificate and signature if the root has such logs.
 */
function objectionToCertificate(entity: SignedEntity, demand: CertificateDemand): Objection {
  const material = materialOf(demand);
  const verifier = new Verifier(material, {
    ctlogThreshold: Math.min(1, material.ctlogs.length),
    tlogThreshold: Math.min(1, material.tlogs.length),
    timestampThreshold: 1,
  });
  try {
    verifier.verify(entity, {
      subjectAlternativeName: demand.identity.source,
      extensions: { issuer: demand.issuer },
    });
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

const materials = new WeakMap<CertificateDemand, TrustMaterial>();

/** @throws INVALID_ARGUMENT when the trusted root is none */
export function materialOf(demand: CertificateDemand): TrustMaterial {
  const known = materials.get(demand);
  if (known !== undefined) return known;
  try {
    const made = toTrustMaterial(TrustedRoot.fromJSON(demand.trustedRoot));
    materials.set(demand, made);
    return made;
  } catch (error) {
    throw invalidArgument(`the file does not have the form of a trusted root (${messageOf(error)})`, { cause: error });
  }
}

function objectionToContent(bundle: Bundle, digest: string, { predicates, signedAs }: SignatureDemand): Objection {
  // Such a signature is made over the bytes of the image's manifest itself, and names nothing.
  if (bundle.content.$case === 'messageSignature') return signedAs && 'it does not say for which name it is';
  const { payloadType, payload } = bundle.content.dsseEnvelope;
  if (payloadType !== IN_TOTO) return `it is over "${payloadType}", which is no statement about an image`;
  const { _type: type, subject, predicateType } = parseObject(payload, 'its statement');
  if (typeof type !== 'string' || !STATEMENT.test(type)) return `its statement is of the type "${String(type)}"`;
  if (!predicates.includes(String(predicateType))) return `it states "${String(predicateType)}"`;
  const [algorithm = '', hex] = digest.split(':');
  const subjects = (Array.isArray(subject) ? subject : []) as readonly Subject[];
  const fitting = subjects.filter((one) => one?.digest?.[algorithm] === hex);
  if (fitting.length === 0) return 'it is for another image';
  if (signedAs === undefined || fitting.some(({ name }) => typeof name === 'string' && signedAs.test(name))) {
    return undefined;
  }
  return 'it is for another name';
}

interface Subject {
  readonly name?: unknown;
  readonly digest?: Readonly<Record<string, unknown>>;
}

/** The store's bytes are proved where they came in; here they are the only thing that ties the signature to the digest. */
async function bytesOf({ digest, bytes }: SignedImage): Promise<Buffer> {
  const found = Buffer.from(await bytes());
  if (sha256(found) !== digest) throw failedPrecondition(`${digest}: its bytes have another digest`);
  return found;
}
