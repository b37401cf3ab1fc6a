// The daemon's root on a small ext4 file system that fills up: calls fail with a clear sentence, the daemon stays, nothing
// acknowledged is lost, and all goes on when there is room again. Needs root for a loop device.

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import SqliteDatabase from 'better-sqlite3';
import { BUSYBOX_IMAGE, busyboxImage } from '../images/busybox';
import { debianImage } from '../images/debian';
import { PROJECT_ROOT } from '../setup/cache';
import { installedContainerd } from '../setup/clients';
import { mustRun, runCommand, waitFor } from '../setup/command';
import { startGantryd, type TestDaemon, temporaryDirectory } from '../setup/daemons';
import { layout } from './transfer/layout';

const GANTRY = path.join(PROJECT_ROOT, 'dist/bin/gantry');
const DISK_BYTES = 64 << 20;
const SETUP_TIMEOUT_MS = 300_000;
const TIMEOUT_MS = 300_000;

let daemon: TestDaemon;

const command = (args: readonly string[]) => ['/usr/bin/ctr', '-a', daemon.address, '-n', daemon.namespace, ...args];
const ctr = (...args: string[]) => mustRun(command(args));
const tried = (...args: string[]) => runCommand(command(args), { timeoutMs: TIMEOUT_MS });
const gantry = (...args: string[]) => mustRun([GANTRY, '--address', daemon.address, '-n', daemon.namespace, ...args]);
const filler = () => path.join(daemon.root, 'filler');

beforeAll(async () => {
  await installedContainerd();
  await Promise.all([busyboxImage(), debianImage()]);
  const directory = temporaryDirectory('disk');
  const disk = path.join(directory, 'disk.ext4');
  fs.mkdirSync(path.join(directory, 'root'));
  fs.writeFileSync(disk, '');
  fs.truncateSync(disk, DISK_BYTES);
  await mustRun(['/sbin/mkfs.ext4', '-q', '-m', '0', disk]);
  await mustRun(['mount', '-o', 'loop', disk, path.join(directory, 'root')]);
  // What a rehearsal of the zygote writes and removes would be room on the full disk.
  const config = path.join(directory, 'config.toml');
  fs.writeFileSync(config, '[shim]\nstart = "spawn"\n');
  daemon = await startGantryd({ directory, args: ['--config', config] });
  await ctr('images', 'import', await busyboxImage());
}, SETUP_TIMEOUT_MS);

afterAll(() => daemon?.destroy(), SETUP_TIMEOUT_MS);

test(
  'an import that does not fit fails with one sentence, and frees what it took',
  async () => {
    const result = await tried('images', 'import', await debianImage());
    const images = await ctr('images', 'ls', '-q');

    expect(result.exitCode).toBe(1);
    expect(result.stderr).toMatch(/no space left on device/);
    expect(images).toBe(`${BUSYBOX_IMAGE}\n`);
  },
  TIMEOUT_MS,
);

test(
  'with no byte left changes fail, answers still come, and later all goes on',
  async () => {
    await ctr('namespaces', 'create', `${daemon.namespace}-before`);

    const labels = Array.from({ length: 10 }, (_, index) => `label${index}=${'x'.repeat(4000)}`);
    const failures = [];
    // SQLite's log may have room in the blocks it holds, 4 MiB at most: not each call fails, but none may lie. What the
    // import above has left is removed beside this, and makes room anew.
    for (let count = 0; count < 300; count += 1) {
      if (count % 10 === 0) fill();
      const name = `${daemon.namespace}-full${count}`;
      const { exitCode, stderr } = await tried('namespaces', 'create', name, ...labels);
      if (exitCode !== 0) {
        failures.push({ name, stderr });
        break;
      }
    }
    const whileFull = await ctr('namespaces', 'ls', '-q');
    fs.rmSync(filler());
    await ctr('namespaces', 'create', `${daemon.namespace}-after`);
    await daemon.stop('SIGKILL');
    await daemon.start();
    const later = await ctr('namespaces', 'ls', '-q');

    expect(failures).toEqual([
      { name: expect.anything(), stderr: expect.stringMatching(/^ctr: .*(full|no space left)/) },
    ]);
    expect(whileFull).toContain(`${daemon.namespace}-before\n`);
    expect(whileFull).not.toContain(failures[0]?.name);
    expect(later.split('\n')).toEqual(
      expect.arrayContaining([...whileFull.trim().split('\n'), `${daemon.namespace}-after`]),
    );
  },
  SETUP_TIMEOUT_MS,
);

