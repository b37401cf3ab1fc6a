// What goes over HTTP, told to the client that asks for it: over a stream of bytes or in the daemon's log, without secrets.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packAny, unpackAny } from '../../../proto/any';
import {
  AuthRequest,
  AuthResponse,
  AuthType,
  HTTPDebug,
  ImageImportStream,
  ImageStore,
  OCIRegistry,
} from '../../../proto/generated/containerd.types.transfer';
import type { Any } from '../../../proto/generated/google.protobuf';
import { describeUnless } from '../../setup/needs';
import { missingForDaemon } from '../gantryd';
import { missingForRegistry, RegistryServer } from '../registry/server';
import { receiveBytes, sendBytes, TransferBench } from './bench';
import { layout } from './layout';

const TIMEOUT_MS = 120_000;

describeUnless(missingForDaemon() ?? missingForRegistry())('the log of HTTP', () => {
  const bench = new TransferBench();
  let directory: string;
  let server: RegistryServer;
  let name: string;
  let made: Awaited<ReturnType<typeof layout>>;

  /** Answers every question of the daemon for credentials. */
  const logIn = async () => {
    const { id, call } = await bench.open();
    const answer = async () => {
      for (let message = await call.receive(); message !== undefined; message = await call.receive()) {
        unpackAny(AuthRequest, message as Any);
        const credentials = { authType: AuthType.CREDENTIALS, username: 'me', secret: 'of-this-test' };
        await call.send(packAny(AuthResponse, credentials));
      }
    };
    answer().catch(() => {});
    return { authStream: id, close: () => call.cancel() };
  };
  /** What a transfer with the registry tells. */
  const told = async (direction: 'pull' | 'push', httpDebug: number): Promise<string> => {
    const login = await logIn();
    const logs = await bench.open();
    const text = receiveBytes(logs.call);
    text.catch(() => {});
    const { authStream } = login;
    const resolver = { authStream, defaultScheme: 'http', httpDebug, logsStream: logs.id };
    const registry = [OCIRegistry, { reference: name, resolver }] as const;
    const store = [ImageStore, { name }] as const;
    try {
      await (direction === 'pull' ? bench.transfer(registry, store) : bench.transfer(store, registry));
      return (await text).toString('utf8');
    } finally {
      login.close();
    }
  };

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'http-log-'));
    server = await RegistryServer.start(join(directory, 'registry'), { users: { me: 'of-this-test' } });
    await bench.start();
    name = `${server.host}/test/app:1`;
    made = await layout({ name, layers: [[['a', 'content of the layer']]] });
    const { id, call } = await bench.open();
    const sent = sendBytes(call, made.tar);
    const extraReferences = [{ name: server.host, isPrefix: true, allowOverwrite: true }];
    await bench.transfer([ImageImportStream, { stream: id }], [ImageStore, { extraReferences }]);
    await sent;
  }, TIMEOUT_MS);
  afterAll(async () => {
    await bench.destroy();
    await server?.kill();
    rmSync(directory, { recursive: true, force: true });
  }, TIMEOUT_MS);

  test(
    'requests and answers come over the stream, and it ends with the transfer',
    async () => {
      const pushed = await told('push', HTTPDebug.DEBUG);
      await bench.connection.images.delete({ name, sync: true });
      const pulled = await told('pull', HTTPDebug.DEBUG);

      const host = `Host: ${server.host}\n`;
      expect(pushed).toContain(`PUT /v2/test/app/manifests/1 HTTP/1.1\n${host}`);
      expect(pushed).toMatch(new RegExp(`\n\n{.*"digest":"${made.layers[0]}".*}\n\n`));
      expect(pushed).toMatch(/POST \/v2\/test\/app\/blobs\/uploads\/ HTTP\/1\.1\n/);
      expect(pushed).toContain('HTTP/1.1 202 Accepted\n');
      expect(pulled).toContain(`HEAD /v2/test/app/manifests/1 HTTP/1.1\n${host}`);
      expect(pulled).toContain('HTTP/1.1 401 Unauthorized\n');
      expect(pulled).toMatch(/Www-Authenticate: Basic realm="test"\n/i);
      expect(pulled).toContain('authorization: Basic (not shown)\n');
      expect(pulled).toContain(`Docker-Content-Digest: ${made.manifest}\n`);
      expect(pulled).toMatch(new RegExp(`\n\n{.*"digest":"${made.layers[0]}".*}\n\n`));
      expect(pulled).toContain(`GET /v2/test/app/blobs/${made.layers[0]} HTTP/1.1\n`);
      const all = pushed + pulled;
      for (const secret of ['of-this-test', Buffer.from('me:of-this-test').toString('base64')])
        expect(all).not.toContain(secret);
      // Neither blobs nor connections.
      expect(all).toMatch(/^[\n\x20-\x7e]+$/);
      expect(all).not.toMatch(/^\* /m);
    },
    TIMEOUT_MS,
  );

  test(
    'connections are told instead, or as well',
    async () => {
      const connections = await told('pull', HTTPDebug.TRACE);
      const both = await told('pull', HTTPDebug.BOTH);

      const line = `* ${server.host}: `;
      expect(connections.split('\n').filter((text) => text !== '' && !text.startsWith(line))).toEqual([]);
      expect(connections).toMatch(/: (connected to|by the connection to) 127\.0\.0\.1:\d+/);
      expect(both).toContain(line);
      expect(both).toContain('HEAD /v2/test/app/manifests/1 HTTP/1.1\n');
    },
    TIMEOUT_MS,
  );

  test(
    'a transfer that fails tells until then; one without a stream tells the daemon',
    async () => {
      const logs = await bench.open();
      const text = receiveBytes(logs.call);
      const pull = (resolver: object) =>
        bench.transfer([OCIRegistry, { reference: name, resolver }], [ImageStore, { name }]);

      await expect(pull({ httpDebug: HTTPDebug.DEBUG, logsStream: logs.id })).rejects.toThrow('401 Unauthorized');
      await expect(pull({ httpDebug: HTTPDebug.DEBUG })).rejects.toThrow('401 Unauthorized');
      await expect(pull({ httpDebug: HTTPDebug.DEBUG, logsStream: 'none' })).rejects.toThrow('stream "none"');

      expect((await text).toString('utf8')).toContain('HTTP/1.1 401 Unauthorized\n');
      expect(bench.daemon.log).toMatch(
        new RegExp(`info registry reference=${name} http="HEAD /v2/test/app/manifests/1`),
      );
    },
    TIMEOUT_MS,
  );

  test(
    'who does not read, or leaves, does not hold the transfer up',
    async () => {
      const login = await logIn();
      const { authStream } = login;
      const [idle, gone] = [await bench.open(), await bench.open()];
      const pull = (logsStream: string) =>
        bench.transfer(
          [OCIRegistry, { reference: name, resolver: { authStream, httpDebug: HTTPDebug.DEBUG, logsStream } }],
          [ImageStore, { name }],
        );
      gone.call.cancel();

      await pull(idle.id);
      await pull(gone.id).catch((error: unknown) => expect(String(error)).toContain(`stream "${gone.id}"`));

      const { images } = await bench.connection.images.list({});
      expect(images.map((image) => image.name)).toEqual([name]);
      idle.call.cancel();
      login.close();
    },
    TIMEOUT_MS,
  );
});
