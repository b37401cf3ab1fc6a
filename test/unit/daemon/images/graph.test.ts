// Which branches of an image are wanted, how entries are called, and how the walk goes.

import type { ImageDescriptor } from '../../../../daemon/images/documents';
import { type GraphFilter, nameOfBlob, walkGraph, wantedChildren } from '../../../../daemon/images/graph';
import { OCI_INDEX, OCI_MANIFEST } from '../../../../daemon/images/media-types';
import { anyPlatform, exactly } from '../../../../daemon/images/platform';

const CONFIG = 'application/vnd.oci.image.config.v1+json';
const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';

function blob(mediaType: string, id: number, architecture?: string): ImageDescriptor {
  const digest = `sha256:${String(id).padStart(64, '0')}`;
  return {
    mediaType,
    digest,
    size: 1,
    ...(architecture === undefined ? {} : { platform: { os: 'linux', architecture } }),
  };
}

const index = blob(OCI_INDEX, 1);
const [amd64, arm64, s390x] = ['amd64', 'arm64', 's390x'].map((name, id) => blob(OCI_MANIFEST, id + 2, name)) as [
  ImageDescriptor,
  ImageDescriptor,
  ImageDescriptor,
];
const any = blob(OCI_MANIFEST, 9);
const filter = (given: Partial<GraphFilter>): GraphFilter => ({
  platforms: anyPlatform,
  allMetadata: false,
  manifestLimit: 0,
  ...given,
});
const [amd64Only, both] = [['amd64'], ['arm64', 'amd64']].map((names) =>
  exactly(names.map((architecture) => ({ os: 'linux', architecture }))),
) as [GraphFilter['platforms'], GraphFilter['platforms']];

describe('wantedChildren() of an index', () => {
  const manifests = [amd64, arm64, s390x, any];

  test.each([
    ['everything without a choice', {}, manifests],
    ['those of the platform and those of none', { platforms: amd64Only }, [amd64, any]],
    ['all of them for metadata', { platforms: amd64Only, allMetadata: true }, manifests],
    ['the best when they are limited', { platforms: both, manifestLimit: 1 }, [arm64]],
    ['two of the best', { platforms: both, manifestLimit: 2 }, [arm64, amd64]],
  ])('takes %s', (_name, given, expected) => {
    expect(wantedChildren(index, manifests, filter(given))).toEqual(expected);
  });

  test('says so when a limited choice finds nothing', () => {
    expect(() => wantedChildren(index, [s390x], filter({ platforms: amd64Only, manifestLimit: 1 }))).toThrow(
      'no manifest for the platform: not found',
    );
  });
});

test('wantedChildren() of a manifest for another platform takes the configuration, not the layers, for metadata', () => {
  const children = [blob(CONFIG, 20), blob(LAYER, 21)];
  const metadata = filter({ platforms: amd64Only, allMetadata: true });

  expect(wantedChildren(arm64, children, metadata)).toEqual([children[0]]);
  expect(wantedChildren(amd64, children, metadata)).toEqual(children);
});

test('nameOfBlob() tells what a blob is', () => {
  const attestation = { ...amd64, annotations: { 'vnd.docker.reference.type': 'attestation-manifest' } };

  const names = [index, amd64, attestation, blob(CONFIG, 1), blob(LAYER, 1), blob('text/plain', 1)].map(nameOfBlob);

  expect(names.map((name) => name.split('-sha256')[0])).toEqual([
    'index',
    'manifest',
    'attestation',
    'config',
    'layer',
    'unknown',
  ]);
});

describe('walkGraph()', () => {
  test('visits each blob once, parents first', async () => {
    const children = new Map([
      [index.digest, [amd64, arm64, amd64]],
      [amd64.digest, [any]],
      [arm64.digest, [any]],
    ]);
    const visited: string[] = [];

    await walkGraph(index, async ({ digest }) => {
      visited.push(digest);
      return children.get(digest) ?? [];
    });

    expect(visited).toEqual([index, amd64, arm64, any].map(({ digest }) => digest));
  });

  test('refuses indexes that are nested without end', async () => {
    let count = 0;
    const endless = async () => {
      count += 1;
      return [blob(OCI_INDEX, 100 + count)];
    };

    await expect(walkGraph(index, endless)).rejects.toThrow('nested too deeply');
    expect(count).toBeLessThan(20);
  });

  test('fails only when all that it began has ended', async () => {
    let isDone = false;

    const walk = walkGraph(index, async ({ digest }) => {
      if (digest === index.digest) return [amd64, arm64];
      if (digest === amd64.digest) throw new Error('broken');
      await new Promise((resolve) => setTimeout(resolve, 20));
      isDone = true;
      return [];
    });

    await expect(walk).rejects.toThrow('broken');
    expect(isDone).toBe(true);
  });
});
