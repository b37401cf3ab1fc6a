// Bad input over the socket: the right gRPC code, one clear sentence, nothing lost and nothing left. Where the answer is
// the API's and not ours alone, containerd is asked the same, so that a case is known to be right.

import fs from 'node:fs';
import path from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { ContainersService } from '../../proto/generated/containerd.services.containers.v1';
import { TasksService } from '../../proto/generated/containerd.services.tasks.v1';
import { BUSYBOX_IMAGE, busyboxImage } from '../images/busybox';
import { type LayerEntry, writeImage, writeLayerTar } from '../images/oci-image';
import { installedContainerd } from '../setup/clients';
import { mustRun, runCommand } from '../setup/command';
import { startContainerd, startGantryd, type TestDaemon, temporaryDirectory } from '../setup/daemons';
import { BAD_REQUESTS, CONTAINER, NO_DIGEST, RawApi, SPEC_TYPE } from './bad-requests';

const TIMEOUT_MS = 300_000;
const EMPTY_DIGEST = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const { status } = grpc;

describe.each([
  ['containerd', async () => startContainerd(await installedContainerd())],
  ['gantryd', async () => startGantryd()],
])('%s', (name, start) => {
  let daemon: TestDaemon;
  let api: RawApi;
  let scratch: string;

  const ctrCommand = (args: readonly string[]) => [
    '/usr/bin/ctr',
    '-a',
    daemon.address,
    '-n',
    daemon.namespace,
    ...args,
  ];
  const ctr = (...args: string[]) => mustRun(ctrCommand(args));
  const failing = (...args: string[]) => runCommand(ctrCommand(args), { timeoutMs: TIMEOUT_MS });

  beforeAll(async () => {
    await installedContainerd();
    scratch = temporaryDirectory('bad');
    daemon = await start();
    api = new RawApi(daemon);
    await ctr('images', 'import', await busyboxImage());
  }, TIMEOUT_MS);

  afterAll(async () => {
    api?.close();
    await daemon?.destroy();
    fs.rmSync(scratch, { recursive: true, force: true });
  }, TIMEOUT_MS);

  test.each(BAD_REQUESTS.map((entry) => [entry.name, entry] as const))('%s', async (_name, { code, call }) => {
    const error = await call(api).then(
      (value) => ({
        code: status.OK,
        details: JSON.stringify(value, (_, inner) => (typeof inner === 'bigint' ? String(inner) : inner)),
      }),
      (thrown: grpc.ServiceError) => thrown,
    );

    expect({ code: status[error.code], details: error.details }).toEqual({
      code: status[code],
      details: expect.stringMatching(/^\S.*\S$/),
    });
  });

  test(
    'a spec that is not JSON is refused when the task is made, and leaves nothing',
    async () => {
      const spec = { typeUrl: SPEC_TYPE, value: Buffer.from('{"process": nonsense') };
      await api.call(ContainersService.create, { container: { ...CONTAINER, id: 'nojson', spec } });

      const error = await api
        .call(TasksService.create, { containerId: 'nojson' })
        .catch((thrown: grpc.ServiceError) => thrown);
      await api.call(ContainersService.delete, { id: 'nojson' });

      // containerd itself answers UNKNOWN or INVALID_ARGUMENT, depending on who reads the spec first.
      expect([status.UNKNOWN, status.INVALID_ARGUMENT]).toContain((error as grpc.ServiceError).code);
      expect((error as grpc.ServiceError).details).toMatch(/json|invalid character|unexpected/i);
    },
    TIMEOUT_MS,
  );

  test(
    'a missing shim binary is named, and leaves nothing',
    async () => {
      const result = await failing(
        'run',
        '--rm',
        '--runtime',
        'io.containerd.absent.v9',
        BUSYBOX_IMAGE,
        'absent',
        'true',
      );

      expect(result).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('"containerd-shim-absent-v9"') });
      expect(await ctr('containers', 'ls', '-q')).toBe('');
      expect(await ctr('tasks', 'ls', '-q')).toBe('');
    },
    TIMEOUT_MS,
  );

  test.each([100, 700, 100_000])(
    'an image file cut after %d bytes is refused',
    async (length) => {
      const cut = path.join(scratch, `cut-${length}.tar`);
      fs.writeFileSync(cut, fs.readFileSync(await busyboxImage()).subarray(0, length));

      const result = await failing('images', 'import', cut);

      expect(result).toMatchObject({
        exitCode: 1,
        stderr: expect.stringMatching(/unexpected EOF|missing index.json|not found/),
      });
    },
    TIMEOUT_MS,
  );

  test(
    'a layer that ends too early is refused, and leaves no snapshot',
    async () => {
      const whole = path.join(scratch, 'whole.tar');
      await writeLayerTar(whole, [{ name: 'big', content: Buffer.alloc(100_000, 'x') }]);
      fs.truncateSync(whole, 50_000);
      const image = await imageOf('test/cut:layer', whole);

      const result = await failing('images', 'import', image);
      await ctr('images', 'rm', '--sync', 'test/cut:layer');

      expect(result).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('unexpected EOF') });
      expect((await ctr('snapshots', 'ls')).split('\n').filter((line) => line.includes('extract'))).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    'entries that climb out of the layer stay inside or are refused',
    async () => {
      const outside = path.join(scratch, 'outside');
      const climb = `${'../'.repeat(12)}${outside.slice(1)}`;
      const entries: LayerEntry[] = [
        { name: climb, content: 'climbed' },
        { name: outside, content: 'absolute' },
        { name: 'door', type: 'symlink', linkname: scratch },
        { name: 'door/outside', content: 'through a link' },
      ];
      const layer = path.join(scratch, 'climb.tar');
      await writeLayerTar(layer, entries);

      await failing('images', 'import', await imageOf('test/climb:layer', layer));
      await ctr('images', 'rm', '--sync', 'test/climb:layer');

      expect(fs.existsSync(outside)).toBe(false);
    },
    TIMEOUT_MS,
  );

  test(
    'after all that the daemon works, and nothing is left',
    async () => {
      const blobs = (await ctr('content', 'ls', '-q'))
        .split('\n')
        .filter((digest) => digest === NO_DIGEST || digest === EMPTY_DIGEST);
      const snapshots = (await ctr('snapshots', 'ls')).trim().split('\n');

      const run = () => ctr('run', '--rm', BUSYBOX_IMAGE, 'after', 'echo', 'still here');
      const output = await run();
      // containerd's shim loses the output of a short container now and then; ours is never tried twice.
      expect(name === 'containerd' && output === '' ? await run() : output).toBe('still here\n');
      expect(blobs).toEqual([]);
      expect(snapshots).toHaveLength(2);
      expect(await ctr('containers', 'ls', '-q')).toBe('');
      expect(name === 'gantryd' ? await daemon.lastingLeftovers() : []).toEqual([]);
    },
    TIMEOUT_MS,
  );

  async function imageOf(imageName: string, layer: string): Promise<string> {
    const image = path.join(scratch, `${path.basename(layer)}.image`);
    await writeImage(image, {
      name: imageName,
      layerTars: [layer],
      defaults: { Cmd: ['true'], Env: [], WorkingDir: '/' },
    });
    return image;
  }
});
