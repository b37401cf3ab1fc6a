// The URLs of a descriptor (image-spec, descriptor.md): where else its bytes are. Layers that must not be distributed are
// in no registry. As with containerd they are asked first, and without anything that the registry is told.

import { CONNECT_TIMEOUT_MS } from './hosts';
import type { DownloadSource } from './http/download';
import { NO_TLS_SETTINGS } from './http/endpoint';
import type { Descriptor } from './types';

/** URLs that are tried for one blob. */
const URLS_MAX = 4;

/** Those over http and https; others, and what is no URL, are left out. */
export function urlSources({ urls = [] }: Descriptor, accept: string): DownloadSource[] {
  const sources: DownloadSource[] = [];
  for (const text of urls.slice(0, URLS_MAX)) {
    const url = URL.parse(text);
    if (url?.protocol !== 'https:' && url?.protocol !== 'http:') continue;
    const endpoint = {
      host: url.host,
      url: url.href,
      capabilities: ['pull'] as const,
      headers: {},
      tls: NO_TLS_SETTINGS,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      mirrored: undefined,
    };
    sources.push({ endpoint, url: url.href, scopes: undefined, accept });
  }
  return sources;
}
