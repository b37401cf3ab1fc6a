// A full disk: the right code, a clear sentence, and everything that was acknowledged still there. Needs root for a
// small file system in memory.

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, statfsSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ContentService, WriteAction } from '../../proto/generated/containerd.services.content.v1';
import { ImagesService } from '../../proto/generated/containerd.services.images.v1';
import { LeasesService } from '../../proto/generated/containerd.services.leases.v1';
import { waitFor } from '../setup/command';
import { describeUnless, needsRoot } from '../setup/needs';
import { type Api, directApi } from '../suites/api';
import { type Bench, openBench } from '../suites/content-bench';
import { digestOf, failure, writeBlob } from '../suites/content-client';

const MIB = 1 << 20;

describeUnless(needsRoot())('content store on a full disk', () => {
  let mountpoint: string;
  let bench: Bench;
  let api: Api;
  const digest = digestOf(Buffer.from('kept'));
  const resource = { type: 'content', id: digest };
  const reserve = () => join(bench.directory, 'meta.db-reserve');

  beforeEach(async () => {
    mountpoint = mkdtempSync(join(tmpdir(), 'gantry-full-'));
    // 8 MiB for the store beside the reserve of the database.
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'gantry-test', mountpoint]);
    bench = await openBench('shared', mountpoint);
    api = directApi(...bench.services);
  });
  afterEach(async () => {
    await bench.close();
    execFileSync('umount', [mountpoint]);
    rmSync(mountpoint, { recursive: true });
  });

  it('refuses the write, keeps what was written before and goes on when there is room', async () => {
    const kept = randomBytes(2 * MIB);
    const filler = await writeBlob(api, kept);
    const data = randomBytes(4 * MIB);
    const dialog = api.dialog(ContentService.write);
    await dialog.ask({ action: WriteAction.WRITE, ref: 'big', data: data.subarray(0, 2 * MIB) });

    const full = await failure(
      dialog.ask({ action: WriteAction.WRITE, offset: BigInt(2 * MIB), data: randomBytes(12 * MIB) }),
    );
    const status = (await api.unary(ContentService.status, { ref: 'big' })).status;
    const chunks = await api.list(ContentService.read, { digest: filler });
    await api.unary(ContentService.delete, { digest: filler });
    await bench.collector.run();
    const again = api.dialog(ContentService.write);
    const stat = await again.ask({ action: WriteAction.STAT, ref: 'big' });
    const commit = await again.ask({
      action: WriteAction.COMMIT,
      offset: BigInt(2 * MIB),
      data: data.subarray(2 * MIB),
      expected: digestOf(data),
    });

    expect(full.kind).toBe('resource exhausted');
    expect(full.message).toMatch(/^write ingest .*: no space left on device: resource exhausted$/);
    expect(status?.offset).toBe(BigInt(2 * MIB));
    expect(digestOf(Buffer.concat(chunks.map((chunk) => chunk.data)))).toBe(filler);
    expect(stat.digest).toBe(digestOf(data.subarray(0, 2 * MIB)));
    expect(commit.digest).toBe(digestOf(data));
  });

  it.each([
    ['an ingest', () => api.unary(ContentService.abort, { ref: 'started' })],
    ['a blob', () => api.unary(ContentService.delete, { digest })],
    ['an image', () => api.unary(ImagesService.delete, { name: 'image' })],
    ['a lease', () => api.unary(LeasesService.delete, { id: 'lease' })],
    ['what a lease holds', () => api.unary(LeasesService.deleteResource, { id: 'lease', resource })],
  ])('removes %s with no byte left, not even for the record', async (_, remove) => {
    await writeBlob(api, Buffer.from('kept'));
    const dialog = api.dialog(ContentService.write);
    await dialog.ask({ action: WriteAction.WRITE, ref: 'started', data: randomBytes(MIB) });
    await dialog.end();
    await api.unary(ImagesService.create, { image: { name: 'image', target: { digest, size: 4n, mediaType: 'x' } } });
    await api.unary(LeasesService.create, { id: 'lease' });
    await api.unary(LeasesService.addResource, { id: 'lease', resource });
    await waitFor('the reserve', () => existsSync(reserve()) && statSync(reserve()).size === 4 * MIB);

    const isFull = await fillUp();
    await remove();
    await bench.collector.run();

    expect(isFull).toBe('resource exhausted');
    expect(statfsSync(mountpoint).bavail).toBeGreaterThan(0);
  });

  /** Takes what is left, and then what SQLite's log has room for. @returns why the last record was refused */
  async function fillUp(): Promise<string | undefined> {
    const file = openSync(join(mountpoint, 'filler'), 'a');
    for (const size of [1 << 16, 1 << 12]) {
      try {
        for (;;) writeSync(file, Buffer.alloc(size));
      } catch {
        // ENOSPC: go on with smaller pieces.
      }
    }
    closeSync(file);
    let kind: string | undefined = 'ok';
    // Large records, then the smallest that there are.
    for (const size of [4000, 0]) {
      for (let count = 0; count === 0 || kind === 'ok'; count += 1) {
        const lease = { id: `filler${size}-${count}`, labels: { filler: 'x'.repeat(size) } };
        kind = (await failure(api.unary(LeasesService.create, lease))).kind;
      }
    }
    return kind;
  }
});
