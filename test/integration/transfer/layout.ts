// OCI image layouts made in memory, whole or broken in a chosen way, for one platform or several.

import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { tar } from '../cli/fixture';

type Files = readonly (readonly [name: string, data: Buffer | string])[];
type Blob = readonly [name: string, data: Buffer];

export interface LayoutPlan {
  readonly name?: string;
  /** Files of each layer, base first. */
  readonly layers: readonly Files[];
  /** Leaves the last layer out of the archive. */
  readonly leaveOut?: 'layer';
  /** Changes a byte of the last layer. */
  readonly damage?: boolean;
  /** The last layer is one that may not be passed on. */
  readonly foreign?: boolean;
  /** Where the last layer is besides. */
  readonly urls?: readonly string[];
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

export interface Image {
  readonly manifest: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly blobs: readonly Blob[];
}

const MACHINE = process.arch === 'x64' ? 'amd64' : process.arch;
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';

interface Layout {
  readonly tar: Buffer;
  readonly manifest: string;
  readonly layers: string[];
  /** Bytes of the last layer. */
  readonly lastLayer: Buffer;
}

/** The archive, the digest of its manifest, and the digests of its layers. */
export async function layout(plan: LayoutPlan): Promise<Layout> {
  const image = await makeImage(plan, MACHINE);
  const blobs = image.blobs.filter(([name]) => plan.leaveOut === undefined || name !== pathOf(image.layers.at(-1)));
  const archive = await archiveOf(plan.name, image.manifest, blobs);
  const last = image.blobs.find(([name]) => name === pathOf(image.layers.at(-1)))?.[1] ?? Buffer.alloc(0);
  const layers = image.layers.map(({ digest }) => digest);
  return { tar: archive, manifest: image.manifest.digest, layers, lastLayer: last };
}

/** The archive of an index with an image for each architecture, and the digest of the index. */
export async function multiLayout(
  name: string,
  images: Readonly<Record<string, LayoutPlan['layers']>>,
): Promise<{ tar: Buffer; index: string; images: Record<string, Image> }> {
  const made: Record<string, Image> = {};
  for (const [architecture, layers] of Object.entries(images))
    made[architecture] = await makeImage({ layers }, architecture);
  const manifests = Object.entries(made).map(([architecture, { manifest }]) => ({
    ...manifest,
    platform: { os: 'linux', architecture },
  }));
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests }));
  const descriptor = descriptorOf(INDEX, index);
  const blobs = [...Object.values(made).flatMap((image) => image.blobs), [pathOf(descriptor), index] as const];
  return { tar: await archiveOf(name, descriptor, blobs), index: descriptor.digest, images: made };
}

async function makeImage(plan: LayoutPlan, architecture: string): Promise<Image> {
  const plain = await Promise.all(plan.layers.map((files) => tar(files)));
  const packed = plain.map((layer) => gzipSync(layer, { level: 1 }));
  const config = Buffer.from(
    JSON.stringify({ architecture, os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: plain.map(sha256) } }),
  );
  const configDescriptor = descriptorOf('application/vnd.oci.image.config.v1+json', config);
  const layers = packed.map((layer, index) => {
    const isLast = index === packed.length - 1;
    const kind = plan.foreign === true && isLast ? 'nondistributable.' : '';
    const descriptor = descriptorOf(`application/vnd.oci.image.layer.${kind}v1.tar+gzip`, layer);
    return isLast && plan.urls !== undefined ? { ...descriptor, urls: plan.urls } : descriptor;
  });
  const manifest = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, config: configDescriptor, layers }),
  );
  const manifestDescriptor = descriptorOf(MANIFEST, manifest);
  const layerBlobs = packed.map((layer, index): Blob => {
    const isDamaged = plan.damage === true && index === packed.length - 1;
    return [pathOf(layers[index]), isDamaged ? flipped(layer) : layer];
  });
  const blobs: Blob[] = [...layerBlobs, [pathOf(configDescriptor), config], [pathOf(manifestDescriptor), manifest]];
  return { manifest: manifestDescriptor, layers, blobs };
}

function archiveOf(name: string | undefined, target: Descriptor, blobs: readonly Blob[]): Promise<Buffer> {
  const annotations = name === undefined ? {} : { annotations: { 'io.containerd.image.name': name } };
  return tar([
    ...blobs,
    ['index.json', JSON.stringify({ schemaVersion: 2, manifests: [{ ...target, ...annotations }] })],
    ['oci-layout', '{"imageLayoutVersion":"1.0.0"}'],
  ]);
}

function pathOf(descriptor: Descriptor | undefined): string {
  return `blobs/${descriptor?.digest.replace(':', '/')}`;
}

function flipped(blob: Buffer): Buffer {
  const copy = Buffer.from(blob);
  copy[copy.length - 1] = (copy.at(-1) ?? 0) ^ 1;
  return copy;
}

function descriptorOf(mediaType: string, data: Buffer): Descriptor {
  return { mediaType, digest: sha256(data), size: data.length };
}

function sha256(data: Buffer): string {
  return `sha256:${createHash('sha256').update(data).digest('hex')}`;
}
