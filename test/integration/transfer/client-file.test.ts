// Archives that the client has open and the daemon reads itself: only the file that the client means, and by the stream
// wherever that cannot be.

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ImageStore } from '../../../proto/generated/containerd.types.transfer';
import { ImageImportFile } from '../../../proto/generated/gantry.transfer.v1';
import { busyboxImage } from '../../images/busybox';
import { PROJECT_ROOT } from '../../setup/cache';
import { unpackedContainerd } from '../../setup/clients';
import { runCommand } from '../../setup/command';
import { startContainerd } from '../../setup/daemons';
import { describeUnless, needsRoot } from '../../setup/needs';
import { missingForDaemon } from '../gantryd';
import { receiveProgress, TransferBench } from './bench';
import { layout } from './layout';

const GANTRY = join(PROJECT_ROOT, 'dist/bin/gantry');
const TIMEOUT_MS = 120_000;
const NAMED = { extraReferences: [{ name: 'x', isPrefix: true, allowOverwrite: true }], unpacks: [{}] };

describeUnless(missingForDaemon() ?? needsRoot())('archives that the client has open', () => {
  const bench = new TransferBench();
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'gantry-file-'));
    await bench.start();
  }, TIMEOUT_MS);
  afterAll(async () => {
    await bench.destroy();
    await rm(directory, { recursive: true });
  }, TIMEOUT_MS);

  const opened = async (bytes: Buffer): Promise<FileHandle> => {
    const path = join(directory, randomBytes(6).toString('hex'));
    await writeFile(path, bytes);
    return open(path);
  };
  const described = async (file: FileHandle) => {
    const { dev, ino } = await file.stat({ bigint: true });
    return { pid: process.pid, fd: file.fd, device: dev, inode: ino };
  };
  const transfer = (source: Awaited<ReturnType<typeof described>>, progressStream = '') =>
    bench.transfer([ImageImportFile, source], [ImageStore, NAMED], { progressStream });

  test('are read, unpacked and told of', async () => {
    const archive = await layout({ name: 'host/file:1', layers: [[['a', randomBytes(2_000_000).toString('hex')]]] });
    await using file = await opened(archive.tar);
    const progress = await bench.open();
    const entries = receiveProgress(progress.call);

    await transfer(await described(file), progress.id);

    const { image } = await bench.connection.images.get({ name: 'host/file:1' });
    expect(image?.target?.digest).toBe(archive.manifest);
    const ofArchive = (await entries).filter(({ name }) => name === 'archive');
    expect(ofArchive.at(-1)).toMatchObject({ event: 'complete', progress: BigInt(archive.tar.length) });
    expect((await entries).map(({ event }) => event)).toContain('extracted');
  });

  test.each([
    ['another inode', (source: object) => ({ ...source, inode: 1n })],
    ['another device', (source: object) => ({ ...source, device: 1n })],
    ['a descriptor that is not open', (source: object) => ({ ...source, fd: 100_000 })],
    ['a process that is not there', (source: object) => ({ ...source, pid: 2 ** 22 + 1 })],
  ])('are not touched behind %s', async (_, change) => {
    const archive = await layout({ name: 'host/untouched:1', layers: [[['a', 'b']]] });
    await using file = await opened(archive.tar);

    const answer = transfer(change(await described(file)) as Awaited<ReturnType<typeof described>>);

    await expect(answer).rejects.toMatchObject({
      kind: 'not implemented',
      message: expect.stringMatching(/^client's file \/proc\/\d+\/fd\/\d+ cannot be read from here: /),
    });
    await expect(bench.connection.images.get({ name: 'host/untouched:1' })).rejects.toMatchObject({
      kind: 'not found',
    });
  });

  test('pipes, devices and directories are never opened', async () => {
    const fifo = join(directory, 'fifo');
    execFileSync('mkfifo', [fifo]);
    for (const [path, flags] of [
      [fifo, 'r+'],
      ['/dev/zero', 'r'],
      [directory, 'r'],
    ] as const) {
      await using file = await open(path, flags);

      await expect(transfer(await described(file))).rejects.toThrow(/cannot be read from here: not a regular file/);
    }
  });

  test('are refused when they are cut short', async () => {
    const archive = await layout({ layers: [[['a', randomBytes(500_000).toString('hex')]]] });
    await using file = await opened(archive.tar.subarray(0, 400_000));

    await expect(transfer(await described(file))).rejects.toMatchObject({
      kind: 'invalid argument',
      message: expect.stringMatching(/^archive is damaged or cut short/),
    });
    expect((await bench.connection.leases.list({})).leases).toEqual([]);
  });

  test(
    'gantry has its file read by gantryd, and sends it to a containerd',
    async () => {
      const archive = await busyboxImage();
      const load = async (address: string) => {
        const flags = ['--address', address, 'images', 'import', '--progress', 'plain', '--no-unpack', archive];
        const { exitCode, stderr } = await runCommand([GANTRY, ...flags]);
        expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: expect.stringContaining('archive: complete') });
        return stderr;
      };
      const peer = await startContainerd(await unpackedContainerd());
      try {
        expect(await load(peer.address)).toContain('archive: sending');
        expect(await load(bench.daemon.address)).not.toContain('archive: sending');
      } finally {
        await peer.destroy();
      }
    },
    TIMEOUT_MS,
  );
});
