// Names that a destination gives to images (containerd.types.transfer.ImageStore).

import { annotatedNames, givenNames } from '../../../../daemon/transfer/image-store';
import { ImageStore } from '../../../../proto/generated/containerd.types.transfer';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const store = (given: Parameters<typeof ImageStore.encode>[0]) => ImageStore.decode(ImageStore.encode(given));
const image = (annotations: Record<string, string>) => ({ mediaType: 'm', digest: DIGEST, size: 1, annotations });
const FULL = { 'io.containerd.image.name': 'host/app:1', 'org.opencontainers.image.ref.name': '1' };
const TAG = { 'org.opencontainers.image.ref.name': 'v2' };

test('givenNames() are the name and full references, with the digest where it is asked for', () => {
  const given = store({
    name: 'host/app:1',
    extraReferences: [{ name: 'other:1' }, { name: 'host/app', addDigest: true }, { name: 'prefix', isPrefix: true }],
  });

  expect(givenNames(given, image({}))).toEqual(['host/app:1', 'other:1', `host/app@${DIGEST}`]);
  expect(givenNames(store({}), image({}))).toEqual([]);
});

test.each([
  ['a full name that may overwrite the prefix', { name: 'import', allowOverwrite: true }, FULL, ['host/app:1']],
  ['no full name outside of the prefix', { name: 'import' }, FULL, []],
  ['a full name below the prefix', { name: 'host/app' }, FULL, ['host/app:1']],
  ['a tag behind the prefix', { name: 'import' }, TAG, ['import:v2']],
  ['nothing for what has no name', { name: 'import' }, {}, []],
  ['the digest for what has no name', { name: 'import', addDigest: true }, {}, [`import@${DIGEST}`]],
  ['name and digest', { name: 'import', addDigest: true }, TAG, ['import:v2', `import@${DIGEST}`]],
  ['no digest beside a name', { name: 'import', addDigest: true, skipNamedDigest: true }, TAG, ['import:v2']],
])('annotatedNames() gives %s', (_name, reference, annotations, expected) => {
  const given = store({ name: 'ignored', extraReferences: [{ isPrefix: true, ...reference }] });

  expect(annotatedNames(given, image(annotations))).toEqual(expected);
});
