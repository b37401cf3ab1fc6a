// Proxy snapshotters: the contract on Debian's containerd, whose snapshots service serves as the plug-in, and what only
// shows with a plug-in that is away, slow, or has layers of its own.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CallContext, defineService, type Service } from '../../daemon/grpc/handler';
import { ApiServer } from '../../daemon/grpc/server';
import { alreadyExists, errorKind, messageOf } from '../../proto/errors';
import { Kind, SnapshotsService } from '../../proto/generated/containerd.services.snapshots.v1';
import { type ProxyOptions, ProxySnapshotter } from '../../snapshotter/proxy';
import { SnapshotIds } from '../../snapshotter/records';
import { TARGET_LABEL } from '../../snapshotter/snapshotter';
import { waitFor } from '../setup/command';
import type { TestDaemon } from '../setup/daemons';
import { directApi, remoteApi } from '../suites/api';
import { openSnapshotBench, type SnapshotBench } from '../suites/snapshot-bench';
import { type SnapshotClient, snapshotClient } from '../suites/snapshot-client';
import { startSnapshotPlugin } from '../suites/snapshot-plugin';
import { rebaseSuite } from '../suites/snapshot-rebase';
import { snapshotterSuite } from '../suites/snapshotter.suite';

const NAMESPACES = ['default', 'there', 'elsewhere'];
const SETUP_TIMEOUT_MS = 300_000;

function proxyOf(address: string, options: Partial<ProxyOptions> = {}): ProxyOptions {
  return { name: 'proxied', address, snapshotter: 'overlayfs', capabilities: [], exports: {}, ...options };
}

/** A subject of the contract suite; what it says of directories is about the snapshots in the plug-in. */
async function openSubject(proxy: ProxyOptions) {
  const bench = await openSnapshotBench({ proxies: [proxy] });
  const backend = remoteApi(proxy.address);
  const list = async () => {
    const answers = await Promise.all(
      NAMESPACES.map((namespace) =>
        backend.list(SnapshotsService.list, { snapshotter: proxy.snapshotter }, { namespace }),
      ),
    );
    return answers.flat().flatMap(({ info }) => info.map(({ name }) => name));
  };
  const before = new Set(await list());
  return {
    api: directApi(bench.service),
    bench: {
      ...bench,
      directories: async () =>
        (await list())
          .filter((name) => !before.has(name))
          .map((name) => Number(/^[^/]+\/(\d+)\./.exec(name)?.[1]))
          .sort((left, right) => left - right),
      // Asked for and made, and the daemon ended before it wrote its record.
      strayDirectory: async (_: string, id: number) => {
        const key = `default/${id}.stray${before.size}/key`;
        bench.db
          .prepare('INSERT INTO proxy_snapshots (snapshotter, namespace, backend_key) VALUES (?, ?, ?)')
          .run(proxy.name, 'default', key);
        await backend.unary(SnapshotsService.prepare, { snapshotter: proxy.snapshotter, key });
      },
      // What a plug-in loses in a power cut is its own to repair.
      loseDirectory: async () => {},
    },
    close: async () => {
      await backend.close();
      await bench.close();
    },
  };
}

describe("Debian's containerd as the plug-in", () => {
  let plugin: TestDaemon;

  beforeAll(async () => {
    plugin = await startSnapshotPlugin();
  }, SETUP_TIMEOUT_MS);

  afterAll(() => plugin?.destroy(), SETUP_TIMEOUT_MS);

  const open = () => openSubject(proxyOf(plugin.address));
  snapshotterSuite('proxy', 'proxied', open);
  rebaseSuite('proxied', false, open);
});

