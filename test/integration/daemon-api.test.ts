// The daemon's own services over its socket: version, introspection, namespaces, containers, events, health, reflection.

import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { packAny, SPEC_URL } from '../../proto/any';
import {
  type ContainersService as Containers,
  ContainersService,
} from '../../proto/generated/containerd.services.containers.v1';
import { EventsService } from '../../proto/generated/containerd.services.events.v1';
import { IntrospectionService } from '../../proto/generated/containerd.services.introspection.v1';
import { NamespacesService } from '../../proto/generated/containerd.services.namespaces.v1';
import { VersionService } from '../../proto/generated/containerd.services.version.v1';
import { type Envelope, RuntimeInfo, RuntimeRequest } from '../../proto/generated/containerd.types';
import { HealthService } from '../../proto/generated/grpc.health.v1';
import { describeUnless } from '../setup/needs';
import { Gantryd, missingForDaemon } from './gantryd';
import { type Client, client } from './grpc-client';

const suite = describeUnless(missingForDaemon());

const SPEC = { typeUrl: SPEC_URL, value: Buffer.from('{"ociVersion":"1.0.2"}') };

suite('gantryd serves', () => {
  const daemon = new Gantryd();
  const opened: { close(): void }[] = [];

  beforeAll(() => daemon.start());

  afterEach(() => {
    for (const one of opened.splice(0)) one.close();
  });

  afterAll(() => daemon.destroy());

  function open<S>(definition: S, namespace = 'test'): Client<S> {
    const made = client(definition, daemon.address, namespace);
    opened.push(made);
    return made;
  }

  async function failureOf(call: Promise<unknown>): Promise<string> {
    return call.then(
      () => 'no failure',
      (error: grpc.ServiceError) => `${grpc.status[error.code]} ${error.details}`,
    );
  }

  function subscribe(filters: string[]): { events: Envelope[]; isEnded: Promise<grpc.StatusObject> } {
    const Events = grpc.makeGenericClientConstructor(EventsService as unknown as grpc.ServiceDefinition, 'Events');
    const stub = new Events(`unix:${daemon.address}`, grpc.credentials.createInsecure());
    const stream = (stub as unknown as Record<string, CallableFunction>)['subscribe']?.({ filters });
    const events: Envelope[] = [];
    stream.on('data', (envelope: Envelope) => events.push(envelope));
    stream.on('error', () => {});
    const isEnded = new Promise<grpc.StatusObject>((resolve) => stream.once('status', resolve));
    opened.push({
      close: () => {
        stream.cancel();
        stub.close();
      },
    });
    return { events, isEnded };
  }

  async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = Date.now() + 60_000;
    while (!(await condition())) {
      if (Date.now() > deadline) throw new Error('condition did not come true');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Events arrive only after the stream stands, which nothing announces: publish until one does. */
  async function awaitStream(events: Envelope[]): Promise<void> {
    const publisher = open(EventsService);
    await until(async () => {
      await publisher.publish({ topic: '/hello', event: packAny(RuntimeRequest, {}) });
      return events.length > 0;
    });
    await until(() => events.length > 0);
    events.length = 0;
  }

  it('its version', async () => {
    const { version } = JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8')) as { version: string };

    expect(await open(VersionService).version({})).toEqual({ version: `v${version}`, revision: '' });
  });

  it('health of the whole and of each service', async () => {
    const health = open(HealthService);

    expect(await health.check({ service: '' })).toEqual({ status: 1 });
    expect(await health.check({ service: 'containerd.services.tasks.v1.Tasks' })).toEqual({ status: 1 });
    expect(await failureOf(health.check({ service: 'nope' }))).toBe('NOT_FOUND service "nope": not found');
  });

  it('who it is, the same after a restart', async () => {
    const before = await open(IntrospectionService).server({});
    for (const one of opened.splice(0)) one.close();
    await daemon.stop();
    await daemon.start();

    const after = await open(IntrospectionService).server({});

    expect(after.uuid).toBe(before.uuid);
    expect(after.uuid).toMatch(/^[0-9a-f-]{36}$/);
    expect(after.pid).toBe(BigInt(daemon.child?.pid ?? 0));
    expect(after.pidns).toBe(BigInt(statSync('/proc/self/ns/pid').ino));
    expect(readFileSync(join(daemon.root, 'io.containerd.grpc.v1.introspection', 'uuid'), 'utf8')).toBe(after.uuid);
  });

  it('its plugins, filtered, as clients look for them', async () => {
    const introspection = open(IntrospectionService);
    const list = async (...filters: string[]) => (await introspection.plugins({ filters })).plugins;

    const [overlayfs] = await list('type==io.containerd.snapshotter.v1, id==overlayfs');
    expect(overlayfs).toMatchObject({
      platforms: [{ os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : 'arm64' }],
      exports: { root: `${daemon.root}/io.containerd.snapshotter.v1.overlayfs` },
      initErr: undefined,
    });
    const snapshotters = await list('type=="io.containerd.snapshotter.v1"');
    expect(snapshotters.map(({ id }) => id).sort()).toEqual([
      'btrfs',
      'devmapper',
      'erofs',
      'native',
      'overlayfs',
      'zfs',
    ]);
    const zfs = snapshotters.find(({ id }) => id === 'zfs');
    expect(zfs?.initErr?.message).toBe('gantry does not have this snapshotter: skip plugin');
    expect(await list('type~=/^io.containerd.runtime.v2$/')).toHaveLength(1);
    const [scheduler] = await list('id==scheduler');
    expect(scheduler?.exports).toMatchObject({ PauseThreshold: '0.02', MutationThreshold: '100', ScheduleDelay: '0s' });
    const [bolt] = await list('id==bolt');
    expect(bolt?.exports['policy']).toBe('shared');
    expect(statSync(bolt?.exports['path'] ?? '').isFile()).toBe(true);
    const ids = new Set((await list('type==io.containerd.grpc.v1')).map(({ id }) => id));
    for (const id of [
      'containers',
      'content',
      'diff',
      'events',
      'healthcheck',
      'images',
      'introspection',
      'leases',
      'namespaces',
      'snapshots',
      'tasks',
      'version',
    ])
      expect(ids).toContain(id);
    expect(await failureOf(introspection.plugins({ filters: ['bad bad'] }))).toMatch(
      /^INVALID_ARGUMENT filters: parse error/,
    );
  });

  it('information about a runtime, and about nothing else', async () => {
    const introspection = open(IntrospectionService);
    const options = packAny(RuntimeRequest, {});

    const answer = await introspection.pluginInfo({ type: 'io.containerd.runtime.v2', id: 'task', options });

    expect(answer.extra?.typeUrl).toBe(RuntimeInfo.name);
    expect(RuntimeInfo.decode(answer.extra?.value ?? Buffer.alloc(0)).name).not.toBe('');
    expect(await failureOf(introspection.pluginInfo({ type: 'x', id: 'y' }))).toMatch(/^NOT_FOUND plugin "x\.y"/);
    const other = introspection.pluginInfo({ type: 'io.containerd.event.v1', id: 'exchange', options });
    expect(await failureOf(other)).toMatch(/^UNIMPLEMENTED /);
    const path = packAny(RuntimeRequest, { runtimePath: '/nope' });
    const none = introspection.pluginInfo({ type: 'io.containerd.runtime.v2', id: 'task', options: path });
    expect(await failureOf(none)).toMatch(/^UNKNOWN /);
  });

  it('namespaces, with their events inside them', async () => {
    const { events } = subscribe(['namespace==life', 'topic=="/hello"']);
    await awaitStream(events);
    const namespaces = open(NamespacesService);
    const update = (labels: Record<string, string>, paths: string[]) =>
      namespaces.update({ namespace: { name: 'life', labels }, updateMask: { paths } });

    await namespaces.create({ namespace: { name: 'life', labels: { a: '1', empty: '' } } });
    expect((await namespaces.get({ name: 'life' })).namespace?.labels).toEqual({ a: '1' });
    expect((await update({ b: '2' }, ['labels.b'])).namespace?.labels).toEqual({ a: '1', b: '2' });
    expect((await update({ a: '' }, ['labels.a'])).namespace?.labels).toEqual({ b: '2' });
    expect((await update({ c: '3' }, [])).namespace?.labels).toEqual({ c: '3' });
    expect(await failureOf(update({}, ['name']))).toBe('INVALID_ARGUMENT cannot update "name" field: invalid argument');
    await namespaces.delete({ name: 'life' });

    expect(await failureOf(namespaces.delete({ name: 'life' }))).toBe('NOT_FOUND namespace "life": not found');
    await until(() => events.filter(({ topic }) => topic !== '/hello').length === 5);
    const topics = events.filter(({ topic }) => topic !== '/hello').map(({ topic }) => topic);
    expect(topics).toEqual(['create', 'update', 'update', 'update', 'delete'].map((what) => `/namespaces/${what}`));
  });

  it('an unknown namespace as an empty one, and creates it with the first write', async () => {
    const namespaces = open(NamespacesService);
    expect((await namespaces.get({ name: 'implicit' })).namespace).toEqual({ name: 'implicit', labels: {} });
    const containers = open(ContainersService, 'implicit');

    await containers.create({ container: { id: 'c', runtime: { name: 'r' }, spec: SPEC } });

    expect((await namespaces.list({})).namespaces.map(({ name }) => name)).toContain('implicit');
    expect(await failureOf(namespaces.delete({ name: 'implicit' }))).toBe(
      'FAILED_PRECONDITION namespace "implicit" must be empty, but it still has containers: failed precondition',
    );
    await containers.delete({ id: 'c' });
    await namespaces.delete({ name: 'implicit' });
  });

  describe('containers:', () => {
    let containers: Client<typeof Containers>;
    const create = (fields: object) =>
      containers.create({ container: { id: 'c1', runtime: { name: 'io.containerd.runc.v2' }, spec: SPEC, ...fields } });
    const update = (fields: object, ...paths: string[]) =>
      containers.update({ container: { id: 'c1', ...fields }, updateMask: { paths } });

    beforeEach(() => {
      containers = open(ContainersService);
    });

    afterEach(async () => {
      for (const { id } of (await open(ContainersService).list({})).containers) {
        await open(ContainersService).delete({ id });
      }
    });

    it('keeps every field as it was given', async () => {
      const unknown = { typeUrl: 'github.com/x/y/Unknown', value: Buffer.from([0, 255, 1]) };
      const fields = {
        labels: { a: '1', 'x.y/z': '2', empty: '' },
        image: 'docker.io/library/busybox:latest',
        runtime: { name: 'io.containerd.runc.v2', options: unknown },
        snapshotter: 'overlayfs',
        snapshotKey: 'c1',
        extensions: { 'some.ext': unknown },
        sandbox: 'pod',
        createdAt: { seconds: -62135596800n, nanos: 0 },
      };

      const created = (await create(fields)).container;

      expect(created).toMatchObject({ ...fields, labels: { a: '1', 'x.y/z': '2' }, createdAt: expect.anything() });
      expect(created?.labels).not.toHaveProperty('empty');
      expect(created?.createdAt?.seconds).toBeGreaterThan(1_700_000_000n);
      expect(created?.updatedAt).toEqual(created?.createdAt);
      expect((await containers.get({ id: 'c1' })).container).toEqual(created);
    });

    it('updates what the mask names', async () => {
      await create({ labels: { a: '1' }, image: 'i', snapshotter: 's', snapshotKey: 'k', extensions: { e: SPEC } });

      expect((await update({ labels: { b: '2' } }, 'labels.b')).container?.labels).toEqual({ a: '1', b: '2' });
      expect((await update({ labels: { a: '' } }, 'labels.a')).container?.labels).toEqual({ b: '2' });
      expect((await update({ labels: { c: '3' } }, 'labels')).container?.labels).toEqual({ c: '3' });
      expect((await update({ image: 'j' }, 'image')).container).toMatchObject({ image: 'j', snapshotKey: 'k' });
      expect((await update({ snapshotKey: 'l' }, 'snapshotkey')).container?.snapshotKey).toBe('l');
      const extended = await update({ extensions: { 'f.g': SPEC } }, 'extensions.f.g');
      expect(Object.keys(extended.container?.extensions ?? {})).toEqual(['e', 'f.g']);
      const other = { typeUrl: SPEC_URL, value: Buffer.from('{"x":1}') };
      expect((await update({ spec: other }, 'spec')).container?.spec).toEqual(other);
    });

    it('replaces all mutable fields without a mask', async () => {
      const created = (await create({ labels: { a: '1' }, image: 'i', snapshotter: 's', snapshotKey: 'k' })).container;
      const given = { runtime: { name: 'io.containerd.runc.v2' }, snapshotter: 's', spec: SPEC, image: 'new' };

      const updated = (await update(given)).container;

      expect(updated).toMatchObject({ image: 'new', labels: {}, snapshotKey: '', createdAt: created?.createdAt });
    });

    it('refuses in the words of containerd', async () => {
      await create({ snapshotter: 's' });

      const failures = {
        again: await failureOf(create({})),
        noId: await failureOf(create({ id: '' })),
        longId: await failureOf(create({ id: 'x'.repeat(77) })),
        noRuntime: await failureOf(create({ id: 'c2', runtime: undefined })),
        noSpec: await failureOf(create({ id: 'c2', spec: undefined })),
        noSnapshotter: await failureOf(create({ id: 'c2', snapshotKey: 'k' })),
        noKey: await failureOf(create({ id: 'c2', extensions: { '': SPEC } })),
        path: await failureOf(update({}, 'snapshot_key')),
        specGone: await failureOf(update({}, 'spec')),
        snapshotter: await failureOf(update({ spec: SPEC, runtime: { name: 'io.containerd.runc.v2' } })),
        runtime: await failureOf(update({ spec: SPEC, snapshotter: 's', runtime: { name: 'x' } })),
        unknown: await failureOf(containers.get({ id: 'nope' })),
        deleted: await failureOf(containers.delete({ id: 'nope' })),
        filter: await failureOf(containers.list({ filters: ['id='] })),
      };

      expect(failures).toEqual({
        again: 'ALREADY_EXISTS container "c1": already exists',
        noId: 'INVALID_ARGUMENT create container failed validation: container.ID: identifier must not be empty: invalid argument',
        longId: expect.stringMatching(/^INVALID_ARGUMENT .*greater than maximum length \(76 characters\)/),
        noRuntime:
          'INVALID_ARGUMENT create container failed validation: container.Runtime.Name must be set: invalid argument',
        noSpec: 'INVALID_ARGUMENT create container failed validation: container.Spec must be set: invalid argument',
        noSnapshotter: expect.stringMatching(
          /^INVALID_ARGUMENT .*Snapshotter must be set if container\.SnapshotKey is set/,
        ),
        noKey: expect.stringMatching(/^INVALID_ARGUMENT .*Extension keys must not be zero-length/),
        path: 'INVALID_ARGUMENT cannot update "snapshot_key" field on "c1": invalid argument',
        specGone: 'INVALID_ARGUMENT update failed validation: container.Spec must be set: invalid argument',
        snapshotter: 'INVALID_ARGUMENT container.Snapshotter field is immutable: invalid argument',
        runtime: 'INVALID_ARGUMENT container.Runtime.Name field is immutable: invalid argument',
        unknown: 'NOT_FOUND container "nope" in namespace "test": not found',
        deleted: 'NOT_FOUND container "nope" in namespace "test": not found',
        filter: expect.stringMatching(/^INVALID_ARGUMENT filters: parse error/),
      });
    });

    it('lists in order of ids, filtered', async () => {
      for (const id of ['b', 'a.1', 'B', 'a']) await create({ id, labels: { which: id }, image: `img/${id}` });
      const ids = async (...filters: string[]) => (await containers.list({ filters })).containers.map(({ id }) => id);

      expect(await ids()).toEqual(['B', 'a', 'a.1', 'b']);
      expect(await ids('id==a', 'labels.which==B')).toEqual(['B', 'a']);
      expect(await ids('id~=^a.*$')).toEqual(['a', 'a.1']);

      expect(await ids('image~="^img/[ab]$"')).toEqual(['a', 'b']);
      expect(await ids('runtime.name==io.containerd.runc.v2,labels.which!=a')).toEqual(['B', 'a.1', 'b']);
      expect(await ids('labels.nope')).toEqual([]);
    });

    it('publishes its events', async () => {
      const { events } = subscribe(['topic~=|^/containers/|,namespace==test', 'topic=="/hello"']);
      await awaitStream(events);

      await create({});
      await update({ labels: { a: '1' } }, 'labels.a');
      await containers.delete({ id: 'c1' });

      const seen = () => events.map(({ topic }) => topic).filter((topic) => topic !== '/hello');
      await until(() => seen().length === 3);
      expect(seen()).toEqual(['/containers/create', '/containers/update', '/containers/delete']);
    });
  });

  it('a bad subscription with UNKNOWN', async () => {
    const { isEnded } = subscribe(['bad bad']);

    expect(await isEnded).toMatchObject({
      code: 2,
      details: expect.stringContaining('failed parsing subscription filters'),
    });
  });

  it('reflection in both versions', async () => {
    for (const version of ['v1', 'v1alpha']) {
      const answers = await reflect(daemon.address, version, [
        { listServices: '*' },
        { fileContainingSymbol: 'containerd.services.containers.v1.Containers' },
        { fileContainingSymbol: 'no.such.Symbol' },
      ]);

      const [list, file, unknown] = answers;
      const names = list?.listServicesResponse?.service.map(({ name }) => name);
      expect(names).toEqual(expect.arrayContaining(['containerd.services.tasks.v1.Tasks', 'grpc.health.v1.Health']));
      expect(names).not.toContain('containerd.services.sandbox.v1.Store');
      expect(file?.fileDescriptorResponse?.fileDescriptorProto.length).toBeGreaterThan(0);
      expect(unknown?.errorResponse?.errorCode).toBe(5);
    }
  });
});

interface ReflectionAnswer {
  readonly listServicesResponse?: { readonly service: { readonly name: string }[] };
  readonly fileDescriptorResponse?: { readonly fileDescriptorProto: Buffer[] };
  readonly errorResponse?: { readonly errorCode: number };
}

async function reflect(address: string, version: string, requests: object[]): Promise<ReflectionAnswer[]> {
  const includeDirs = [join(__dirname, '../../proto/api')];
  const loaded = loadSync(`grpc/reflection/${version}/reflection.proto`, { includeDirs });
  const definition = loaded[`grpc.reflection.${version}.ServerReflection`] as unknown as grpc.ServiceDefinition;
  const Reflection = grpc.makeGenericClientConstructor(definition, 'ServerReflection');
  const stub = new Reflection(`unix:${address}`, grpc.credentials.createInsecure());
  const stream = (stub as unknown as Record<string, CallableFunction>)['ServerReflectionInfo']?.();
  const answers: ReflectionAnswer[] = [];
  stream.on('data', (answer: ReflectionAnswer) => answers.push(answer));
  const ended = new Promise((resolve, reject) => stream.on('end', resolve).on('error', reject));
  for (const request of requests) stream.write(request);
  stream.end();
  await ended;
  stub.close();
  return answers;
}
