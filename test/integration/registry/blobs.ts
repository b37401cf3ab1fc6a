// Blobs, credentials and progress for tests of the registry client.

import { rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Registry } from '../../../daemon/registry/registry';
import type {
  Credentials,
  CredentialsRequest,
  CredentialsSource,
  Descriptor,
  Fetched,
  FetchTarget,
  Progress,
  PushOptions,
  PushOutcome,
  PushSource,
  Reference,
  TransferOptions,
} from '../../../daemon/registry/types';
import { sha256 } from '../../../proto/ids';

const LAYER = 'application/vnd.oci.image.layer.v1.tar';
const NEVER = new AbortController().signal;

export function descriptorOf(bytes: Uint8Array, mediaType = LAYER): Descriptor {
  return { mediaType, digest: sha256(bytes), size: BigInt(bytes.length) };
}

/** Answers for the hosts in the table, and keeps what it was asked. */
export function credentialsOf(hosts: Readonly<Record<string, Credentials>>) {
  const requests: CredentialsRequest[] = [];
  const source: CredentialsSource = async (request) => {
    requests.push(request);
    return hosts[request.host];
  };
  return { source, requests };
}

/** Fetches into a file, and gives its bytes with all that was said on the way. */
export async function fetchInto(
  client: Registry,
  reference: Reference,
  descriptor: Descriptor,
  { path, ...options }: FetchTarget & Partial<TransferOptions>,
): Promise<{ fetched: Fetched; bytes: Buffer; progress: Progress[] }> {
  const progress: Progress[] = [];
  const onProgress = (step: Progress) => progress.push(step);
  const fetched = await client.fetch(reference, descriptor, { path }, { signal: NEVER, onProgress, ...options });
  return { fetched, bytes: await readFile(path), progress };
}

/** Pushes bytes by way of a file, which is removed again. */
export async function pushBytes(
  client: Registry,
  reference: Reference,
  { bytes, mediaType, ...source }: { bytes: Uint8Array; mediaType?: string } & PushSource,
  options: PushOptions = { signal: NEVER },
): Promise<PushOutcome> {
  writeFileSync(source.path, bytes);
  try {
    return await client.push(reference, descriptorOf(bytes, mediaType), source, options);
  } finally {
    rmSync(source.path, { force: true });
  }
}
