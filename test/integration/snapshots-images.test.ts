// A Debian image of two layers on every snapshotter: imported, run, and the same to the container file by file; again after
// the daemon was started anew, and nothing is left when all is removed. Its root directory is on btrfs.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEBIAN_IMAGE, debianImage, SECOND_LAYER_EFFECTS } from '../images/debian';
import { mustRun, waitFor } from '../setup/command';
import { startGantryd, type TestDaemon, temporaryDirectory } from '../setup/daemons';
import { mountsBelow } from '../setup/leftovers';
import { describeUnless } from '../setup/needs';
import { startSnapshotPlugin } from '../suites/snapshot-plugin';
import { mountBtrfs, SNAPSHOTTERS } from '../suites/snapshotters';

const TIMEOUT_MS = 600_000;
/** With room for a full copy of each layer. The file has holes. */
const ROOT_BYTES = 4 * 2 ** 30;
const OTHERS = ['erofs', 'btrfs', 'proxied'];
const SKIPPED = '\\( -path /proc -o -path /sys -o -path /dev -o -path /run \\) -prune';
/**
 * Every file with its attributes and its contents. Directories without times and sizes: those that a layer changes and
 * does not name have the time of the unpacking.
 */
const TELL = `find / -xdev ${SKIPPED} -o -type d -printf '%p d %#m %U %G\n' | sort
  find / -xdev ${SKIPPED} -o ! -type d -printf '%p %y %#m %U %G %n %s %T@ %l\n' | sort
  find / -xdev ${SKIPPED} -o -type f -print0 | sort -z | xargs -0 sha256sum`;

const missing = SNAPSHOTTERS.map((one) => one.missing).find((reason) => reason !== undefined);

describeUnless(missing)('images on every snapshotter', () => {
  let plugin: TestDaemon;
  let daemon: TestDaemon;
  let expected: string;
  let serial = 0;

  const ctr = (...args: string[]) =>
    mustRun(['/usr/bin/ctr', '-a', daemon.address, '-n', daemon.namespace, ...args], { timeoutMs: TIMEOUT_MS });
  const run = (snapshotter: string, script: string) => {
    serial += 1;
    return ctr('run', '--rm', '--snapshotter', snapshotter, DEBIAN_IMAGE, `c${serial}`, 'sh', '-c', script);
  };

  beforeAll(async () => {
    const image = await debianImage();
    plugin = await startSnapshotPlugin();
    const directory = temporaryDirectory('gantryd');
    const config = join(directory, 'config.toml');
    writeFileSync(
      config,
      `[proxy_plugins.proxied]\ntype = "snapshot"\naddress = "${plugin.address}"\nsnapshotter = "overlayfs"\n`,
    );
    mkdirSync(join(directory, 'root'));
    mountBtrfs(join(directory, 'root'), ROOT_BYTES);
    daemon = await startGantryd({ directory, args: ['--config', config] });
    for (const snapshotter of ['overlayfs', ...OTHERS]) {
      await ctr('images', 'import', '--snapshotter', snapshotter, image);
    }
    expected = await run('overlayfs', TELL);
  }, TIMEOUT_MS);

  afterAll(async () => {
    await daemon?.destroy();
    await plugin?.destroy();
  }, TIMEOUT_MS);

  test(
    'the list of plugins has those that work, and why others do not',
    async () => {
      const rows = (await ctr('plugins', 'ls')).split('\n').map((line) => line.trim().split(/ +/));
      const found = rows.filter(([type]) => type === 'io.containerd.snapshotter.v1');

      expect(Object.fromEntries(found.map((row) => [row[1], row.at(-1)]))).toEqual({
        overlayfs: 'ok',
        native: 'ok',
        erofs: 'ok',
        btrfs: 'ok',
        proxied: 'ok',
        devmapper: 'skip',
        zfs: 'skip',
      });
    },
    TIMEOUT_MS,
  );

  test.each(OTHERS)(
    '%s shows the container what overlayfs shows',
    async (snapshotter) => {
      expect(expected.split('\n').length).toBeGreaterThan(1000);
      expect(await run(snapshotter, TELL)).toBe(expected);
    },
    TIMEOUT_MS,
  );

  test.each(OTHERS)(
    'a container on %s writes, replaces and removes',
    async (snapshotter) => {
      const removed = Object.keys(SECOND_LAYER_EFFECTS).join(' ');

      const script = `echo new > /etc/hostname; rm -rf /usr/share/doc ${removed}; mv /etc/passwd /etc/moved
        cat /etc/hostname; ls /usr/share/doc ${removed} 2>/dev/null | wc -l; head -n 1 /etc/moved`;
      expect(await run(snapshotter, script)).toBe('new\n0\nroot:x:0:0:root:/root:/bin/bash\n');
      expect(await run(snapshotter, 'test -e /etc/passwd && ls -d /usr/share/doc')).toBe('/usr/share/doc\n');
    },
    TIMEOUT_MS,
  );

  test(
    'layers of erofs are images and nothing else, and serve a daemon that was started anew',
    async () => {
      const listed = (await ctr('snapshots', '--snapshotter', 'erofs', 'ls')).split('\n').slice(1);
      const images = mountsBelow(daemon.directory).filter((mount) =>
        /snapshotter\.v1\.erofs\/snapshots\/\d+\/layer$/.test(mount),
      );
      expect(listed.filter((line) => line.includes('Committed'))).toHaveLength(2);
      expect(images).toHaveLength(2);
      for (const mount of images) expect(existsSync(join(mount, '../fs'))).toBe(false);
      await daemon.stop();
      for (const mount of images) await mustRun(['umount', mount]);

      await daemon.start();

      expect(await run('erofs', TELL)).toBe(expected);
    },
    TIMEOUT_MS,
  );

  test(
    'nothing is left when the image is removed',
    async () => {
      await ctr('images', 'rm', '--sync', DEBIAN_IMAGE);

      for (const snapshotter of ['overlayfs', ...OTHERS]) {
        expect((await ctr('snapshots', '--snapshotter', snapshotter, 'ls')).trim().split('\n')).toHaveLength(1);
      }
      const isLayer = (mount: string) => mount.includes('/snapshots/');
      await waitFor('unmounting', () => !mountsBelow(daemon.directory).some(isLayer));
      const left = await mustRun(['find', join(daemon.root), '-path', '*/snapshots/*']);
      expect(left).toBe('');
      const theirs = ['-a', plugin.address, '-n', daemon.namespace, 'snapshots', 'ls'];
      expect((await mustRun(['/usr/bin/ctr', ...theirs])).trim().split('\n')).toHaveLength(1);
      // How shims are started is another matter, and depends on how busy the machine is.
      expect(readFileSync(daemon.logPath, 'utf8')).not.toMatch(/^\S+ (warn|error) (?!zygote|no zygote|shim )/m);
    },
    TIMEOUT_MS,
  );
});
