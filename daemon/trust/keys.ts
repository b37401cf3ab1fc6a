// Public keys that rules trust, and signatures made with them: ECDSA on P-256 and RSA (PKCS #1 v1.5), both over SHA-256,
// and Ed25519; what cosign generates and accepts.

import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { invalidArgument, messageOf } from '../../proto/errors';

export interface TrustedKey {
  /** The file. */
  readonly title: string;
  readonly key: KeyObject;
  /** Hash of the key itself (SubjectPublicKeyInfo). */
  readonly fingerprint: string;
}

const FILE_BYTES_MAX = 1 << 20;
const RSA_BITS_MIN = 2048;

/** @throws INVALID_ARGUMENT naming the file and what is wrong with it */
export function loadKey(path: string): TrustedKey {
  const text = readTrustFile(path, 'public key').toString('utf8');
  // Node would take private keys and certificates, too.
  if (!/^-----BEGIN (RSA )?PUBLIC KEY-----/.test(text.trim())) {
    throw invalidArgument(`public key ${path}: the file is no public key in PEM form`);
  }
  let key: KeyObject;
  try {
    key = createPublicKey(text);
  } catch (error) {
    throw invalidArgument(`public key ${path}: the file cannot be read as one (${messageOf(error)})`, { cause: error });
  }
  checkKind(key, path);
  const fingerprint = createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex');
  return { title: path, key, fingerprint };
}

/** @throws INVALID_ARGUMENT naming the file, which is small */
export function readTrustFile(path: string, what: string): Buffer {
  try {
    if (statSync(path).size <= FILE_BYTES_MAX) return readFileSync(path);
  } catch (error) {
    throw invalidArgument(`${what} ${path}: ${messageOf(error)}`, { cause: error });
  }
  throw invalidArgument(`${what} ${path}: the file is larger than ${FILE_BYTES_MAX} bytes`);
}

/** Whether the key's owner signed these bytes. Never throws: a signature comes from anywhere. */
export function isSignedBy({ key }: TrustedKey, bytes: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verify(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', bytes, key, signature);
  } catch {
    return false;
  }
}

function checkKind(key: KeyObject, path: string): void {
  const { asymmetricKeyType: type, asymmetricKeyDetails: { namedCurve, modulusLength = 0 } = {} } = key;
  if (type === 'ed25519' || (type === 'ec' && namedCurve === 'prime256v1')) return;
  if (type === 'rsa' && modulusLength >= RSA_BITS_MIN) return;
  const found = type === 'rsa' ? `RSA of ${modulusLength} bits` : `${type} ${namedCurve ?? ''}`.trim();
  throw invalidArgument(
    `public key ${path}: ${found} is not taken; ECDSA P-256, Ed25519 and RSA from ${RSA_BITS_MIN} bits are`,
  );
}
