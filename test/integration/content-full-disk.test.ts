// A full disk: the right code, a clear sentence, and everything that was acknowledged still there. Needs root for a
// small file system in memory.

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ContentService, WriteAction } from '../../proto/generated/containerd.services.content.v1';
import { describeUnless, needsRoot } from '../setup/needs';
import { type Api, directApi } from '../suites/api';
import { type Bench, openBench } from '../suites/content-bench';
import { digestOf, failure, writeBlob } from '../suites/content-client';

const MIB = 1 << 20;

describeUnless(needsRoot())('content store on a full disk', () => {
  let mountpoint: string;
  let bench: Bench;
  let api: Api;

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
});
