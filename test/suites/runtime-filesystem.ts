// The runtime's contract: the root filesystem, its mounts and its devices.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { placeLink } from './runtime-bundle';
import type { Change, Tools } from './runtime-case';

export function filesystemCases({ sh, out }: Tools): void {
  test('mounts of the configuration are there with their options', async () => {
    const text = await out('cat /proc/mounts');

    expect(text).toMatch(/^proc \/proc proc rw,nosuid,nodev,noexec,relatime 0 0$/m);
    expect(text).toMatch(/^tmpfs \/dev tmpfs rw,nosuid,size=65536k,mode=755/m);
    expect(text).toMatch(/^devpts \/dev\/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666 0 0$/m);
    expect(text).toMatch(/^sysfs \/sys sysfs ro,nosuid,nodev,noexec,relatime 0 0$/m);
    expect(text).toMatch(/^mqueue \/dev\/mqueue mqueue rw,nosuid,nodev,noexec,relatime 0 0$/m);
    expect(text).toMatch(/ \/sys\/fs\/cgroup(\/memory)? (tmpfs|cgroup2?) ro,/m);
  });

  test('default devices and links are in /dev', async () => {
    const text = await out(
      'cd /dev; for n in null zero full random urandom tty; do stat -c "%n %t:%T %a" $n; done; for n in fd stdin ptmx; do readlink $n; done',
    );

    expect(text).toBe(
      'null 1:3 666\nzero 1:5 666\nfull 1:7 666\nrandom 1:8 666\nurandom 1:9 666\ntty 5:0 666\n/proc/self/fd\n/proc/self/fd/0\npts/ptmx',
    );
  });

  test('devices of the configuration get their owner and mode', async () => {
    expect(
      await out('stat -c "%t:%T %a %u:%g" /dev/sub/fuse', (spec) => {
        spec.linux.devices = [
          { path: '/dev/sub/fuse', type: 'c', major: 10, minor: 229, fileMode: 0o640, uid: 3, gid: 4 },
        ];
      }),
    ).toBe('a:e5 640 3:4');
  });

  test('a bind mount shows the host, read-only when asked for', async () => {
    const bind =
      (options: string[]): Change =>
      (spec, bundle) => {
        const source = join(bundle.path, 'shared');
        mkdirSync(source, { recursive: true });
        writeFileSync(join(source, 'file'), 'from the host');
        spec.mounts.push({ destination: '/mnt/new/place', type: 'bind', source, options } as never);
      };

    expect(await out('cat /mnt/new/place/file', bind(['rbind', 'rprivate']))).toBe('from the host');
    const result = await sh('touch /mnt/new/place/x', bind(['rbind', 'ro']));
    expect(result.stderr).toMatch(/Read-only file system/);
  });

  test('a file can be bound on a file that is missing', async () => {
    expect(
      await out('cat /etc/resolv.conf', (spec, bundle) => {
        const source = join(bundle.path, 'resolv.conf');
        writeFileSync(source, 'nameserver 10.0.0.1');
        spec.mounts.push({ destination: '/etc/resolv.conf', type: 'bind', source, options: ['bind', 'ro'] } as never);
      }),
    ).toBe('nameserver 10.0.0.1');
  });

  test('a mount target behind a link of the image stays inside the image', async () => {
    const text = await out('cat /escape/file; cat /outside/file', (spec, bundle) => {
      const source = join(bundle.path, 'bound');
      mkdirSync(source, { recursive: true });
      writeFileSync(join(source, 'file'), 'inside');
      placeLink('../../../../outside', join(bundle.rootfs, 'escape'));
      spec.mounts.push({ destination: '/escape', type: 'bind', source, options: ['bind'] } as never);
    });

    expect(text).toBe('insideinside');
  });

  test('masked paths are empty and read-only paths refuse writes', async () => {
    const result = await sh('cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/hostname');

    expect(result.stdout).toBe('0\n0\n');
    expect(result.stderr).toMatch(/Read-only file system/);
  });

  test('a read-only root refuses writes, but not below its mounts', async () => {
    const result = await sh('touch /file; touch /dev/shm/file && echo ok', (spec) => {
      spec.root.readonly = true;
    });

    expect(result.stdout).toBe('ok\n');
    expect(result.stderr).toMatch(/Read-only file system/);
  });

  test('a tmpfs takes the mode of the directory it covers', async () => {
    const text = await out('stat -c %a /covered', (spec, bundle) => {
      mkdirSync(join(bundle.rootfs, 'covered'), { recursive: true, mode: 0o711 });
      spec.mounts.push({ destination: '/covered', type: 'tmpfs', source: 'tmpfs', options: [] } as never);
    });

    expect(text).toBe('711');
  });

  test('tmpcopyup keeps what the image has there', async () => {
    const text = await out(
      'cat /filled/sub/file; stat -c %a:%u /filled/sub/file; readlink /filled/link',
      (spec, bundle) => {
        mkdirSync(join(bundle.rootfs, 'filled/sub'), { recursive: true });
        writeFileSync(join(bundle.rootfs, 'filled/sub/file'), 'kept\n', { mode: 0o640 });
        placeLink('sub/file', join(bundle.rootfs, 'filled/link'));
        spec.mounts.push({ destination: '/filled', type: 'tmpfs', source: 'tmpfs', options: ['tmpcopyup'] } as never);
      },
    );

    expect(text).toBe('kept\n640:0\nsub/file');
  });
}
