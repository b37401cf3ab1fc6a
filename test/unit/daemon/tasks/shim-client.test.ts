import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isShimGone, ShimClient, socketPathOf } from '../../../../daemon/tasks/shim-client';
import type { Method } from '../../../../proto/codec';
import { notFound, unknown } from '../../../../proto/errors';
import { TaskService as TaskServiceV2 } from '../../../../proto/generated/containerd.task.v2';
import { TaskService as TaskServiceV3 } from '../../../../proto/generated/containerd.task.v3';
import { serveTtrpc, type TtrpcServer, ttrpcService } from '../../../../proto/ttrpc/server';

describe('ShimClient', () => {
  let directory: string;
  let server: TtrpcServer | undefined;
  const signal = AbortSignal.timeout(120_000);

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'gantry-shim-client-'));
  });

  afterEach(async () => {
    await server?.close();
    rmSync(directory, { recursive: true });
  });

  /** A shim of which only some methods matter. */
  async function shim(version: 2 | 3, handlers: Record<string, (request: never) => unknown>): Promise<string> {
    const definition: Record<string, Method<never, never>> = (version === 2 ? TaskServiceV2 : TaskServiceV3) as never;
    const all = Object.fromEntries(Object.keys(definition).map((name) => [name, handlers[name] ?? (() => ({}))]));
    server = serveTtrpc({ [`containerd.task.v${version}.Task`]: ttrpcService(definition as object, all as never) });
    const path = join(directory, 'shim.sock');
    await server.listen(path);
    return `unix://${path}`;
  }

  const connect = (address: string, onClose: () => void = () => {}) =>
    ShimClient.connect({ version: 3, address, protocol: 'ttrpc' }, { namespace: 'test', signal, onClose });

  test('call() falls back to version 2 for good when 3 is not implemented', async () => {
    const client = await connect(await shim(2, { connect: () => ({ shimPid: 5 }), start: () => ({ pid: 7 }) }));

    expect((await client.call('connect', { id: 'a' }, signal)).shimPid).toBe(5);
    expect((await client.call('start', { id: 'a' }, signal)).pid).toBe(7);
    client.close();
  });

  test('call() words failures as clients of containerd expect them', async () => {
    const address = await shim(3, {
      pause: () => {
        throw unknown('cannot pause a paused container');
      },
      kill: () => {
        throw notFound('process already finished');
      },
    });
    const client = await connect(address);

    await expect(client.call('pause', { id: 'a' }, signal)).rejects.toMatchObject({
      kind: 'unknown',
      message: 'cannot pause a paused container: unknown',
    });
    await expect(client.call('kill', { id: 'a' }, signal)).rejects.toMatchObject({
      kind: 'not found',
      message: 'process already finished: not found',
    });
    client.close();
  });

  test('a lost connection fails the calls under way and is told once', async () => {
    const address = await shim(3, { wait: () => new Promise(() => undefined) });
    let losses = 0;
    const client = await connect(address, () => {
      losses += 1;
    });
    const waiting = client.call('wait', { id: 'a' }, signal).catch((error: unknown) => error);
    await client.call('connect', { id: 'a' }, signal);

    (client as unknown as { client: { close(): void } }).client.close();

    expect(isShimGone(await waiting)).toBe(true);
    await client.untilClosed(signal);
    expect(losses).toBe(1);
  });

  test('close() is not a loss', async () => {
    let losses = 0;
    const client = await connect(await shim(3, {}), () => {
      losses += 1;
    });

    client.close();
    await client.untilClosed(signal);

    expect(losses).toBe(0);
  });

  test('socketPathOf() knows the forms of addresses', () => {
    expect(socketPathOf('unix:///run/s/1')).toBe('/run/s/1');
    expect(socketPathOf('/run/s/1')).toBe('/run/s/1');
    expect(socketPathOf('containerd-shim/x.sock')).toBe('\0containerd-shim/x.sock');
    expect(() => socketPathOf('vsock://2:1024')).toThrow(expect.objectContaining({ kind: 'not implemented' }));
  });
});
