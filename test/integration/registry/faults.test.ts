import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Descriptor, Reference } from '../../../daemon/registry/types';
import { waitFor } from '../../setup/command';
import { describeUnless } from '../../setup/needs';
import { descriptorOf, fetchInto, pushBytes } from './blobs';
import { type Fault, FaultyProxy, type Plan } from './faulty-proxy';
import { Fixture, reference } from './fixture';
import { missingForRegistry, RegistryServer } from './server';

jest.setTimeout(240_000);

const NEVER = new AbortController().signal;
const MIB = 1 << 20;
const QUICK = { stallMs: 3000 };

describeUnless(missingForRegistry())('a registry behind a bad network', () => {
  let fixture: Fixture;
  let server: RegistryServer;
  let proxy: FaultyProxy;
  let app: Reference;
  let files = 0;

  beforeAll(async () => {
    fixture = new Fixture();
    server = await RegistryServer.start(fixture.path('server'));
    fixture.defer(() => server.kill());
    proxy = await FaultyProxy.start(server.port);
    fixture.defer(() => proxy.close());
    app = reference(proxy.host, 'app:1');
  });

  afterAll(() => fixture[Symbol.asyncDispose]());

  beforeEach(() => {
    proxy.plan = () => undefined;
    proxy.requests.length = 0;
  });

  function newPath(): string {
    files += 1;
    return fixture.path(`file-${files}`);
  }

  async function stored(sizeBytes: number): Promise<{ bytes: Buffer; descriptor: Descriptor }> {
    const bytes = randomBytes(sizeBytes);
    await pushBytes(fixture.client(), reference(server.host, 'app:1'), { bytes, path: newPath() });
    return { bytes, descriptor: descriptorOf(bytes) };
  }

  /** The faults for the first requests for blobs, one after the other. */
  function first(...faults: (Fault | undefined)[]): Plan {
    const left = [...faults];
    return ({ url = '', method }) => (method === 'GET' && url.includes('/blobs/') ? left.shift() : undefined);
  }

  function ranges(): (string | undefined)[] {
    return proxy.requests.filter(({ url }) => url.includes('/blobs/')).map(({ headers }) => headers.range);
  }

  test('fetch() goes on where connections broke', async () => {
    const { bytes, descriptor } = await stored(6 * MIB);
    proxy.plan = first({ kind: 'drop', afterBytes: 2 * MIB }, { kind: 'drop', afterBytes: 3 * MIB });

    const got = await fetchInto(fixture.client(), app, descriptor, { path: newPath() });

    expect(got.bytes.equals(bytes)).toBe(true);
    expect(ranges()).toEqual([undefined, expect.stringMatching(/^bytes=\d+-$/), expect.stringMatching(/^bytes=\d+-$/)]);
  });

  test('fetch() goes on where a body stalled', async () => {
    const { bytes, descriptor } = await stored(3 * MIB);
    proxy.plan = first({ kind: 'stall', afterBytes: MIB });

    const got = await fetchInto(fixture.client({ config: QUICK }), app, descriptor, { path: newPath() });

    expect(got.bytes.equals(bytes)).toBe(true);
    expect(ranges()).toEqual([undefined, `bytes=${MIB}-`]);
  });

  test('fetch() gives up what only ever stalls, and says so', async () => {
    const { descriptor } = await stored(MIB);
    proxy.plan = ({ url = '' }) => (url.includes('/blobs/') ? { kind: 'stall', afterBytes: 0 } : undefined);
    const config = { stallMs: 100 };

    const fetching = fetchInto(fixture.client({ config }), app, descriptor, { path: newPath() });

    await expect(fetching).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringMatching(
        /registry "127.*fetch app@sha256.*no byte has come for 0\.1 s: the registry, or the way/,
      ),
    });
  });

  test('fetch() leaves a connection that only trickles', async () => {
    const { bytes, descriptor } = await stored(MIB);
    proxy.plan = first({ kind: 'trickle' });

    const config = { bytesPerSecondMin: 1000 };
    const got = await fetchInto(fixture.client({ config }), app, descriptor, { path: newPath() });

    expect(got.bytes.equals(bytes)).toBe(true);
    expect(ranges()).toHaveLength(2);
  });

  test('fetch() begins anew when bytes were changed on the way', async () => {
    const { bytes, descriptor } = await stored(2 * MIB);
    proxy.plan = first({ kind: 'corrupt', atByte: MIB + 5 });

    const got = await fetchInto(fixture.client(), app, descriptor, { path: newPath() });

    expect(got.bytes.equals(bytes)).toBe(true);
    expect(ranges()).toEqual([undefined, undefined]);
    expect(got.progress.some(({ offsetBytes }) => offsetBytes === 0n)).toBe(true);
  });

  test('fetch() refuses bytes that are changed every time, and keeps none', async () => {
    const { descriptor } = await stored(MIB);
    proxy.plan = ({ url = '' }) => (url.includes('/blobs/') ? { kind: 'corrupt', atByte: 7 } : undefined);
    const path = newPath();

    await expect(fetchInto(fixture.client(), app, descriptor, { path })).rejects.toMatchObject({
      kind: 'failed precondition',
      message: expect.stringMatching(
        /its bytes have the digest sha256:[0-9a-f]{64}: the registry, or a proxy, changes them/,
      ),
    });
    expect(fs.statSync(path).size).toBe(0);
  });

  test.each([
    [{ 'content-length': '17' }, /it has 17 bytes where 1048576 are expected/],
    [{ 'content-encoding': 'gzip' }, /it sends the content encoding "gzip" unasked/],
  ])('fetch() refuses a body with the headers %j', async (headers, words) => {
    const { descriptor } = await stored(MIB);
    proxy.plan = ({ url = '' }) => (url.includes('/blobs/') ? { kind: 'headers', headers } : undefined);

    const fetching = fetchInto(fixture.client(), app, descriptor, { path: newPath() });

    await expect(fetching).rejects.toMatchObject({
      kind: 'failed precondition',
      message: expect.stringMatching(words),
    });
  });

  test('fetch() takes no more bytes than the descriptor has', async () => {
    const bytes = randomBytes(2 * MIB);
    proxy.plan = ({ url = '' }) =>
      url.includes('/blobs/') ? { kind: 'answer', status: 200, body: bytes.toString('latin1') } : undefined;
    const path = newPath();
    const descriptor = { ...descriptorOf(bytes), size: BigInt(MIB) };

    await expect(fetchInto(fixture.client(), app, descriptor, { path })).rejects.toMatchObject({
      kind: 'failed precondition',
    });
    expect(fs.statSync(path).size).toBeLessThanOrEqual(MIB);
  });

  test('fetch() waits as long as an overloaded registry asks', async () => {
    const { bytes, descriptor } = await stored(MIB);
    const busy: Fault = { kind: 'answer', status: 429, headers: { 'retry-after': '1' } };
    const broken: Fault = { kind: 'answer', status: 503 };
    proxy.plan = first(busy, broken);
    const started = Date.now();

    const got = await fetchInto(fixture.client(), app, descriptor, { path: newPath() });

    expect(got.bytes.equals(bytes)).toBe(true);
    expect(Date.now() - started).toBeGreaterThanOrEqual(1000);
  });

  test('resolve() gives up on an overloaded registry, and says what it said', async () => {
    const body = '{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\\u001b[31m down"}]}';
    proxy.plan = ({ method }) =>
      method === 'HEAD' ? { kind: 'answer', status: 405 } : { kind: 'answer', status: 429, body };

    await expect(fixture.client().resolve(app, NEVER)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringMatching(
        /resolve app:1: 429 Too Many Requests \(TOOMANYREQUESTS: slow \[31m down\): too many/,
      ),
    });
  });

  test('fetch() skips what it has when a registry knows no ranges', async () => {
    const { bytes, descriptor } = await stored(3 * MIB);
    const noRanges: Plan = (request) => {
      delete request.headers.range;
      return { kind: 'headers', headers: { 'accept-ranges': undefined } };
    };
    proxy.plan = noRanges;
    const path = newPath();
    fs.writeFileSync(path, bytes.subarray(0, MIB));

    const got = await fetchInto(fixture.client(), app, descriptor, { path });

    expect(got.bytes.equals(bytes)).toBe(true);
  });

  test('fetch() splits a large blob into ranges when one connection is slow', async () => {
    const { bytes, descriptor } = await stored(48 * MIB);
    proxy.plan = ({ url = '' }) => (url.includes('/blobs/') ? { kind: 'slow', bytesPerSecond: 6 * MIB } : undefined);

    const got = await fetchInto(fixture.client(), app, descriptor, { path: newPath() });

    expect(got.bytes.equals(bytes)).toBe(true);
    const parts = ranges().slice(1);
    expect(parts.length).toBeGreaterThanOrEqual(3);
    for (const part of parts) expect(part).toMatch(/^bytes=\d+-\d+$/);
  });

  test('fetch() survives ranges that break', async () => {
    const { bytes, descriptor } = await stored(48 * MIB);
    let count = 0;
    proxy.plan = ({ url = '', headers }) => {
      if (!url.includes('/blobs/')) return undefined;
      count += 1;
      if (headers.range !== undefined && count % 3 === 0) return { kind: 'drop', afterBytes: MIB };
      return { kind: 'slow', bytesPerSecond: 6 * MIB };
    };

    const got = await fetchInto(fixture.client(), app, descriptor, { path: newPath() });

    expect(got.bytes.equals(bytes)).toBe(true);
  });

  test('fetch() goes on when the registry is killed and comes back', async () => {
    const { bytes, descriptor } = await stored(24 * MIB);
    proxy.plan = ({ url = '' }) => (url.includes('/blobs/') ? { kind: 'slow', bytesPerSecond: 12 * MIB } : undefined);
    const path = newPath();
    const offset = () => (fs.existsSync(path) ? fs.statSync(path).size : 0);

    const fetching = fetchInto(fixture.client(), app, descriptor, { path });
    await waitFor('bytes to come', () => offset() > MIB, 60_000);
    await server.kill();
    const before = offset();
    await sleep(300);
    await server.resume();
    const got = await fetching;

    expect(before).toBeLessThan(24 * MIB);
    expect(got.bytes.equals(bytes)).toBe(true);
  });

  test('push() goes on where the connection broke', async () => {
    const bytes = randomBytes(24 * MIB);
    const faults: Fault[] = [
      { kind: 'drop-request', afterBytes: 9 * MIB },
      { kind: 'drop-request', afterBytes: 5 * MIB },
    ];
    proxy.plan = ({ method }) => (method === 'PUT' || method === 'PATCH' ? faults.shift() : undefined);

    const outcome = await pushBytes(fixture.client(), app, { bytes, path: newPath() });

    expect(outcome).toBe('uploaded');
    expect(faults).toEqual([]);
    const got = await fetchInto(fixture.client(), reference(server.host, 'app:1'), descriptorOf(bytes), {
      path: newPath(),
    });
    expect(got.bytes.equals(bytes)).toBe(true);
  });

  test('push() sends bytes again that were changed on the way, but not without end', async () => {
    const bytes = randomBytes(2 * MIB);
    const faults: Fault[] = [{ kind: 'corrupt-request', atByte: MIB }];
    proxy.plan = ({ method }) => (method === 'PUT' ? faults.shift() : undefined);

    expect(await pushBytes(fixture.client(), app, { bytes, path: newPath() })).toBe('uploaded');

    proxy.plan = ({ method }) => (method === 'PUT' ? { kind: 'corrupt-request', atByte: MIB } : undefined);
    const pushing = pushBytes(fixture.client(), app, { bytes: randomBytes(2 * MIB), path: newPath() });
    await expect(pushing).rejects.toMatchObject({
      kind: 'failed precondition',
      message: expect.stringContaining('other bytes have arrived there than were sent'),
    });
  });

  test('push() goes on when the registry took no more bytes', async () => {
    const bytes = randomBytes(32 * MIB);
    const faults: Fault[] = [{ kind: 'stall-request', afterBytes: MIB }];
    proxy.plan = ({ method }) => (method === 'PUT' || method === 'PATCH' ? faults.shift() : undefined);

    const outcome = await pushBytes(fixture.client({ config: QUICK }), app, { bytes, path: newPath() });

    expect(outcome).toBe('uploaded');
    expect(faults).toEqual([]);
  });

  test('fetch() uses no more connections to a host than are allowed', async () => {
    const { bytes, descriptor } = await stored(2 * MIB);
    proxy.plan = () => ({ kind: 'slow', bytesPerSecond: 8 * MIB });
    const client = fixture.client({ config: { connectionsPerHostMax: 2 } });
    const targets = [1, 2, 3, 4, 5, 6].map(() => ({ path: newPath() }));

    const got = await Promise.all(targets.map((target) => fetchInto(client, app, descriptor, target)));

    for (const one of got) expect(one.bytes.equals(bytes)).toBe(true);
    const ports = proxy.requests.filter(({ url }) => url.includes('/blobs/')).map(({ port }) => port);
    expect(ports).toHaveLength(6);
    expect(new Set(ports).size).toBe(2);
  });

  test('push() sends chunks when a proxy takes no large bodies', async () => {
    const bytes = randomBytes(40 * MIB);
    proxy.plan = ({ headers }) =>
      Number(headers['content-length'] ?? 0) > 20 * MIB ? { kind: 'answer', status: 413 } : undefined;

    const outcome = await pushBytes(fixture.client(), app, { bytes, path: newPath() });

    expect(outcome).toBe('uploaded');
    const chunks = proxy.requests
      .filter(({ method }) => method === 'PATCH')
      .map(({ headers }) => headers['content-range']);
    expect(chunks).toEqual([`0-${16 * MIB - 1}`, `${16 * MIB}-${32 * MIB - 1}`, `${32 * MIB}-${40 * MIB - 1}`]);
    const got = await fetchInto(fixture.client(), reference(server.host, 'app:1'), descriptorOf(bytes), {
      path: newPath(),
    });
    expect(got.bytes.equals(bytes)).toBe(true);
  });

  test('push() starts again when the registry has forgotten the upload', async () => {
    const bytes = randomBytes(2 * MIB);
    const faults: (Fault | undefined)[] = [{ kind: 'answer', status: 503 }];
    proxy.plan = ({ method }) => {
      if (method === 'PUT') return faults.shift();
      return method === 'GET' ? { kind: 'answer', status: 404 } : undefined;
    };

    expect(await pushBytes(fixture.client(), app, { bytes, path: newPath() })).toBe('uploaded');
  });
});
