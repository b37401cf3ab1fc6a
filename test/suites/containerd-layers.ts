// Layers as Debian's containerd unpacks them, to compare ours with.

import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { installedContainerd } from '../setup/clients';
import { mustRun } from '../setup/command';
import { startContainerd } from '../setup/daemons';
import { type TarSpec, tar } from './tar-builder';

const LAYER = 'application/vnd.oci.image.layer.v1.tar';

const sha256 = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** Imports an image of these layers into a private containerd and returns the directories of its layers. */
export async function withContainerd(directory: string, layers: readonly Buffer[]): Promise<string[]> {
  const image = join(directory, 'image.tar');
  writeFileSync(image, imageArchive(layers));
  const release = await installedContainerd();
  const home = join(directory, 'containerd');
  mkdirSync(home);
  const daemon = await startContainerd(release, { directory: home });
  try {
    await mustRun([release.ctr, '-a', daemon.address, 'images', 'import', image]);
  } finally {
    await daemon.stop();
  }
  const snapshots = join(daemon.root, 'io.containerd.snapshotter.v1.overlayfs/snapshots');
  return layers.map((_, index) => join(snapshots, String(index + 1), 'fs'));
}

function imageArchive(layers: readonly Buffer[]): Buffer {
  const files: TarSpec[] = [];
  const add = (mediaType: string, content: Buffer) => {
    const digest = sha256(content);
    files.push({ name: `blobs/sha256/${digest.slice(7)}`, content });
    return { mediaType, digest, size: content.length };
  };
  const config = {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: layers.map(sha256) },
  };
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: add('application/vnd.oci.image.config.v1+json', Buffer.from(JSON.stringify(config))),
    layers: layers.map((content) => add(LAYER, content)),
  };
  const annotations = { 'io.containerd.image.name': 'test/layers:1' };
  const target = { ...add(mediaType, Buffer.from(JSON.stringify(manifest))), annotations };
  return tar([
    { name: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
    { name: 'index.json', content: JSON.stringify({ schemaVersion: 2, manifests: [target] }) },
    ...files,
  ]);
}
