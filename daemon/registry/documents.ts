// Requests for documents of a registry, and what its answers say about them.

import { createHash } from 'node:crypto';
import { checkDigest } from '../../proto/ids';
import type { Answer, Question } from './http/ask';
import { contentError, type Place } from './http/failure';
import { mediaTypeOf } from './manifests';
import type { Descriptor } from './types';

/** One request to one endpoint, as far as hosts differ in it. */
export interface Call {
  readonly method: Question['method'];
  readonly path: string;
  readonly doing: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  readonly attemptsMax?: number;
  readonly canPush?: boolean;
}

/** Sends a request to one endpoint. @throws RegistryError, the signal's reason */
export type Asker = (call: Call) => Promise<Answer>;

export function acceptOf(mediaType: string): string {
  return `${mediaType}, */*`;
}

/** What the headers of an answer say; undefined when something is missing, or is not to be believed. */
export function descriptorOf({ headers }: Answer, wanted: string | undefined): Descriptor | undefined {
  const digest = wanted ?? headers['docker-content-digest'] ?? '';
  const length = headers['content-length'] ?? '';
  const mediaType = mediaTypeOf(headers['content-type'], undefined);
  if (!/^[1-9]\d{0,14}$/.test(length) || mediaType === '') return undefined;
  try {
    return { mediaType, digest: checkDigest(digest), size: BigInt(length) };
  } catch {
    return undefined;
  }
}

/** @throws FAILED_PRECONDITION for other bytes than the descriptor's */
export function proved(place: Place, body: Uint8Array, { digest, size }: { digest: string; size: bigint }): Buffer {
  const actual = hashAs(digest, body);
  if (actual !== digest) {
    const cause = `its ${body.length} bytes have the digest ${actual}: the registry, or a proxy, changes them`;
    throw contentError(place, cause);
  }
  if (size > 0n && BigInt(body.length) !== size) throw contentError(place, `it has ${body.length} bytes, not ${size}`);
  return Buffer.from(body.buffer, body.byteOffset, body.length);
}

export function hashAs(digest: string, body: Uint8Array): string {
  const algorithm = digest.slice(0, digest.indexOf(':'));
  return `${algorithm}:${createHash(algorithm).update(body).digest('hex')}`;
}
