// Platforms as os/architecture/variant: parsing, matching, and choosing a manifest of an index (image-spec,
// image-index.md).

import { notFound } from '../../proto/errors';
import { usageError } from '../failure';
import type { Session } from '../session';
import {
  type Configuration,
  isIndex,
  isIndexType,
  type Manifest,
  type OciDescriptor,
  type OciPlatform,
  readConfiguration,
  readDocument,
} from './documents';

const INDEX_DEPTH_MAX = 4;
const ARCHITECTURES: Record<string, string> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le', mipsel: 'mipsle' };
const SYNONYMS: Record<string, string> = { x86_64: 'amd64', aarch64: 'arm64', i386: '386' };

/** "linux/arm64/v8", "linux/amd64" or "arm64". @throws CommandError (usage) */
export function parsePlatform(text: string): OciPlatform {
  const parts = text.toLowerCase().split('/');
  if (parts.length > 3 || parts.some((part) => part === '')) {
    throw usageError(`"${text}" is not a platform; write for example linux/amd64`);
  }
  const [os = '', architecture, variant] = parts.length === 1 ? ['linux', ...parts] : parts;
  return {
    os,
    architecture: SYNONYMS[architecture ?? ''] ?? architecture ?? '',
    ...(variant === undefined ? {} : { variant }),
  };
}

export function hostPlatform(): OciPlatform {
  return { os: 'linux', architecture: ARCHITECTURES[process.arch] ?? process.arch };
}

export function platformText(platform: OciPlatform | undefined): string {
  if (platform?.os === undefined || platform.os === '') return 'unknown';
  const { os, architecture, variant } = platform;
  return [os, architecture, variant].filter((part) => part !== undefined && part !== '').join('/');
}

/** True when what is offered runs where `wanted` is asked for. A variant counts only when both name one. */
export function platformMatches(offered: OciPlatform, wanted: OciPlatform): boolean {
  const variantFits =
    wanted.variant === undefined ||
    wanted.variant === '' ||
    offered.variant === undefined ||
    offered.variant === wanted.variant;
  return offered.os === wanted.os && offered.architecture === wanted.architecture && variantFits;
}

export interface ResolvedImage {
  readonly manifest: OciDescriptor;
  readonly document: Manifest;
  readonly configuration: Configuration;
}

/**
 * The manifest for a platform behind a manifest or an index.
 * @throws NOT_FOUND when the image has none for it, or when its content is not there.
 */
export async function resolvePlatform(
  session: Session,
  target: OciDescriptor,
  wanted: OciPlatform,
  depth = 0,
): Promise<ResolvedImage> {
  const document = await readDocument(session, target);
  if (!isIndex(document)) {
    const configuration = await readConfiguration(session, document.config.digest);
    const says = configuration.os !== undefined && configuration.architecture !== undefined;
    if (depth === 0 && says && !platformMatches(configuration, wanted)) {
      throw notFound(`image is for ${platformText(configuration)}, not for ${platformText(wanted)}`);
    }
    return { manifest: target, document, configuration };
  }
  const offered = document.manifests.filter((item) => item.annotations?.['vnd.docker.reference.type'] === undefined);
  const candidates = offered.filter((item) => item.platform !== undefined && platformMatches(item.platform, wanted));
  const unknown = offered.filter((item) => item.platform === undefined);
  for (const candidate of [...candidates, ...unknown]) {
    if (isIndexType(candidate.mediaType) && depth >= INDEX_DEPTH_MAX) continue;
    const resolved = await resolvePlatform(session, candidate, wanted, depth + 1);
    if (candidate.platform !== undefined || platformMatches(resolved.configuration, wanted)) return resolved;
  }
  const platforms = offered.map(({ platform }) => platformText(platform)).join(', ');
  throw notFound(`image has no manifest for ${platformText(wanted)}; it has ${platforms || 'none at all'}`);
}
