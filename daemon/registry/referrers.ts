// Which manifests name another one as their subject (distribution-spec, listing referrers), also at registries that keep
// that list under a tag.

import { errorKind } from '../../proto/errors';
import { checkDigest } from '../../proto/ids';
import type { Asker } from './documents';
import type { Answer } from './http/ask';
import { failureAt, type Place, statusError } from './http/failure';
import { OCI_INDEX, parseObject } from './manifests';
import type { Descriptor } from './types';

interface Context {
  readonly ask: Asker;
  readonly place: Place;
  readonly doing: string;
  readonly repository: string;
}

const PAGES_MAX = 20;
const REFERRERS_MAX = 10_000;

export async function referrersAt(
  context: Context & { readonly digest: string; readonly artifactType: string | undefined },
): Promise<Descriptor[]> {
  const { ask, place, doing, repository, digest, artifactType } = context;
  const found: Descriptor[] = [];
  let query: Record<string, string> = artifactType === undefined ? {} : { artifactType };
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const answer = await ask({
      method: 'GET',
      path: `${repository}/referrers/${digest}`,
      query,
      doing,
      headers: { accept: OCI_INDEX },
    });
    if (page === 0 && [400, 404, 405, 501].includes(answer.status)) return ofType(await tagged(context), artifactType);
    if (answer.status !== 200) throw statusError(place, answer);
    found.push(...descriptorsIn(answer.body, place));
    const next = nextPage(answer);
    if (next === undefined) return ofType(found, artifactType);
    query = next;
  }
  throw failureAt(place, 'resource exhausted', `its list has more than ${PAGES_MAX} pages`);
}

/**
 * Adds a pushed manifest with a subject to the list under the subject's tag, which the client has to keep when the
 * registry does not (distribution-spec, referrers tag schema). Nothing for manifests without a subject.
 */
export async function addReferrer(
  context: Context & { readonly manifest: Uint8Array; readonly descriptor: Descriptor },
): Promise<void> {
  const { ask, place, doing, repository, manifest, descriptor } = context;
  const { subject, artifactType, annotations, config } = parseObject(manifest);
  if (subject === undefined || subject === null) return;
  const digest = checkDigest(String((subject as { digest?: unknown }).digest));
  const known = await tagged({ ...context, digest });
  if (known.some((item) => item.digest === descriptor.digest)) return;
  const type = artifactType ?? (config as { mediaType?: unknown } | undefined)?.mediaType;
  const added = {
    mediaType: descriptor.mediaType,
    digest: descriptor.digest,
    size: Number(descriptor.size),
    ...(typeof type === 'string' ? { artifactType: type } : {}),
    ...(typeof annotations === 'object' && annotations !== null ? { annotations } : {}),
  };
  const manifests = [...known.map((item) => ({ ...item, size: Number(item.size) })), added];
  const body = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
  const path = `${repository}/manifests/${tagOf(digest)}`;
  const answer = await ask({ method: 'PUT', path, doing, headers: { 'content-type': OCI_INDEX }, body, canPush: true });
  if (answer.status !== 201 && answer.status !== 200) throw statusError(place, answer);
}

async function tagged({ ask, place, doing, repository, digest }: Context & { digest: string }): Promise<Descriptor[]> {
  const path = `${repository}/manifests/${tagOf(digest)}`;
  const answer = await ask({ method: 'GET', path, doing, headers: { accept: OCI_INDEX } });
  if (answer.status === 404) return [];
  if (answer.status !== 200) throw statusError(place, answer);
  return descriptorsIn(answer.body, place);
}

function tagOf(digest: string): string {
  return digest.replace(':', '-').slice(0, 128);
}

function ofType(list: readonly Descriptor[], artifactType: string | undefined): Descriptor[] {
  return list.filter((item) => artifactType === undefined || item.artifactType === artifactType);
}

function descriptorsIn(document: Uint8Array, place: Place): Descriptor[] {
  const { manifests } = parseObject(document);
  if (!Array.isArray(manifests)) throw failureAt(place, 'failed precondition', 'its list of referrers is no index');
  if (manifests.length > REFERRERS_MAX) {
    throw failureAt(place, 'resource exhausted', `its list has more than ${REFERRERS_MAX} entries`);
  }
  return manifests.map((item) => descriptorFrom(item, place));
}

function descriptorFrom(item: unknown, place: Place): Descriptor {
  const { mediaType, digest, size, artifactType, annotations } = (item ?? {}) as Record<string, unknown>;
  try {
    if (typeof mediaType !== 'string' || !Number.isSafeInteger(size) || Number(size) < 0)
      throw new Error('no descriptor');
    return {
      mediaType,
      digest: checkDigest(String(digest)),
      size: BigInt(Number(size)),
      ...(typeof artifactType === 'string' ? { artifactType } : {}),
      ...(isTexts(annotations) ? { annotations } : {}),
    };
  } catch (error) {
    const words = errorKind(error) === undefined ? 'has an entry that is no descriptor' : 'has a digest that is none';
    throw failureAt(place, 'failed precondition', `its list of referrers ${words}`, { cause: error });
  }
}

function isTexts(value: unknown): value is Record<string, string> {
  return typeof value === 'object' && value !== null && Object.values(value).every((item) => typeof item === 'string');
}

/** The query of the next page, from a Link header (RFC 8288). Where else it points to does not count. */
function nextPage({ headers, url }: Answer): Record<string, string> | undefined {
  const link = /<([^>]*)>\s*;\s*rel="?next"?/.exec(headers['link'] ?? '')?.[1];
  const target = link === undefined ? null : URL.parse(link, url);
  return target === null ? undefined : Object.fromEntries(target.searchParams);
}
