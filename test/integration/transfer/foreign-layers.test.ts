// Images with a layer that may not be passed on: it is in no registry, only at its URL.

import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describeUnless } from '../../setup/needs';
import { missingForCli, useDaemon } from '../cli/fixture';
import { missingForRegistry, RegistryServer } from '../registry/server';
import { layout } from './layout';

const TIMEOUT_MS = 120_000;
const BUSYBOX = '/usr/bin/busybox';

describeUnless(missingForCli() ?? missingForRegistry())('a layer that is only at its URL', () => {
  const { daemon, run, archives } = useDaemon();
  let server: RegistryServer;
  let elsewhere: http.Server;
  /** What the other host has, by path, and what it was asked for. */
  const files = new Map<string, Buffer>();
  const asked: (string | undefined)[] = [];
  let serial = 0;

  const fresh = () => {
    serial += 1;
    return `foreign${serial}`;
  };
  const urlOf = (path: string) => `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}${path}`;
  const isInRegistry = async (repository: string, digest = '') =>
    (await fetch(`http://${server.host}/v2/${repository}/blobs/${digest}`, { method: 'HEAD' })).ok;
  /** Imports an image whose last layer is left out of the archive, and pushes it. */
  const publish = async (repository: string) => {
    const name = `${server.host}/${repository}:1`;
    const path = `/${repository}`;
    const made = await layout({
      name,
      layers: [[['bin/cat', readFileSync(BUSYBOX)]], [['from', `elsewhere: ${repository}`]]],
      foreign: true,
      urls: [urlOf('/missing'), urlOf(path)],
      leaveOut: 'layer',
    });
    files.set(path, made.lastLayer);
    const archive = join(archives.directory, `${fresh()}.tar`);
    writeFileSync(archive, made.tar);
    const namespace = fresh();
    expect(await run('-n', namespace, 'images', 'import', '--no-unpack', archive)).toMatchObject({ code: 0 });
    expect(await run('-n', namespace, 'push', name)).toMatchObject({ code: 0, stderr: '' });
    return { ...made, name, path };
  };

  beforeAll(async () => {
    server = await RegistryServer.start(join(daemon.directory, 'registry'), { foreignLayers: true });
    elsewhere = http.createServer(({ url }, response) => {
      asked.push(url);
      const file = files.get(url ?? '');
      if (file === undefined) response.writeHead(404).end();
      else response.writeHead(200, { 'content-length': file.length }).end(file);
    });
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
  }, TIMEOUT_MS);
  beforeEach(() => {
    asked.length = 0;
  });
  afterAll(async () => {
    elsewhere?.closeAllConnections();
    elsewhere?.close();
    await server?.kill();
  }, TIMEOUT_MS);

  test(
    'is fetched from there, unpacked and run',
    async () => {
      const { name, path, layers } = await publish('test/run');
      const namespace = fresh();

      const pulled = await run('-n', namespace, 'pull', name);

      expect(pulled).toMatchObject({ code: 0, stderr: '' });
      expect(asked).toEqual(['/missing', path]);
      expect(await isInRegistry('test/run', layers[0])).toBe(true);
      expect(await isInRegistry('test/run', layers[1])).toBe(false);
      const ran = await run('-n', namespace, 'run', '--rm', name, fresh(), '/bin/cat', '/from');
      expect(ran).toMatchObject({ code: 0, stdout: 'elsewhere: test/run', stderr: '' });
      const parts = JSON.parse((await run('-n', namespace, 'images', 'verify', '--format', 'json', name)).stdout);
      expect(parts.map(({ state }: { state: string }) => state)).toEqual(Array(parts.length).fill('good'));
      expect(parts.map(({ key }: { key: string }) => key)).toContain(layers[1]);
    },
    TIMEOUT_MS,
  );

  test(
    'is left out of a push, also by who has it, and found again through its URL',
    async () => {
      const { name, manifest, layers } = await publish('test/push');
      const [namespace, other] = [fresh(), fresh()];
      const copy = `${server.host}/test/copy:1`;
      expect(await run('-n', namespace, 'pull', name)).toMatchObject({ code: 0 });

      expect(await run('-n', namespace, 'push', name, copy)).toMatchObject({ code: 0, stderr: '' });

      expect(await isInRegistry('test/copy', layers[0])).toBe(true);
      expect(await isInRegistry('test/copy', layers[1])).toBe(false);
      expect(await run('-n', other, 'pull', copy)).toMatchObject({ code: 0, stdout: `${copy} ${manifest}\n` });
      expect((await run('-n', other, 'run', '--rm', copy, fresh(), '/bin/cat', '/from')).stdout).toBe(
        'elsewhere: test/push',
      );
    },
    TIMEOUT_MS,
  );

  test(
    'that is wrong or gone there keeps the image from being pulled, and repair fetches it from there',
    async () => {
      const { name, path, layers, lastLayer } = await publish('test/gone');
      const namespace = fresh();
      const pull = () => run('-n', namespace, 'pull', name);

      files.delete(path);
      const gone = await pull();
      files.set(path, Buffer.alloc(lastLayer.length));
      const wrong = await pull();

      const { host } = new URL(urlOf(path));
      expect({ code: gone.code, stderr: gone.stderr }).toEqual({ code: 4, stderr: expect.stringContaining(host) });
      expect(wrong.code).not.toBe(0);
      expect((await run('-n', namespace, 'images', 'ls', '-q')).stdout).toBe('');
      files.set(path, lastLayer);
      expect(await pull()).toMatchObject({ code: 0, stderr: '' });
      const blobs = join(daemon.directory, 'root/io.containerd.content.v1.content/blobs');
      writeFileSync(join(blobs, layers[1]?.replace(':', '/') ?? ''), 'damaged');
      const repaired = await run('-n', namespace, 'images', 'verify', '--repair', name);
      expect(repaired).toMatchObject({ code: 0, stderr: expect.stringContaining('1 repaired') });
    },
    TIMEOUT_MS,
  );
});