describe('ProxySnapshotter', () => {
  let directory: string;
  let address: string;
  let backend: SnapshotBench;
  let server: ApiServer | undefined;
  let bench: SnapshotBench;
  let client: SnapshotClient;

  const serve = async (service: Service) => {
    server = new ApiServer([service], {
      durable: () => backend.db.durable(),
      writeCount: () => backend.db.changes,
      onEnd: () => {},
    });
    await server.listen(address);
  };
  const stop = async () => {
    await server?.close(100);
    server = undefined;
  };
  const backendKeys = async () =>
    (await directApi(backend.service).list(SnapshotsService.list, { snapshotter: 'overlayfs' })).flatMap(({ info }) =>
      info.map(({ name }) => name),
    );

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'proxy-'));
    address = join(directory, 'plugin.sock');
    backend = await openSnapshotBench();
    bench = await openSnapshotBench({ proxies: [proxyOf(address)] });
    client = snapshotClient(directApi(bench.service), 'proxied', directory);
  });

  afterEach(async () => {
    await stop();
    await bench.close();
    await backend.close();
    rmSync(directory, { recursive: true, force: true });
  });

  test('names the socket while the plug-in is away, and works as soon as it is there', async () => {
    const failure = await client.prepare('key').catch((error: unknown) => error);

    expect(errorKind(failure)).toBe('unavailable');
    expect(messageOf(failure)).toBe(
      `proxy snapshotter "proxied" cannot be reached at ${address}: ENOENT; is the plug-in running?: unavailable`,
    );
    for (let round = 0; round < 2; round++) {
      await serve(backend.service);
      const prepared = () =>
        client.prepare(`key${round}`).then(
          () => true,
          () => false,
        );
      await waitFor('an answer of the plug-in', prepared);
      await stop();
      await expect(client.mounts(`key${round}`)).rejects.toThrow(address);
    }
    expect((await client.list()).map(({ name }) => name)).toEqual(['key0', 'key1']);
  });

  test('sends the namespace, and only the labels that are for plug-ins', async () => {
    await serve(backend.service);
    const labels = { 'containerd.io/snapshot/a': '1', [TARGET_LABEL]: 'target', private: 'x' };

    await client.prepare('key', '', labels, { namespace: 'there' });

    const answers = await directApi(backend.service).list(
      SnapshotsService.list,
      { snapshotter: 'overlayfs' },
      { namespace: 'there' },
    );
    const [info] = answers.flatMap((answer) => answer.info);
    expect(info?.name).toMatch(/^there\/1\.[0-9a-f]{8}\/key$/);
    expect({ ...info?.labels }).toEqual({ 'containerd.io/snapshot/a': '1', [TARGET_LABEL]: 'target' });
    expect({ ...(await client.stat('key', { namespace: 'there' })).labels }).toEqual(labels);
  });

  test('update() tells the plug-in of labels that are for it, and of no others', async () => {
    await serve(backend.service);
    const [a, b, c] = ['a', 'b', 'c'].map((name) => `containerd.io/snapshot/${name}`) as [string, string, string];
    await client.prepare('key', '', { [a]: '1', [b]: '1', private: 'x' });
    const [name = ''] = await backendKeys();
    const own = snapshotClient(directApi(backend.service), 'overlayfs', directory);
    await own.update({ name, labels: { [c]: 'of the plug-in' } }, [`labels.${c}`]);

    await client.update({ name: 'key', labels: { [a]: '2', private: 'y' } });
    await Promise.all(
      ['3', '4', '5'].map((value) => client.update({ name: 'key', labels: { [a]: value } }, [`labels.${a}`])),
    );
    await stop();
    await client.update({ name: 'key', labels: { private: 'z' } }, ['labels.private']);
    const refused = await client.update({ name: 'key', labels: { [a]: '6' } }, [`labels.${a}`]).catch(messageOf);

    expect((await own.stat(name)).labels).toEqual({ [a]: '5', [c]: 'of the plug-in' });
    expect((await client.stat('key')).labels).toEqual({ [a]: '5', private: 'z' });
    expect(refused).toMatch(/cannot be reached/);
  });

  test('what is removed while the plug-in is away goes when it is back', async () => {
    await serve(backend.service);
    await client.layer('base', '', 'true');
    await client.prepare('child', 'base');
    await stop();

    await client.remove('child');
    await client.remove('base');
    await expect(client.cleanup()).rejects.toThrow(/cannot be reached/);
    expect(await backendKeys()).toHaveLength(2);
    await serve(backend.service);
    await waitFor('the plug-in', () =>
      client.cleanup().then(
        () => true,
        () => false,
      ),
    );

    expect(await backendKeys()).toEqual([]);
    expect(bench.db.prepare('SELECT * FROM proxy_snapshots').all()).toEqual([]);
  });

  test('cleanup() leaves what others have in the plug-in', async () => {
    await serve(backend.service);
    await directApi(backend.service).unary(SnapshotsService.prepare, { snapshotter: 'overlayfs', key: 'of another' });
    await client.prepare('key');
    await client.remove('key');

    await client.cleanup();

    expect(await backendKeys()).toEqual(['of another']);
  });

  test('takes over a layer that the plug-in has', async () => {
    await serve(withLayers(backend, directory));
    const labels = { [TARGET_LABEL]: 'sha256:base' };
    bench.lease('mine');

    const failure = await client.prepare('key', '', labels, { lease: 'mine' }).catch(messageOf);
    const again = await client.prepare('key', '', labels).catch(messageOf);

    expect([failure, again]).toEqual(Array(2).fill('target snapshot "sha256:base": already exists'));
    expect(await client.stat('sha256:base')).toMatchObject({ kind: Kind.COMMITTED, parent: '' });
    expect(bench.leased('mine', 'proxied')).toEqual(['sha256:base']);
    expect(Number((await client.usage('sha256:base')).size)).toBeGreaterThan(0);
    client.within(await client.prepare('child', 'sha256:base'), (root) =>
      expect(readFileSync(join(root, 'file'), 'utf8')).toBe('of the plug-in'),
    );
    await client.remove('child');
    await client.remove('sha256:base');
    await client.cleanup();
    expect(await backendKeys()).toEqual([]);
  });

  test('does not wait for a plug-in when the caller has gone, or the daemon ends', async () => {
    let isAsked = false;
    const hanging = async (_: unknown, { signal }: CallContext): Promise<never> => {
      isAsked = true;
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      throw signal.reason;
    };
    await serve(
      defineService(SnapshotsService, { ...backend.service.handlers, prepare: hanging, remove: hanging } as never),
    );
    const snapshotter = new ProxySnapshotter(proxyOf(address, { name: 'other' }), bench.db, new SnapshotIds(bench.db));
    const abort = new AbortController();

    const prepared = snapshotter
      .prepare('default', 'key', '', { signal: abort.signal })
      .catch((error: unknown) => error);
    await waitFor('the call', () => isAsked);
    abort.abort();

    expect(errorKind(await prepared)).toBe('canceled');
    expect(snapshotter.walk('default')).toEqual([]);
    isAsked = false;
    const cleanup = snapshotter.cleanup();
    await waitFor('the removal', () => isAsked);
    snapshotter.close();
    await cleanup;
  });

  describe('with the capability to rebase', () => {
    rebaseSuite('proxied', true, async () => {
      await serve(backend.service);
      return openSubject(proxyOf(address, { capabilities: ['rebase'] }));
    });
  });
});

/** A plug-in that has every layer: asked to prepare for a target, it commits one file under its name. */
function withLayers(backend: SnapshotBench, scratch: string): Service {
  const own = snapshotClient(directApi(backend.service), 'overlayfs', scratch);
  const { handlers } = backend.service;
  const prepare = async (request: never, context: CallContext) => {
    const { key, labels } = request as { key: string; labels: Record<string, string> };
    const target = labels[TARGET_LABEL];
    if (target === undefined) return handlers['prepare']?.(request, context as never);
    const name = `layers/${target}`;
    if (!(await backendHas(own, name))) {
      own.within(await own.prepare(key), (root) => writeFileSync(join(root, 'file'), 'of the plug-in'));
      await own.commit(name, key, { [TARGET_LABEL]: target });
    }
    throw alreadyExists(`snapshot "${target}"`);
  };
  return defineService(SnapshotsService, { ...handlers, prepare } as never);
}

function backendHas(client: SnapshotClient, name: string): Promise<boolean> {
  return client.stat(name).then(
    () => true,
    () => false,
  );
}
