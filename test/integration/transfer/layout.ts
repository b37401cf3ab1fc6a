// OCI image layouts made in memory, whole or broken in a chosen way.

import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { tar } from '../cli/fixture';

type Files = readonly (readonly [name: string, data: string])[];

export interface LayoutPlan {
  readonly name?: string;
  /** Files of each layer, base first. */
  readonly layers: readonly Files[];
  /** Leaves the last layer out of the archive. */
  readonly leaveOut?: 'layer';
  /** Changes a byte of the last layer. */
  readonly damage?: boolean;
}

/** The archive and the digest of its manifest. */
export async function layout(plan: LayoutPlan): Promise<{ tar: Buffer; manifest: string }> {
  const plain = await Promise.all(plan.layers.map((files) => tar(files)));
  const packed = plain.map((layer) => gzipSync(layer, { level: 1 }));
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: {},
      rootfs: { type: 'layers', diff_ids: plain.map(sha256) },
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: descriptor('application/vnd.oci.image.config.v1+json', config),
      layers: packed.map((layer) => descriptor('application/vnd.oci.image.layer.v1.tar+gzip', layer)),
    }),
  );
  const annotations = plan.name === undefined ? {} : { annotations: { 'io.containerd.image.name': plan.name } };
  const entry = { ...descriptor('application/vnd.oci.image.manifest.v1+json', manifest), ...annotations };
  const kept = plan.leaveOut === 'layer' ? packed.slice(0, -1) : packed;
  const blobs = [...kept, config, manifest].map((blob, index) => {
    const isDamaged = plan.damage === true && index === kept.length - 1;
    return [`blobs/${sha256(blob).replace(':', '/')}`, isDamaged ? flipped(blob) : blob] as const;
  });
  const archive = await tar([
    ...blobs,
    ['index.json', JSON.stringify({ schemaVersion: 2, manifests: [entry] })],
    ['oci-layout', '{"imageLayoutVersion":"1.0.0"}'],
  ]);
  return { tar: archive, manifest: sha256(manifest) };
}

function flipped(blob: Buffer): Buffer {
  const copy = Buffer.from(blob);
  copy[copy.length - 1] = (copy.at(-1) ?? 0) ^ 1;
  return copy;
}

function descriptor(mediaType: string, data: Buffer) {
  return { mediaType, digest: sha256(data), size: data.length };
}

function sha256(data: Buffer): string {
  return `sha256:${createHash('sha256').update(data).digest('hex')}`;
}