test(
  'a container that fills the disk fails alone',
  async () => {
    const script = 'head -c 100000000 /dev/zero > /big || echo full';

    const { stdout } = await tried('run', '--rm', BUSYBOX_IMAGE, 'filler', 'sh', '-c', script);

    expect(stdout).toBe('full\n');
    expect(await ctr('run', '--rm', BUSYBOX_IMAGE, 'next', 'echo', 'next')).toBe('next\n');
    expect(await daemon.lastingLeftovers([`mount ${daemon.root}`])).toEqual([]);
  },
  TIMEOUT_MS,
);

test(
  'with no byte left, images and snapshots are removed and collected, which makes room',
  async () => {
    const { tar } = await layout({ name: 'bulk:1', layers: [[['file', randomBytes(4 << 20).toString('hex')]]] });
    const archive = path.join(daemon.directory, 'bulk.tar');
    fs.writeFileSync(archive, tar);
    await gantry('images', 'import', archive);
    await gantry('snapshots', 'prepare', 'work');
    // What is collected later would make room.
    await gantry('gc', 'run');
    fill();
    const full = freeBytes();

    const image = await gantry('images', 'rm', '--sync', 'bulk:1');
    const between = freeBytes();
    // The next removal has room of its own again.
    const reserve = path.join(daemon.root, 'metadata/gantry.db-reserve');
    await waitFor('the reserve', () => fs.statSync(reserve, { throwIfNoEntry: false })?.size === 4 << 20, TIMEOUT_MS);
    const orphan = path.join(daemon.root, 'io.containerd.content.v1.content/blobs/sha256', '1'.repeat(64));
    fs.writeFileSync(orphan, randomBytes(1 << 20));
    fill();
    await gantry('snapshots', 'rm', 'work');
    const collected = await gantry('gc', 'run');
    // A try to take the reserve back may be using it at the moment.
    await waitFor('room', () => freeBytes() > 900_000, TIMEOUT_MS);
    fs.rmSync(filler());

    expect(full).toBeLessThan(64 << 10);
    expect(image).toBe('bulk:1\n');
    // The layer's blob, and its files.
    expect(between).toBeGreaterThan(10 << 20);
    expect(collected).toMatch(/\ndata +- +content +1 +1\.0 MiB\n/);
    expect(await ctr('images', 'ls', '-q')).toBe(`${BUSYBOX_IMAGE}\n`);
  },
  TIMEOUT_MS,
);

test('the database is whole', async () => {
  await daemon.stop();
  const files = fs
    .readdirSync(daemon.root, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.(db|sqlite3?)$/.test(file));
  const checks = files.map((file) =>
    new SqliteDatabase(path.join(daemon.root, file)).pragma('integrity_check', { simple: true }),
  );

  expect(checks).toEqual(['ok']);
});

/** In bytes. */
function freeBytes(): number {
  const { bavail, bsize } = fs.statfsSync(daemon.root);
  return bavail * bsize;
}

/** Takes every byte that is left now. */
function fill(): void {
  const file = fs.openSync(filler(), 'a');
  for (const size of [1 << 20, 1 << 12, 1]) {
    try {
      for (;;) {
        fs.writeSync(file, Buffer.alloc(size));
      }
    } catch {
      // ENOSPC: go on with smaller pieces.
    }
  }
  fs.closeSync(file);
}
