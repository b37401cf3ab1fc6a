// The daemon's root on a small ext4 file system that fills up: calls fail with a clear sentence, the daemon stays, nothing
// acknowledged is lost, and all goes on when there is room again. Needs root for a loop device.

import fs from 'node:fs';
import path from 'node:path';
import SqliteDatabase from 'better-sqlite3';
import { BUSYBOX_IMAGE, busyboxImage } from '../images/busybox';
import { debianImage } from '../images/debian';
import { installedContainerd } from '../setup/clients';
import { mustRun, runCommand } from '../setup/command';
import { startGantryd, type TestDaemon, temporaryDirectory } from '../setup/daemons';

const DISK_BYTES = 64 << 20;
const SETUP_TIMEOUT_MS = 300_000;
const TIMEOUT_MS = 300_000;

let daemon: TestDaemon;

const command = (args: readonly string[]) => ['/usr/bin/ctr', '-a', daemon.address, '-n', daemon.namespace, ...args];
const ctr = (...args: string[]) => mustRun(command(args));
const tried = (...args: string[]) => runCommand(command(args), { timeoutMs: TIMEOUT_MS });
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

    const failures = [];
    // SQLite's log may have room in the blocks it holds, 4 MiB at most: not each call fails, but none may lie. What the
    // import above has left is removed beside this, and makes room anew.
    for (let count = 0; count < 600; count += 1) {
      if (count % 100 === 0) fill();
      const name = `${daemon.namespace}-full${count}`;
      const { exitCode, stderr } = await tried('namespaces', 'create', name, `label=${'x'.repeat(4000)}`);
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
