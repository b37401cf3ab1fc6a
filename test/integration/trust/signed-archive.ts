// An archive that holds an image together with its signature, as an OCI layout.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type SignatureBlob, signatureManifest } from '../../images/signatures';
import { mustRun } from '../../setup/command';
import { tar } from '../cli/fixture';

/** Copies an archive and puts a signature of its image into it. @returns the image's digest */
export async function addSignature(
  source: string,
  target: string,
  make: (digest: string) => SignatureBlob,
): Promise<string> {
  const unpacked = `${target}.d`;
  mkdirSync(unpacked);
  await mustRun(['tar', '-xf', source, '-C', unpacked]);
  const index = JSON.parse(readFileSync(join(unpacked, 'index.json'), 'utf8'));
  const digest: string = index.manifests[0].digest;
  const signature = make(digest);
  const { manifest, config } = signatureManifest([signature]);
  index.manifests.push(manifest.descriptor);
  const blobs = await mustRun(['find', join(unpacked, 'blobs'), '-type', 'f', '-printf', 'blobs/%P\n']);
  const kept = blobs
    .trim()
    .split('\n')
    .map((name): [string, Buffer] => [name, readFileSync(join(unpacked, name))]);
  const added = [signature, manifest, config].map(({ descriptor, bytes }): [string, Buffer] => [
    `blobs/${descriptor.digest.replace(':', '/')}`,
    bytes,
  ]);
  const documents: [string, string][] = [
    ['oci-layout', '{"imageLayoutVersion":"1.0.0"}'],
    ['index.json', JSON.stringify(index)],
  ];
  writeFileSync(target, await tar([...documents, ...kept, ...added]));
  return digest;
}
