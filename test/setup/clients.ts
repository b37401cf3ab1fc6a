// The third-party programs that tests drive or compare with, by version: Debian's installed containerd and ctr, and the
// ones of Debian 13, unpacked beside.

import path from 'node:path';
import { ensurePackages, ensureUnpacked } from './packages';

/** A containerd release: its client, its daemon, and the folder of its shims. */
export interface ContainerdRelease {
  readonly version: string;
  readonly ctr: string;
  readonly containerd: string;
  readonly binDirectory: string;
}

/** Debian 12's, installed. */
export async function installedContainerd(): Promise<ContainerdRelease> {
  await ensurePackages();
  return { version: '1.6.20', ctr: '/usr/bin/ctr', containerd: '/usr/bin/containerd', binDirectory: '/usr/bin' };
}

/** Debian 13's, unpacked into the cache. */
export async function unpackedContainerd(): Promise<ContainerdRelease> {
  await ensurePackages();
  const binDirectory = path.join(await ensureUnpacked('trixie', ['containerd']), 'usr', 'bin');
  return {
    version: '1.7.24',
    ctr: path.join(binDirectory, 'ctr'),
    containerd: path.join(binDirectory, 'containerd'),
    binDirectory,
  };
}
