// Debian packages that the tests need: installs what is missing on this machine, and unpacks the containerd of the next
// Debian release beside the system. Everything comes from the Debian mirror that the machine's own apt uses.

import fs from 'node:fs';
import path from 'node:path';
import { sha256 } from '../../proto/ids';
import { CACHE_DIRECTORY, cached, withLock } from './cache';
import { mustRun, runCommand } from './command';

/**
 * What each package is for: the peer and its runtime, image contents, the Python client, image files on loop devices,
 * file systems of snapshotters, programs that tests start and that a container image of Debian lacks, engines that our
 * OCI runtime runs under, a registry with what makes its users and certificates, tools that read and write images, and
 * a compiler and an emulator for another processor.
 */
const NEEDED_PACKAGES = [
  'containerd',
  'runc',
  'crun',
  'busybox-static',
  'uidmap',
  'mmdebstrap',
  'libseccomp2',
  'python3',
  'python3-grpcio',
  'python3-protobuf',
  'protobuf-compiler',
  'protobuf-compiler-grpc',
  'libprotobuf-dev',
  'e2fsprogs',
  'erofs-utils',
  'btrfs-progs',
  'bsdutils',
  'mount',
  'attr',
  'libcap2-bin',
  'strace',
  'systemd',
  'procps',
  'podman',
  'conmon',
  'docker.io',
  'docker-registry',
  'apache2-utils',
  'openssl',
  'skopeo',
  'umoci',
  'gcc-aarch64-linux-gnu',
  'libc6-dev-arm64-cross',
  'qemu-user-static',
] as const;

const POLICY_PATH = '/usr/sbin/policy-rc.d';
// biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's own placeholders.
const STATUS_FORMAT = '${Package} ${db:Status-Status}\n';
const APT_TIMEOUT_MS = 900_000;
const APT_ENV = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };

/** Installs the missing ones of the needed packages; takes a few milliseconds when none is. Needs root only to install. */
export async function ensurePackages(needed: readonly string[] = NEEDED_PACKAGES): Promise<void> {
  if ((await missingPackages(needed)).length === 0) {
    return;
  }
  await withLock(path.join(CACHE_DIRECTORY, 'packages.lock'), async () => {
    const missing = await missingPackages(needed);
    if (missing.length === 0) {
      return;
    }
    if (process.getuid?.() !== 0) {
      throw new Error(`tests need these Debian packages and only root can install them: ${missing.join(' ')}`);
    }
    console.log(`installing Debian packages: ${missing.join(' ')}`);
    await withoutServiceStarts(() => install(missing));
  });
}

/** The mirror and suite of the Debian release that this machine runs, as its apt knows them. */
export async function debianMirror(): Promise<{ uri: string; suite: string }> {
  const format = '--format=$(REPO_URI) $(CODENAME) $(COMPONENT)';
  const query = ['apt-get', 'indextargets', format, 'Created-By: Packages', 'Origin: Debian'];
  let lines = (await mustRun(query)).split('\n');
  if (!lines.some((line) => line.endsWith(' main'))) {
    await mustRun(['apt-get', '-qq', 'update'], { env: APT_ENV, timeoutMs: APT_TIMEOUT_MS });
    lines = (await mustRun(query)).split('\n');
  }
  // Codenames with a dash are the updates and security suites.
  const main = lines
    .map((line) => line.split(' '))
    .find(([, suite, component]) => component === 'main' && !suite?.includes('-'));
  if (main?.[0] === undefined || main[1] === undefined) {
    throw new Error('the package lists of apt name no Debian mirror');
  }
  return { uri: main[0], suite: main[1] };
}

/**
 * Returns the folder into which the packages of another Debian suite are unpacked, not installed. Programs in its
 * usr/bin run as they are when they need no newer libc (Go programs do not).
 */
export function ensureUnpacked(suite: string, packages: readonly string[]): Promise<string> {
  // Short: criu fails when the paths of its own libraries are long.
  const others = packages.length === 1 ? '' : `-${sha256(packages.join(' ')).slice(-8)}`;
  return cached(`${suite}-${packages[0]}${others}`, async (scratch) => {
    const apt = path.join(scratch, '.apt');
    const downloads = path.join(apt, 'downloads');
    fs.mkdirSync(path.join(apt, 'lists', 'partial'), { recursive: true });
    fs.mkdirSync(downloads);
    const { uri } = await debianMirror();
    const sources = path.join(apt, 'only.sources');
    const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
    fs.writeFileSync(sources, `Types: deb\nURIs: ${uri}\nSuites: ${suite}\nComponents: main\nSigned-By: ${keyring}\n`);
    const options = [
      `-oDir::Etc::sourcelist=${sources}`,
      '-oDir::Etc::sourceparts=/dev/null',
      `-oDir::State::Lists=${apt}/lists`,
      `-oDir::Cache::pkgcache=${apt}/pkgcache.bin`,
      `-oDir::Cache::srcpkgcache=${apt}/srcpkgcache.bin`,
      '-oAPT::Sandbox::User=root',
    ];
    const run = { env: APT_ENV, cwd: downloads, timeoutMs: APT_TIMEOUT_MS };
    await mustRun(['apt-get', '-qq', ...options, 'update'], run);
    await mustRun(['apt-get', '-qq', ...options, 'download', ...packages], run);
    for (const file of fs.readdirSync(downloads)) {
      await mustRun(['dpkg', '-x', path.join(downloads, file), scratch]);
    }
    fs.rmSync(apt, { recursive: true });
  });
}

async function missingPackages(needed: readonly string[]): Promise<string[]> {
  const query = ['dpkg-query', '-W', '-f', STATUS_FORMAT, ...needed];
  const { stdout } = await runCommand(query, { env: APT_ENV });
  const installed = new Set(
    stdout
      .split('\n')
      .filter((line) => line.endsWith(' installed'))
      .map((line) => line.split(' ')[0]),
  );
  return needed.filter((name) => !installed.has(name));
}

/** The lists of a new machine are empty or old: only then they are fetched. */
async function install(packages: readonly string[]): Promise<void> {
  const command = ['apt-get', '-qq', '-y', '--no-install-recommends', 'install', ...packages];
  const options = { env: APT_ENV, timeoutMs: APT_TIMEOUT_MS };
  if ((await runCommand(command, options)).exitCode === 0) {
    return;
  }
  await mustRun(['apt-get', '-qq', 'update'], options);
  await mustRun(command, options);
}

/** Keeps package scripts from starting services (containerd's would), by Debian's own policy hook; leaves no trace of it. */
async function withoutServiceStarts(body: () => Promise<void>): Promise<void> {
  if (fs.existsSync(POLICY_PATH)) {
    return body();
  }
  fs.writeFileSync(POLICY_PATH, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    await body();
  } finally {
    fs.rmSync(POLICY_PATH, { force: true });
  }
}
