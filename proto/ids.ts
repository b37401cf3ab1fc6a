// Identifiers that travel over the API and their rules.

import { createHash } from 'node:crypto';
import { invalidArgument } from './errors';

export const DEFAULT_NAMESPACE = 'default';
export const NAMESPACE_HEADER = 'containerd-namespace';
export const TTRPC_NAMESPACE_HEADER = 'containerd-namespace-ttrpc';
export const LEASE_HEADER = 'containerd-lease';
export const IDENTIFIER_LENGTH_MAX = 76;

const IDENTIFIER = /^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$/;
const DIGEST = /^(sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128})$/;

/**
 * Checks a namespace, container, task, exec or sandbox id, or a component of an event topic.
 * @throws INVALID_ARGUMENT naming the rule that was broken.
 */
export function checkIdentifier(id: string): string {
  if (id.length === 0) throw invalidArgument('identifier must not be empty');
  if (id.length > IDENTIFIER_LENGTH_MAX) {
    throw invalidArgument(`identifier "${id}" greater than maximum length (${IDENTIFIER_LENGTH_MAX} characters)`);
  }
  if (!IDENTIFIER.test(id)) throw invalidArgument(`identifier "${id}" must match ${IDENTIFIER.source}`);
  return id;
}

/** A digest of the form ALGORITHM:HEX (OCI image-spec, descriptor). @throws INVALID_ARGUMENT */
export function checkDigest(digest: string): string {
  if (!DIGEST.test(digest)) throw invalidArgument(`invalid digest "${digest}"`);
  return digest;
}

export function sha256(bytes: Uint8Array | string): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
