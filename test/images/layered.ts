// Images of several large layers, for what unpacks them: Debian's minbase, python3 installed into it by apt, 20,000 small
// files, and a layer that removes and replaces; the same layers in different orders and differently compressed.

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { cached } from '../setup/cache';
import { mustRun } from '../setup/command';
import { debianBase, secondLayer } from './debian';
import { IMAGE_TIME, type LayerCompression, type LayerEntry, writeImage, writeLayerTar } from './oci-image';

type LayerName = 'base' | 'python' | 'files' | 'second';

export type LayeredName = 'gzip' | 'zstd' | 'mixed';

/** Layers of each image, base first. */
export const LAYERED: Readonly<Record<LayeredName, readonly (readonly [LayerName, LayerCompression])[]>> = {
  gzip: [
    ['base', 'gzip'],
    ['python', 'gzip'],
    ['files', 'gzip'],
  ],
  zstd: [
    ['base', 'zstd'],
    ['second', 'zstd'],
    ['files', 'zstd'],
    ['python', 'zstd'],
  ],
  mixed: [
    ['files', 'none'],
    ['base', 'zstd'],
    ['python', 'gzip'],
    ['second', 'none'],
  ],
};

const DIRECTORIES = 200;
const FILES_EACH = 100;
const APT_TIMEOUT_MS = 300_000;
/** cap_net_raw+ep as the kernel stores it (linux/capability.h, vfs_cap_data). */
const NET_RAW = `\x01\0\0\x02\0\x20\0\0${'\0'.repeat(12)}`;

/** The name that importers give to the image. */
export function layeredName(name: LayeredName): string {
  return `test/layered:${name}`;
}

/** Returns the path of the image file; made on first use. A change of it needs a new name. */
export async function layeredImage(name: LayeredName): Promise<string> {
  const layers = LAYERED[name];
  const tars = await layerTars();
  return cached(`images/layered-${name}-1.tar`, (scratch) =>
    writeImage(scratch, {
      name: layeredName(name),
      layerTars: layers.map(([layer]) => tars[layer]),
      compressions: layers.map(([, compression]) => compression),
      defaults: { Cmd: ['/bin/bash'], Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'], WorkingDir: '/' },
    }),
  );
}

/** Paths of the uncompressed layers; made on first use, which takes about a minute. */
export async function layerTars(): Promise<Readonly<Record<LayerName, string>>> {
  const base = await debianBase();
  const directory = await cached('images/layers-1', async (scratch) => {
    fs.mkdirSync(scratch);
    await writeLayerTar(path.join(scratch, 'second.tar'), secondLayer());
    await writeLayerTar(path.join(scratch, 'files.tar'), smallFiles());
    await installOnTop(base, ['python3', 'iputils-ping'], path.join(scratch, 'python.tar'));
  });
  const tar = (name: string) => path.join(directory, `${name}.tar`);
  return { base, python: tar('python'), files: tar('files'), second: tar('second') };
}

/** What apt changes in the root filesystem `base` when it installs packages; the upper directory of an overlay. */
async function installOnTop(base: string, packages: readonly string[], target: string): Promise<void> {
  const work = `${target}.work`;
  const [lower, upper, merged] = ['lower', 'upper', 'merged'].map((name) => path.join(work, name)) as [
    string,
    string,
    string,
  ];
  for (const folder of [lower, upper, merged, `${work}/work`, `${work}/archives/partial`]) {
    fs.mkdirSync(folder, { recursive: true });
  }
  await mustRun(['tar', '--numeric-owner', '-xpf', base, '-C', lower]);
  const layers = `lowerdir=${lower},upperdir=${upper},workdir=${work}/work`;
  await mustRun(['mount', '-t', 'overlay', 'overlay', '-o', layers, merged]);
  try {
    // Downloaded by the machine's apt, which knows the mirror; scripts of the packages run inside.
    const options = [
      `-oDir::State::status=${merged}/var/lib/dpkg/status`,
      `-oDir::Cache::archives=${work}/archives`,
      `-oDir::State::extended_states=${work}/extended_states`, // apt sets mode and time of the file, also of /dev/null
      `-oDPkg::Options::=--root=${merged}`,
      '-oAPT::Sandbox::User=root',
    ];
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };
    const command = ['apt-get', '-qq', '-y', '--no-install-recommends', ...options, 'install', ...packages];
    await mustRun(command, { env, timeoutMs: APT_TIMEOUT_MS });
  } finally {
    await mustRun(['umount', merged]);
  }
  writeWhiteouts(upper);
  const tar = ['tar', '--format=posix', '--sort=name', '--numeric-owner', '--xattrs', '--xattrs-include=security.*'];
  await mustRun([...tar, '-C', upper, '-cf', target, '.']);
  fs.rmSync(work, { recursive: true });
}

/** Devices 0:0, the whiteouts of overlayfs, become those of layers. */
function writeWhiteouts(upper: string): void {
  for (const name of fs.readdirSync(upper, { recursive: true, encoding: 'utf8' })) {
    const full = path.join(upper, name);
    const stat = fs.lstatSync(full);
    if (!stat.isCharacterDevice() || stat.rdev !== 0) continue;
    fs.rmSync(full);
    fs.writeFileSync(path.join(path.dirname(full), `.wh.${path.basename(full)}`), '');
  }
}

/** Files of up to 4 KB with all kinds of attributes, some of them links to others. */
function smallFiles(): LayerEntry[] {
  const entries: LayerEntry[] = [
    { name: 'srv/', type: 'directory', mode: 0o755 },
    { name: 'srv/small/', type: 'directory', mode: 0o2775, gid: 50 },
  ];
  for (let folder = 0; folder < DIRECTORIES; folder += 1) {
    const directory = `srv/small/folder-${folder}`;
    entries.push({ name: `${directory}/`, type: 'directory', mode: 0o755, uid: folder, pax: timeOf(folder) });
    for (let index = 0; index < FILES_EACH; index += 1) entries.push(smallFile(directory, index));
  }
  return entries;
}

function smallFile(directory: string, index: number): LayerEntry {
  const name = `${directory}/file-${index}`;
  const first = `${directory}/file-0`;
  if (index === 97) return { name, type: 'link', linkname: first, ...attributesOf(first, 0) };
  if (index === 98) return { name, type: 'symlink', linkname: '../folder-0/file-1', pax: timeOf(index) };
  if (index === 99) return { name: `${directory}/${'long-'.repeat(40)}`, content: 'long name\n' };
  const hash = createHash('sha256').update(name).digest('hex');
  return { name, content: hash.repeat(1 + (Number.parseInt(hash.slice(0, 4), 16) % 64)), ...attributesOf(name, index) };
}

function attributesOf(name: string, index: number): Partial<LayerEntry> {
  const xattrs = {
    ...(index % 10 === 0 ? { 'SCHILY.xattr.user.name': path.basename(name) } : {}),
    ...(index === 5 ? { 'SCHILY.xattr.security.capability': NET_RAW } : {}),
  };
  const mode = [0o644, 0o755, 0o600, 0o4755, 0o2711][index % 5] as number;
  return { mode, uid: index, gid: 100_000 + index, pax: { ...timeOf(index), ...xattrs } };
}

/** A time with parts of a second. */
function timeOf(index: number): Record<string, string> {
  return { mtime: `${IMAGE_TIME.getTime() / 1000 + index}.${String(index * 1_000_003).padStart(9, '0')}` };
}
