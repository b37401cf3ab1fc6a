// gantry images: import, export, mount and the records, on a real daemon.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '../../setup/command';
import { describeUnless } from '../../setup/needs';
import { missingForCli, tar, useDaemon } from './fixture';

const suite = describeUnless(missingForCli());

jest.setTimeout(60_000);

suite('gantry images', () => {
  const { daemon, run, archives } = useDaemon();

  test('import takes a docker archive, gzip and standard input, and --name', async () => {
    const docker = await run('images', 'import', archives.docker);
    const gzip = await run('images', 'import', '--name', 'zipped', archives.ociGzip);
    const piped = await daemon.pipe(readFileSync(archives.oci), 'images', 'import', '--name', 'piped:1', '-');

    expect(docker.stdout).toMatch(/^docker\.io\/library\/demo:v1 sha256:/);
    expect(gzip.stdout).toMatch(/^docker\.io\/library\/zipped:latest sha256:/);
    expect(piped.stdout).toMatch(/^docker\.io\/library\/piped:1 sha256:/);
    expect((await run('run', '--rm', 'demo:v1', 'from-docker', 'echo', 'works')).stdout).toBe('works\n');
  });

  test('import of the same archive again is quiet and changes nothing', async () => {
    const before = await run('images', 'ls', '--format', 'json', 'name==docker.io/library/busybox:latest');

    const again = await run('images', 'import', archives.oci);

    const after = await run('images', 'ls', '--format', 'json', 'name==docker.io/library/busybox:latest');
    expect(again.code).toBe(0);
    expect(JSON.parse(after.stdout)[0].target).toEqual(JSON.parse(before.stdout)[0].target);
  });

  test('tag, label, check and rm', async () => {
    expect((await run('images', 'tag', 'busybox', 'copy:1')).stdout).toBe('docker.io/library/copy:1\n');
    expect((await run('images', 'tag', 'busybox', 'copy:1')).code).toBe(5);
    expect((await run('images', 'tag', '--force', 'busybox', 'copy:1')).code).toBe(0);
    await run('images', 'label', 'copy:1', 'k=v');
    const list = await run('images', 'ls', '--format', 'json', 'name==docker.io/library/copy:1');
    expect(JSON.parse(list.stdout)[0].labels).toMatchObject({ k: 'v' });
    expect((await run('images', 'check')).stdout).toMatch(/copy:1 +complete +4\/4 +true/);
    expect((await run('images', 'rm', '--sync', 'copy:1')).code).toBe(0);
    expect((await run('images', 'ls', '-q')).stdout).not.toContain('copy');
  });

  test('export writes what import reads', async () => {
    const path = join(archives.directory, 'exported.tar');

    expect(await run('images', 'export', path, 'busybox')).toMatchObject({ code: 0, stderr: '' });
    const again = await run('-n', 'copies', 'images', 'import', path);

    expect(again).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^docker.io\/library\/busybox:latest sha256:/),
    });
    expect((await run('-n', 'copies', 'run', '--rm', 'busybox', 'copy', 'echo', 'same')).stdout).toBe('same\n');
    await run('-n', 'copies', 'images', 'rm', 'busybox');
    expect((await run('images', 'export', '/nonexistent/file', 'busybox')).stderr).toContain(
      'no such file or directory',
    );
  });

  test('mount shows the files of an image and unmount takes them away', async () => {
    const target = join(daemon.directory, 'mounted');
    mkdirSync(target);

    expect(await run('images', 'mount', 'busybox', target)).toMatchObject({ code: 0, stdout: `${target}\n` });
    expect(readdirSync(target)).toContain('bin');
    expect(() => writeFileSync(join(target, 'x'), '')).toThrow(/EROFS/);
    expect((await run('images', 'unmount', target)).code).toBe(0);
    expect(readdirSync(target)).toEqual([]);
    expect((await run('images', 'unmount', target)).code).toBe(4);
  });

  test('inspect, history and prune tell what images are made of and remove those that nobody uses', async () => {
    const [inspected] = JSON.parse((await run('images', 'inspect', 'busybox')).stdout);
    expect(inspected).toMatchObject({
      name: 'docker.io/library/busybox:latest',
      platform: expect.stringMatching(/^linux/),
    });
    expect(inspected.manifest.layers).toHaveLength(2);
    expect(inspected.configuration.config.Cmd).toEqual(['sh']);
    expect(await run('images', 'inspect', 'nothing')).toMatchObject({ code: 4 });

    const layers = (await run('images', 'history', '--quiet', 'busybox')).stdout.trim().split('\n');
    expect(layers).toEqual(inspected.manifest.layers.map(({ digest }: { digest: string }) => digest).reverse());

    const byDigest = `import@${inspected.target.digest}`;
    const prune = (...flags: string[]) => run('-n', 'prune', 'images', 'prune', ...flags);
    await run('-n', 'prune', 'images', 'import', archives.oci);
    await run('-n', 'prune', 'images', 'import', '--name', 'used:1', archives.oci);
    expect((await run('-n', 'prune', 'images', 'tag', 'busybox', byDigest)).stdout).toContain('@sha256:');
    expect((await run('-n', 'prune', 'containers', 'create', 'used:1', 'c1')).code).toBe(0);
    expect((await prune('--dry-run')).stdout).toMatch(/import@sha256:[0-9a-f]+\n$/);
    expect((await prune()).stdout).toMatch(/import@sha256:[0-9a-f]+\n$/);
    expect((await prune()).stderr).toBe('nothing to remove\n');
    expect((await prune('--all')).stdout).toBe('docker.io/library/busybox:latest\n');
    expect((await run('-n', 'prune', 'images', 'ls', '-q')).stdout).toBe('docker.io/library/used:1\n');
    await run('-n', 'prune', 'containers', 'rm', 'c1');
    await run('-n', 'prune', 'images', 'rm', 'used:1');
  });

  test.each([
    ['--compression', 'zstd'],
    ['--compression', 'none', '--oci'],
    ['--compression', 'gzip'],
  ])('convert %s %s makes the same image otherwise', async (...flags) => {
    const name = `converted:${flags[1]}`;
    const inspect = async (image: string) => JSON.parse((await run('images', 'inspect', image)).stdout)[0];

    const { code, stdout, stderr } = await run('images', 'convert', ...flags, 'demo:v1', name);

    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [before, after] = [await inspect('demo:v1'), await inspect(name)];
    expect(stdout).toBe(`docker.io/library/${name} ${after.target.digest}\n`);
    expect(after.configuration).toEqual(before.configuration);
    const kind = flags[1] === 'none' ? 'application/vnd.oci.image.layer.v1.tar' : `diff.tar.${flags[1]}`;
    for (const { mediaType } of after.manifest.layers) expect(mediaType.endsWith(kind)).toBe(true);
    await run('images', 'rm', '--sync', 'demo:v1');
    expect((await run('images', 'check', `name~=${name}`)).stdout).toContain('complete');
    expect((await run('run', '--rm', name, 'convert1', 'cat', '/etc/group')).stdout).toContain('staff:');
    await run('images', 'rm', '--sync', name);
    expect((await run('images', 'import', archives.docker)).code).toBe(0);
  });

  test('import gives its lease back when it is interrupted', async () => {
    const { child, done } = daemon.spawn(['images', 'import', '-'], 'pipe');
    child.stdin?.on('error', () => undefined);
    child.stdin?.write(readFileSync(archives.oci).subarray(0, 100_000));
    const leases = async () => (await run('leases', 'ls', '-q')).stdout;
    await waitFor('the lease', async () => (await leases()) !== '');

    child.kill('SIGINT');

    expect((await done).code).toBe(130);
    await waitFor('the end of the lease', async () => (await leases()) === '');
  });

  test('an image for another machine is not run', async () => {
    const { code, stderr } = await run('run', '--rm', '--platform', 'linux/s390x', 'busybox', 'p1', 'true');

    expect({ code, stderr }).toEqual({ code: 125, stderr: expect.stringContaining('not for linux/s390x') });
  });

  test('import refuses what is broken in one sentence and leaves no lease', async () => {
    const write = async (name: string, files: Parameters<typeof tar>[0]) => {
      const path = join(archives.directory, name);
      writeFileSync(path, await tar(files));
      return path;
    };
    const zeros = '0'.repeat(64);
    const cases = [
      [archives.truncated, 'damaged or cut short'],
      ['/etc/hostname', 'damaged or cut short'],
      ['/nonexistent', 'no such file'],
      [
        await write('digest.tar', [
          ['oci-layout', '{}'],
          [`blobs/sha256/${zeros}`, 'x'],
          ['index.json', '{"manifests":[]}'],
        ]),
        'unexpected commit digest',
      ],
      [
        await write('json.tar', [
          ['oci-layout', '{"imageLayoutVersion":"1.0.0"}'],
          ['index.json', '{nope'],
        ]),
        'index.json is not JSON',
      ],
      [
        await write('dots.tar', [
          ['../../etc/passwd', 'x'],
          ['manifest.json', '[{"Config":"../../etc/shadow","Layers":[]}]'],
        ]),
        'not in the archive',
      ],
      [await write('other.tar', [['file', 'x']]), 'neither an OCI image layout'],
    ] as const;

    for (const [path, words] of cases) {
      const { code, stderr } = await run('images', 'import', path);
      expect(code).not.toBe(0);
      expect(stderr).toContain(words);
      expect(stderr.trim().split('\n')).toHaveLength(1);
    }
    expect((await run('leases', 'ls', '-q')).stdout).toBe('');
  });
});
