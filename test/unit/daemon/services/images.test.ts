import { ImagesService } from '../../../../proto/generated/containerd.services.images.v1';
import { LeasesService } from '../../../../proto/generated/containerd.services.leases.v1';
import { sha256 } from '../../../../proto/ids';
import { type Api, directApi } from '../../../suites/api';
import { type Bench, openBench } from '../../../suites/content-bench';
import { failure } from '../../../suites/content-client';

let bench: Bench;
let api: Api;

beforeAll(async () => {
  bench = await openBench();
  api = directApi(...bench.services);
});
afterAll(() => bench.close());

const DIGEST = sha256('target');
const target = { digest: DIGEST, size: 5n, mediaType: 'type', annotations: { a: '1' } };
let count = 0;
const newName = () => `host:5000/Repo_${++count}:tag`;
const create = async (name: string, rest: object = {}) =>
  (await api.unary(ImagesService.create, { image: { name, target, ...rest } })).image;
const get = async (name: string) => (await api.unary(ImagesService.get, { name })).image;
const topics = () => [...bench.events.replayFrom(0n)].map(({ envelope }) => envelope.topic);

describe('images service', () => {
  it('Create stores what containerd stores and sets the times', async () => {
    const name = newName();
    const created = await create(name, { labels: { x: 'y', empty: '' } });

    expect(created).toMatchObject({ name, labels: { x: 'y' }, target });
    expect(created?.createdAt?.seconds).toBeGreaterThan(1_700_000_000n);
    expect(created?.updatedAt).toEqual(created?.createdAt);
    expect(await get(name)).toEqual(created);
    expect(topics().at(-1)).toBe('/images/create');
  });

  it.each([
    ['an empty name', { name: '' }],
    ['a bad digest', { target: { ...target, digest: 'sha256:x' } }],
    ['no target', { target: undefined }],
    ['no size', { target: { ...target, size: 0n } }],
    ['no media type', { target: { ...target, mediaType: '' } }],
    ['a long label', { labels: { x: 'y'.repeat(4096) } }],
  ])('Create and Update refuse %s', async (_, change) => {
    const name = newName();
    await create(name);
    const image = { name, target, ...change };
    expect((await failure(api.unary(ImagesService.create, { image }))).kind).toBe('invalid argument');
    expect((await failure(api.unary(ImagesService.update, { image }))).kind).toBe('invalid argument');
  });

  it('answers with containerd words for unknown and existing names', async () => {
    const name = newName();
    await create(name);
    expect(await failure(create(name))).toEqual({ kind: 'already exists', message: `image "${name}": already exists` });
    for (const method of [ImagesService.get, ImagesService.delete]) {
      const result = await failure(api.unary(method as typeof ImagesService.get, { name: 'none' }));
      expect(result).toEqual({ kind: 'not found', message: 'image "none": not found' });
    }
    const image = { name: 'none', target };
    expect((await failure(api.unary(ImagesService.update, { image }))).message).toBe('image "none": not found');
  });

  it('Update without a mask replaces labels and target, keeps the creation time', async () => {
    const name = newName();
    const created = await create(name, { labels: { a: '1' } });
    const other = { digest: sha256('other'), size: 9n, mediaType: 'new', annotations: {} };

    const { image } = await api.unary(ImagesService.update, { image: { name, labels: { b: '2' }, target: other } });

    expect(image).toMatchObject({ labels: { b: '2' }, target: other, createdAt: created?.createdAt });
    expect(image?.labels['a']).toBeUndefined();
    expect(await get(name)).toEqual(image);
    expect(topics().at(-1)).toBe('/images/update');
  });

  it.each([
    ['labels', { b: '2' }, { a: '1' }],
    ['labels.b', { a: '1', b: '2' }, { a: '1' }],
    ['labels.a', {}, { a: '1' }],
    ['annotations', { a: '1' }, { c: '3' }],
    ['annotations.c', { a: '1' }, { a: '1', c: '3' }],
    ['annotations.a', { a: '1' }, {}],
  ])('Update with mask %s changes only that', async (path, labels, annotations) => {
    const name = newName();
    await create(name, { labels: { a: '1' } });
    const image = { name, labels: { b: '2' }, target: { ...target, size: 99n, annotations: { c: '3' } } };

    const updated = (await api.unary(ImagesService.update, { image, updateMask: { paths: [path] } })).image;

    expect({ ...updated?.labels }).toEqual(labels);
    expect({ ...updated?.target?.annotations }).toEqual(annotations);
    expect(updated?.target?.size).toBe(5n);
  });

  it('Update with mask target leaves the labels; other paths are refused', async () => {
    const name = newName();
    await create(name, { labels: { a: '1' } });
    const update = (path: string) =>
      api.unary(ImagesService.update, {
        image: { name, target: { ...target, size: 7n } },
        updateMask: { paths: [path] },
      });

    expect((await update('target')).image).toMatchObject({ labels: { a: '1' }, target: { size: 7n } });
    expect((await failure(update('name'))).kind).toBe('invalid argument');
    expect((await failure(update('target.size'))).kind).toBe('invalid argument');
  });

  it('takes times from source_date_epoch', async () => {
    const name = newName();
    const epoch = (seconds: bigint) => ({ seconds, nanos: 7 });
    await api.unary(ImagesService.create, { image: { name, target }, sourceDateEpoch: epoch(100n) });
    await api.unary(ImagesService.update, { image: { name, target }, sourceDateEpoch: epoch(200n) });

    expect(await get(name)).toMatchObject({ createdAt: epoch(100n), updatedAt: epoch(200n) });
  });

  it('Delete with a target deletes only an image of that digest', async () => {
    const name = newName();
    await create(name);
    const remove = (digest: string) => api.unary(ImagesService.delete, { name, target: { digest } });

    expect((await failure(remove(sha256('else')))).kind).toBe('not found');
    await remove(DIGEST);
    expect((await failure(get(name))).kind).toBe('not found');
    expect(topics().at(-1)).toBe('/images/delete');
  });

  it('List filters and sorts by bytes', async () => {
    const headers = { namespace: 'listing' };
    const add = (name: string, labels: Record<string, string>) =>
      api.unary(ImagesService.create, { image: { name, labels, target } }, headers);
    for (const name of ['b', 'a', 'é', 'B']) await add(name, { key: name, 'dotted/key.x': name });
    const names = async (...filters: string[]) =>
      (await api.unary(ImagesService.list, { filters }, headers)).images.map((image) => image.name);

    expect(await names()).toEqual(['B', 'a', 'b', 'é']);
    expect(await names('name==a', 'name==b')).toEqual(['a', 'b']);
    expect(await names('labels."dotted/key.x"==b')).toEqual(['b']);
    expect(await names(`target.digest==${DIGEST},name~=^[ab]$`)).toEqual(['a', 'b']);
    expect(await names('target.mediatype==type,annotations.a==1,labels.key!=B')).toEqual(['a', 'b', 'é']);
    expect(await names('labels.none')).toEqual([]);
  });

  it('puts only an image that can expire under a lease', async () => {
    await api.unary(LeasesService.create, { id: 'l' });
    const make = (name: string, labels: Record<string, string>) =>
      api.unary(ImagesService.create, { image: { name, labels, target } }, { lease: 'l' });
    await make('stays', {});
    await make('expires', { 'containerd.io/gc.expire': '2001-01-01T00:00:00Z' });

    const { resources } = await api.unary(LeasesService.listResources, { id: 'l' });
    await bench.collector.run();

    expect(resources).toEqual([{ id: 'expires', type: 'images' }]);
    expect((await get('expires'))?.name).toBe('expires');
    await api.unary(LeasesService.delete, { id: 'l', sync: true });
    expect((await failure(get('expires'))).kind).toBe('not found');
    expect((await get('stays'))?.name).toBe('stays');
  });
});
