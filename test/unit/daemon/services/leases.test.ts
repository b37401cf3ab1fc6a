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

const create = async (id = '', labels: Record<string, string> = {}) =>
  (await api.unary(LeasesService.create, { id, labels })).lease;
const add = (id: string, type: string, resource = 'x') =>
  api.unary(LeasesService.addResource, { id, resource: { type, id: resource } });
const drop = (id: string, type: string, resource = 'x') =>
  api.unary(LeasesService.deleteResource, { id, resource: { type, id: resource } });
const held = async (id: string) => (await api.unary(LeasesService.listResources, { id })).resources;

describe('leases service', () => {
  it('Create makes up an id when there is none', async () => {
    const [one, two] = [await create(), await create()];
    expect(one?.id).toMatch(/^\d{1,9}-[\w-]{4}$/);
    expect(two?.id).not.toBe(one?.id);
    expect(one?.createdAt?.seconds).toBeGreaterThan(1_700_000_000n);
  });

  it('takes any text as an id', async () => {
    const lease = await create('moby-image-sha256:abc/with space', { a: 'b', none: '' });
    expect(lease).toMatchObject({ id: 'moby-image-sha256:abc/with space', labels: { a: 'b' } });
    expect(lease?.labels['none']).toBeUndefined();
  });

  it('answers with containerd words for existing and unknown ids', async () => {
    await create('twice');
    expect(await failure(create('twice'))).toEqual({
      kind: 'already exists',
      message: 'lease "twice": already exists',
    });
    const unknown = { kind: 'not found', message: 'lease "none": not found' };
    expect(await failure(api.unary(LeasesService.delete, { id: 'none' }))).toEqual(unknown);
    expect(await failure(add('none', 'ingests'))).toEqual(unknown);
    expect(await failure(drop('none', 'ingests'))).toEqual(unknown);
    expect(await failure(held('none'))).toEqual(unknown);
  });

  it('refuses long labels', async () => {
    expect((await failure(create('', { x: 'y'.repeat(4096) }))).kind).toBe('invalid argument');
  });

  it('List filters by id and labels', async () => {
    const headers = { namespace: 'listing' };
    for (const id of ['b', 'a']) {
      await api.unary(LeasesService.create, { id, labels: { 'buildkit/lease.temporary': id } }, headers);
    }
    await api.unary(LeasesService.create, { id: 'c' }, headers);
    const ids = async (...filters: string[]) =>
      (await api.unary(LeasesService.list, { filters }, headers)).leases.map(({ id }) => id);

    expect(await ids()).toEqual(['a', 'b', 'c']);
    expect(await ids('id==c')).toEqual(['c']);
    expect(await ids('labels."buildkit/lease.temporary"')).toEqual(['a', 'b']);
    expect(await ids('labels."buildkit/lease.temporary"==b')).toEqual(['b']);
  });

  it('keeps resources once each, and lists them', async () => {
    const id = (await create())?.id ?? '';
    await add(id, 'content', sha256('a'));
    await add(id, 'content', sha256('a'));
    await add(id, 'snapshots/overlayfs', 'key with / and space');
    await add(id, 'ingests', 'ref');
    await add(id, 'images', 'name');

    expect(await held(id)).toEqual([
      { type: 'content', id: sha256('a') },
      { type: 'images', id: 'name' },
      { type: 'ingests', id: 'ref' },
      { type: 'snapshots/overlayfs', id: 'key with / and space' },
    ]);
    await drop(id, 'ingests', 'ref');
    await drop(id, 'ingests', 'never there');
    expect(await held(id)).toHaveLength(3);
  });

  it.each([
    ['content', 'no digest', 'invalid argument'],
    ['content/x', sha256('a'), 'invalid argument'],
    ['ingests/x', 'ref', 'invalid argument'],
    ['images/x', 'name', 'invalid argument'],
    ['snapshots', 'key', 'invalid argument'],
    ['snapshots/a/b', 'key', 'invalid argument'],
    ['mounts', 'm', 'not implemented'],
    ['', 'x', 'not implemented'],
  ])('AddResource and DeleteResource refuse type "%s" with id "%s"', async (type, resource, kind) => {
    const id = (await create())?.id ?? '';
    expect((await failure(add(id, type, resource))).kind).toBe(kind);
    expect((await failure(drop(id, type, resource))).kind).toBe(kind);
  });

  it('Delete drops the lease with its list', async () => {
    await create('gone');
    await add('gone', 'ingests');
    await api.unary(LeasesService.delete, { id: 'gone' });
    await create('gone');
    expect(await held('gone')).toEqual([]);
  });

  it('needs a namespace', async () => {
    expect((await failure(api.unary(LeasesService.list, {}, { namespace: '' }))).kind).toBe('failed precondition');
  });
});
