// Streams and transfers as they travel: who may open what, windows, progress, leases, and what is left when somebody goes.

import { randomBytes } from 'node:crypto';
import { packAny, unpackAny } from '../../../proto/any';
import { errorKind, messageOf } from '../../../proto/errors';
import { StreamInit } from '../../../proto/generated/containerd.services.streaming.v1';
import {
  Data,
  ImageExportStream,
  ImageImportStream,
  ImageStore,
  OCIRegistry,
  WindowUpdate,
} from '../../../proto/generated/containerd.types.transfer';
import { describeUnless } from '../../setup/needs';
import { tar } from '../cli/fixture';
import { missingForDaemon } from '../gantryd';
import { receiveBytes, receiveProgress, sendBytes, sendPart, TransferBench } from './bench';
import { layout } from './layout';

const suite = describeUnless(missingForDaemon());
const TIMEOUT_MS = 60_000;

suite('streams', () => {
  const bench = new TransferBench();

  beforeAll(() => bench.start(), TIMEOUT_MS);
  afterAll(() => bench.destroy(), TIMEOUT_MS);

  const failure = (promise: Promise<unknown>) =>
    promise.then(
      () => 'done',
      (error: unknown) => `${errorKind(error)}: ${messageOf(error)}`,
    );
  const until = async (condition: () => boolean | Promise<boolean>) => {
    while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  const leases = async () => (await bench.connection.leases.list({})).leases.map(({ id }) => id);

  test('an id is taken while its stream is open, in its namespace only', async () => {
    const { id, call } = await bench.open();
    const elsewhere = await bench.open(id, { namespace: 'other' });

    const again = bench.connection.streaming.stream();
    await again.send(packAny(StreamInit, { id }));

    expect(await failure(again.receive())).toBe(`unknown: open stream: stream "${id}": already exists`);
    call.cancel();
    elsewhere.call.cancel();
    await until(async () => (await failure(bench.open(id).then((stream) => stream.call.cancel()))) === 'done');
  });

  test('the first message must open the stream', async () => {
    const call = bench.connection.streaming.stream();

    await call.send(packAny(Data, { data: Buffer.from('x') }));

    expect(await failure(call.receive())).toMatch(/^unknown: open stream: expected .*StreamInit/);
  });

  test('a stream ends with its lease', async () => {
    await bench.connection.leases.create({ id: 'of-a-stream' });
    const { call } = await bench.open(undefined, { lease: 'of-a-stream' });
    const other = await bench.open();

    await bench.connection.leases.delete({ id: 'of-a-stream', sync: true });

    expect(await call.receive()).toBeUndefined();
    expect(await failure(bench.open(other.id))).toContain('already exists');
    other.call.cancel();
  });

  test('transfers refuse streams and pairs that they do not know', async () => {
    const source = [ImageImportStream, { stream: 'none' }] as const;

    expect(await failure(bench.transfer(source, [ImageStore, {}]))).toBe('not found: stream "none": not found');
    expect(await failure(bench.transfer(source, [ImageStore, {}], { progressStream: 'no' }))).toMatch(/^not found:/);
    expect(await failure(bench.transfer([OCIRegistry, {}], [ImageExportStream, {}]))).toMatch(/^not implemented: /);
    expect(await failure(bench.connection.transfer.transfer({}))).toMatch(/^invalid argument: /);
    expect(await failure(bench.transfer(source, [ImageStore, {}], { lease: 'none' }))).toMatch(/^not found: lease/);
    expect(await leases()).toEqual([]);
  });

  test('bytes go through within the windows of both sides', async () => {
    const bytes = randomBytes(3_000_000);
    const [source, destination] = [await bench.open(), await bench.open()];
    const sent = sendBytes(source.call, bytes);
    const received = receiveBytes(destination.call, bytes.length);

    await bench.transfer([ImageImportStream, { stream: source.id }], [ImageExportStream, { stream: destination.id }]);

    await sent;
    expect((await received).equals(bytes)).toBe(true);
  });

  test('the daemon asks for no more than its window while nobody takes the bytes', async () => {
    const [source, destination] = [await bench.open(), await bench.open()];
    const transfer = failure(
      bench.transfer([ImageImportStream, { stream: source.id }], [ImageExportStream, { stream: destination.id }]),
    );
    let sentBytes = 0;
    const send = async () => {
      let granted = 0;
      for (;;) {
        const message = await source.call.receive();
        if (message === undefined) return;
        granted += unpackAny(WindowUpdate, message).update;
        for (; granted > 0; granted -= 1 << 16) {
          await source.call.send(packAny(Data, { data: Buffer.alloc(1 << 16) }));
          sentBytes += 1 << 16;
        }
      }
    };
    const sending = failure(send());
    await until(() => sentBytes > 0);
    await new Promise((resolve) => setTimeout(resolve, 500));

    expect(sentBytes).toBeLessThanOrEqual(16 << 20);
    source.call.cancel();
    destination.call.cancel();
    expect(await transfer).toMatch(/^(canceled|invalid argument): stream .* the client (has left|takes no more data)/);
    await sending;
  });

  test('a client that sends more than it was granted is refused', async () => {
    const source = await bench.open();
    const transfer = failure(bench.transfer([ImageImportStream, { stream: source.id }], [ImageStore, {}]));
    await source.call.receive();

    await source.call.send(packAny(Data, { data: Buffer.alloc(8 << 20) }));

    expect(await transfer).toMatch(/^invalid argument: stream .* more data than the window allows/);
    source.call.cancel();
  });

  test('an import whose client leaves in the middle of the archive fails and leaves no lease', async () => {
    const archive = await layout({ layers: [[['file', randomBytes(2_000_000).toString('hex')]]] });
    const source = await bench.open();
    const transfer = failure(bench.transfer([ImageImportStream, { stream: source.id }], [ImageStore, {}]));
    const sending = sendPart(source.call, archive.tar.subarray(0, 1_000_000)).catch(() => {});
    await until(async () => (await leases()).length > 0);
    source.call.cancel();

    expect(await transfer).toMatch(/the client has left|cut short|unrecognized/);
    await sending;
    expect(await leases()).toEqual([]);
  });

  test('a call that is cancelled stops its transfer and its lease', async () => {
    const source = await bench.open();
    const stop = new AbortController();
    const transfer = failure(
      bench.transfer([ImageImportStream, { stream: source.id }], [ImageStore, {}], { signal: stop.signal }),
    );
    await until(async () => (await leases()).length > 0);

    stop.abort();
    source.call.end();

    expect(await transfer).toMatch(/^canceled/);
    await until(async () => (await leases()).length === 0);
  });

  test('progress tells of the import, its layers and its images, and ends', async () => {
    const archive = await layout({ name: 'host/progress:1', layers: [[['a', 'b']], [['c', 'd']]] });
    const [source, progress] = [await bench.open(), await bench.open()];
    const entries = receiveProgress(progress.call);
    const sent = sendBytes(source.call, archive.tar);
    const store = { extraReferences: [{ name: 'x', isPrefix: true, allowOverwrite: true }], unpacks: [{}] };

    await bench.transfer([ImageImportStream, { stream: source.id }], [ImageStore, store], {
      progressStream: progress.id,
    });

    await sent;
    const told = (await entries).map(({ event, name }) => `${event} ${name.split('-')[0]}`.trim());
    // Layers are unpacked at the same time.
    expect(told.filter((entry) => !entry.endsWith('layer'))).toEqual([
      'Importing',
      'saved host/progress:1',
      'Completed import',
    ]);
    for (const layer of archive.layers) {
      const ofLayer = (await entries).filter(({ name }) => name === `layer-${layer}`);
      expect(ofLayer.map(({ event }) => event)).toEqual(['extracting', 'extracted']);
    }
    const { image } = await bench.connection.images.get({ name: 'host/progress:1' });
    expect(image?.target?.digest).toBe(archive.manifest);
  });

  test('a progress stream that nobody reads holds nothing up', async () => {
    const archive = await layout({ name: 'host/silent:1', layers: [[['a', 'b']]] });
    const [source, progress] = [await bench.open(), await bench.open()];
    const sent = sendBytes(source.call, archive.tar);

    await bench.transfer([ImageImportStream, { stream: source.id }], [ImageStore, { name: 'host/silent-index:1' }], {
      progressStream: progress.id,
    });

    await sent;
    expect((await bench.connection.images.get({ name: 'host/silent-index:1' })).image?.target?.mediaType).toContain(
      'index',
    );
    progress.call.cancel();
  });

  test('layers that may not be passed on can be missing in an import and left out of an export', async () => {
    const plan = { layers: [[['own', 'layer']], [['foreign', 'layer']]], foreign: true } as const;
    const import_ = async (name: string, archive: Buffer) => {
      const source = await bench.open();
      const sent = sendBytes(source.call, archive);
      const reference = { name: 'x', isPrefix: true, allowOverwrite: true };
      await bench.transfer([ImageImportStream, { stream: source.id }], [ImageStore, { extraReferences: [reference] }]);
      await sent;
      return (await bench.connection.images.get({ name })).image?.target?.digest;
    };
    const export_ = async (options: { skipNonDistributable?: boolean }) => {
      const destination = await bench.open();
      const received = receiveBytes(destination.call);
      const exported = failure(
        bench.transfer(
          [ImageStore, { name: 'host/foreign:1' }],
          [ImageExportStream, { stream: destination.id, ...options }],
        ),
      );
      return { bytes: await received, result: await exported };
    };
    const without = await layout({ ...plan, name: 'host/foreign:1', leaveOut: 'layer' });
    const whole = await layout({ ...plan, name: 'host/foreign:1' });
    const foreign = whole.layers[1]?.replace(':', '/') ?? '';

    expect(await import_('host/foreign:1', without.tar)).toBe(without.manifest);
    expect((await export_({})).result).toMatch(/^not found: content digest/);
    const kept = await export_({ skipNonDistributable: true });
    expect(kept.result).toBe('done');
    expect(kept.bytes.includes(`blobs/${foreign}\0`)).toBe(false);
    expect(await import_('host/foreign:1', whole.tar)).toBe(whole.manifest);
    expect((await export_({})).bytes.includes(`blobs/${foreign}\0`)).toBe(true);
  });

  test('an archive that is no image is refused by what it lacks', async () => {
    const refused = async (bytes: Buffer) => {
      const source = await bench.open();
      const sent = sendBytes(source.call, bytes).catch(() => {});
      const result = await failure(bench.transfer([ImageImportStream, { stream: source.id }], [ImageStore, {}]));
      source.call.cancel();
      await sent;
      return result;
    };
    const manifest = (value: object) => JSON.stringify(value);

    expect(await refused(await tar([['file', 'x']]))).toMatch(/^invalid argument: unrecognized image format/);
    expect(await refused(await tar([['oci-layout', '{"imageLayoutVersion":"2.0.0"}']]))).toContain(
      'unsupported version "2.0.0"',
    );
    expect(await refused(await tar([['oci-layout', '{"imageLayoutVersion":"1.0.0"}']]))).toContain(
      'missing index.json',
    );
    expect(await refused(await tar([['manifest.json', manifest([{ Config: '../x', Layers: [] }])]]))).toContain(
      'manifest.json names "../x", which is not in the archive',
    );
    const missing = await layout({ layers: [[['left', 'out']]], leaveOut: 'layer' });
    expect(await refused(missing.tar)).toMatch(/^not found: archive names sha256:.* but does not hold it/);
    const wrong = await layout({ layers: [[['is', 'damaged']]], damage: true });
    expect(await refused(wrong.tar)).toMatch(/^failed precondition: unexpected commit digest/);
    expect(await leases()).toEqual([]);
    expect((await bench.connection.content.listStatuses({})).statuses).toEqual([]);
  });

  test(
    'a daemon that is killed during an import takes the same archive afterwards',
    async () => {
      const archive = await layout({
        name: 'host/again:1',
        layers: [[['big', randomBytes(3_000_000).toString('hex')]]],
      });
      const first = await bench.open();
      const transfer = failure(bench.transfer([ImageImportStream, { stream: first.id }], [ImageStore, {}]));
      const sending = sendPart(first.call, archive.tar.subarray(0, 2_500_000)).catch(() => {});
      await until(async () => (await leases()).length > 0);
      await bench.daemon.stop('SIGKILL');
      await Promise.all([transfer, sending]);
      bench.connection.close();
      await bench.start();

      const second = await bench.open();
      const sent = sendBytes(second.call, archive.tar);
      const store = { extraReferences: [{ name: 'x', isPrefix: true, allowOverwrite: true }], unpacks: [{}] };
      await bench.transfer([ImageImportStream, { stream: second.id }], [ImageStore, store]);

      await sent;
      expect((await bench.connection.images.get({ name: 'host/again:1' })).image?.target?.digest).toBe(
        archive.manifest,
      );
    },
    TIMEOUT_MS,
  );
});
