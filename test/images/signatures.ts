// Signatures of images as cosign makes them, with keys of the test: payloads ("simple signing"), sigstore bundles, and the
// manifests that carry them.

import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

export type KeyKind = 'p256' | 'ed25519' | 'rsa';

/** Somebody with a key. */
export interface Signer {
  readonly publicPem: string;
  readonly sign: (bytes: Uint8Array) => Buffer;
}

export interface SignatureBlob {
  readonly descriptor: {
    readonly mediaType: string;
    readonly digest: string;
    readonly size: number;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly bytes: Buffer;
}

export const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const BUNDLE = 'application/vnd.dev.sigstore.bundle.v0.3+json';
const SIMPLE_SIGNING = 'application/vnd.dev.cosign.simplesigning.v1+json';
export const SIGN_PREDICATE = 'https://sigstore.dev/cosign/sign/v1';

export function makeSigner(kind: KeyKind = 'p256'): Signer {
  const { publicKey, privateKey } = keyPair(kind);
  return {
    publicPem: publicKey.export({ type: 'spki', format: 'pem' }) as string,
    sign: (bytes) => sign(kind === 'ed25519' ? null : 'sha256', bytes, privateKey),
  };
}

/** A payload and, as annotation, its signature. */
export function simpleSignature(
  signer: Pick<Signer, 'sign'>,
  digest: string,
  { name = 'example', type = 'cosign container image signature' } = {},
): SignatureBlob {
  const payload = Buffer.from(
    JSON.stringify({
      critical: { identity: { 'docker-reference': name }, image: { 'docker-manifest-digest': digest }, type },
      optional: null,
    }),
  );
  const signature = signer.sign(payload).toString('base64');
  return blob(SIMPLE_SIGNING, payload, { 'dev.cosignproject.cosign/signature': signature });
}

export interface StatementPlan {
  readonly name?: string;
  readonly predicateType?: string;
  readonly payloadType?: string;
  readonly type?: string;
}

/** What a bundle's envelope holds, and what its signature is over (DSSE, pre-authentication encoding). */
export function statement(digest: string, plan: StatementPlan = {}) {
  const { name, predicateType = SIGN_PREDICATE, payloadType = 'application/vnd.in-toto+json' } = plan;
  const { type = 'https://in-toto.io/Statement/v1' } = plan;
  const [algorithm = '', hex] = digest.split(':');
  const payload = Buffer.from(
    JSON.stringify({
      _type: type,
      subject: [{ ...(name === undefined ? {} : { name }), digest: { [algorithm]: hex } }],
      predicateType,
      predicate: {},
    }),
  );
  const signed = Buffer.concat([
    Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `),
    payload,
  ]);
  return { payload, payloadType, signed };
}

/** A bundle with a statement about an image. */
export function bundle(signer: Signer, digest: string, plan: StatementPlan = {}): SignatureBlob {
  const { payload, payloadType, signed } = statement(digest, plan);
  return bundleBlob({
    verificationMaterial: { publicKey: { hint: 'any' }, tlogEntries: [] },
    dsseEnvelope: {
      payload: payload.toString('base64'),
      payloadType,
      signatures: [{ sig: signer.sign(signed).toString('base64'), keyid: '' }],
    },
  });
}

/** A bundle with a signature over the bytes of the image's manifest. */
export function messageBundle(signer: Signer, manifest: Buffer): SignatureBlob {
  return bundleBlob({
    verificationMaterial: { publicKey: { hint: 'any' }, tlogEntries: [] },
    messageSignature: {
      messageDigest: { algorithm: 'SHA2_256', digest: createHash('sha256').update(manifest).digest('base64') },
      signature: signer.sign(manifest).toString('base64'),
    },
  });
}

export function bundleBlob(fields: object, mediaType = BUNDLE): SignatureBlob {
  return blob(BUNDLE, Buffer.from(JSON.stringify({ mediaType, ...fields })));
}

/** The manifest with these signatures and its empty configuration; a referrer of the image if that is given. */
export function signatureManifest(
  signatures: readonly SignatureBlob[],
  subject?: { readonly mediaType: string; readonly digest: string; readonly size: number },
): { readonly manifest: SignatureBlob; readonly config: SignatureBlob } {
  const config = blob('application/vnd.oci.empty.v1+json', Buffer.from('{}'));
  const document = {
    schemaVersion: 2,
    mediaType: MANIFEST,
    ...(subject === undefined ? {} : { artifactType: BUNDLE, subject }),
    config: config.descriptor,
    layers: signatures.map(({ descriptor }) => descriptor),
  };
  return { manifest: blob(MANIFEST, Buffer.from(JSON.stringify(document))), config };
}

/** The same with another byte in the middle. */
export function tampered({ descriptor, bytes }: SignatureBlob): SignatureBlob {
  const text = bytes.toString('utf8');
  const changed = Buffer.from(text.replace('"optional":null', '"optional":true'));
  if (changed.equals(bytes)) throw new Error('nothing to tamper with');
  return { descriptor: { ...descriptor, digest: digestOf(changed), size: changed.length }, bytes: changed };
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function blob(mediaType: string, bytes: Buffer, annotations?: Readonly<Record<string, string>>): SignatureBlob {
  const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
  return { descriptor: annotations === undefined ? descriptor : { ...descriptor, annotations }, bytes };
}

function keyPair(kind: KeyKind): { publicKey: KeyObject; privateKey: KeyObject } {
  switch (kind) {
    case 'p256':
      return generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
    case 'ed25519':
      return generateKeyPairSync('ed25519');
    case 'rsa':
      return generateKeyPairSync('rsa', { modulusLength: 2048 });
  }
}
