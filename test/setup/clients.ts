// The third-party programs that tests drive or compare with, by version: Debian's installed containerd and ctr, and the
// ones of Debian 13 and of Debian testing, unpacked beside.

import path from 'node:path';
import { CACHE_DIRECTORY } from './cache';
import { mustRun } from './command';
import { needsFile } from './needs';
import { ensurePackages, ensureUnpacked } from './packages';

/** criu with what it is linked to, as it runs beside an older C library. */
const CRIU_PACKAGES = (
  'criu libbsd0 libc6 libffi8 libgmp10 libgnutls30t64 libhogweed6t64 libidn2-0 libjansson4 libmd0 libmnl0 libnet1 ' +
  'libnettle8t64 libnftables1 libnftnl11 libnl-3-200 libp11-kit0 libprotobuf-c1 libtasn1-6 libunistring5 libuuid1 libxtables12'
).split(' ');

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

/** Where {@link newestContainerd} is after `make test` has brought it. */
const NEWEST_CTR = path.join(CACHE_DIRECTORY, 'forky-containerd', 'usr', 'bin', 'ctr');

/** Why there is no containerd 2.x; undefined when there is. */
export function missingNewestContainerd(): string | undefined {
  return needsFile(NEWEST_CTR, 'package containerd of Debian testing, which `make test` unpacks');
}

/** That of Debian testing, 2.x, unpacked into the cache. Which version it is changes with time. */
export async function newestContainerd(): Promise<ContainerdRelease> {
  await ensurePackages();
  const binDirectory = path.join(await ensureUnpacked('forky', ['containerd']), 'usr', 'bin');
  const ctr = path.join(binDirectory, 'ctr');
  const printed = await mustRun([ctr, '--version']);
  const version = /\b2\.\d+\.\d+/.exec(printed)?.[0];
  if (version === undefined) throw new Error(`${ctr}: is not of containerd 2.x: ${printed}`);
  return { version, ctr, containerd: path.join(binDirectory, 'containerd'), binDirectory };
}

/** The program that signs images, of Debian 13. */
export async function unpackedCosign(): Promise<string> {
  return path.join(await ensureUnpacked('trixie', ['cosign']), 'usr', 'bin', 'cosign');
}

/** Debian 12's dockerd, and Debian 13's. */
export const DOCKER_VERSIONS = ['20.10.24', '26.1.5'] as const;
export type DockerVersion = (typeof DOCKER_VERSIONS)[number];

/** A dockerd release with its client. */
export interface DockerRelease {
  readonly version: DockerVersion;
  readonly docker: string;
  readonly dockerd: string;
  /** Plug-ins for the client. */
  readonly plugins: readonly string[];
}

export const INSTALLED_DOCKER: DockerRelease = {
  version: '20.10.24',
  docker: '/usr/bin/docker',
  dockerd: '/usr/sbin/dockerd',
  plugins: [],
};

/** Debian 12's is installed, Debian 13's unpacked. */
export async function dockerRelease(version: DockerVersion): Promise<DockerRelease> {
  if (version === '26.1.5') return unpackedDocker();
  await ensurePackages();
  return INSTALLED_DOCKER;
}

/** Debian 13's with buildx and docker-init, unpacked into the cache; it runs the installed runc. */
export async function unpackedDocker(): Promise<DockerRelease> {
  await ensurePackages();
  const packages = ['docker.io', 'docker-cli', 'docker-buildx', 'tini'];
  const folder = path.join(await ensureUnpacked('trixie', packages), 'usr');
  return {
    version: '26.1.5',
    docker: path.join(folder, 'bin', 'docker'),
    dockerd: path.join(folder, 'sbin', 'dockerd'),
    plugins: [path.join(folder, 'libexec', 'docker', 'cli-plugins', 'docker-buildx')],
  };
}

/** The folder into which the criu of Debian 13 is unpacked; that of Debian 12 does not work on newer kernels. */
export function unpackedCriu(): Promise<string> {
  return ensureUnpacked('trixie', CRIU_PACKAGES);
}
