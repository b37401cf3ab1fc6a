// Archives of images, both directions, with those who make and read them: skopeo, umoci, podman, docker and tar.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, zstdCompressSync } from 'node:zlib';
import { INSTALLED_DOCKER, installedContainerd } from '../../setup/clients';
import { mustRun } from '../../setup/command';
import { startContainerd } from '../../setup/daemons';
import { Dockerd, WITHOUT_NETWORKS } from '../../setup/dockerd';
import { describeUnless, needsFile } from '../../setup/needs';
import { missingForCli, useDaemon } from '../cli/fixture';
import { Engine } from '../runtime-command/engine';

const SKOPEO = '/usr/bin/skopeo';
const UMOCI = '/usr/bin/umoci';
const PODMAN = '/usr/bin/podman';
const TIMEOUT_MS = 300_000;

describeUnless(
  missingForCli() ??
    needsFile(SKOPEO, 'package skopeo') ??
    needsFile(UMOCI, 'package umoci') ??
    needsFile(PODMAN, 'package podman') ??
    needsFile(INSTALLED_DOCKER.dockerd, 'package docker.io'),
)('archives of images', () => {
  const { daemon, run, archives } = useDaemon();
  let serial = 0;
  const file = (name: string) => join(archives.directory, name);
  const skopeo = (from: string, to: string) => mustRun([SKOPEO, '--insecure-policy', 'copy', '--quiet', from, to]);

  /** What a container of the image sees of the two layers of the test image. */
  const look = async (image: string, ...flags: string[]) => {
    serial += 1;
    const script = 'ls /bin/busybox /tmp/keep; head -n 1 /etc/group; echo "$FROM_IMAGE"';
    return run(...flags, 'run', '--rm', image, `look${serial}`, 'sh', '-c', script);
  };
  const SEEN = { code: 0, stdout: '/bin/busybox\n/tmp/keep\nroot:x:0:\nyes\n', stderr: '' };

  const newNamespace = () => {
    serial += 1;
    return `import${serial}`;
  };
  /** Imports into a namespace of its own and runs what came of it. */
  const importAndRun = async (path: string, image: string, ...flags: string[]) => {
    const namespace = newNamespace();
    const imported = await run('-n', namespace, 'images', 'import', ...flags, path);
    expect(imported).toMatchObject({ code: 0, stderr: '', stdout: expect.stringMatching(/ sha256:[0-9a-f]{64}\n$/) });
    expect(await look(image, '-n', namespace)).toEqual(SEEN);
    return imported.stdout.split(/\s/)[1] ?? '';
  };
  const exported = async (name: string, ...flags: string[]) => {
    expect(await run('images', 'export', ...flags, file(name), 'busybox')).toMatchObject({ code: 0, stderr: '' });
    return file(name);
  };

  test.each(['docker-archive', 'oci-archive'])(
    'what skopeo writes as %s is imported',
    async (format) => {
      const path = file(`skopeo-${format}.tar`);
      const name = format === 'oci-archive' ? 'v1' : 'docker.io/library/copied:v1';
      await skopeo(`oci-archive:${archives.oci}`, `${format}:${path}:${name}`);

      if (format === 'oci-archive') await importAndRun(path, 'host/base:v1', '--base-name', 'host/base');
      else await importAndRun(path, 'copied:v1');
    },
    TIMEOUT_MS,
  );

  test(
    'skopeo reads what is exported, in both forms, and finds the same image',
    async () => {
      const path = await exported('to-skopeo.tar');
      for (const form of ['oci-archive', 'docker-archive']) {
        const target = file(`skopeo-${form}`);
        await skopeo(`${form}:${path}`, `dir:${target}`);

        const { config } = JSON.parse(readFileSync(join(target, 'manifest.json'), 'utf8'));
        expect(existsSync(join(target, config.digest.replace('sha256:', '')))).toBe(true);
      }
      const inspected = JSON.parse(await mustRun([SKOPEO, 'inspect', `oci-archive:${path}`]));
      expect(inspected.Env).toContain('FROM_IMAGE=yes');
      const [image] = JSON.parse((await run('images', 'ls', '--format', 'json', 'name~=busybox')).stdout);
      expect(inspected.Digest).toBe(image.target.digest);
    },
    TIMEOUT_MS,
  );

  test(
    'umoci unpacks what is exported, and what it changed is imported',
    async () => {
      const path = await exported('to-umoci.tar', '--skip-manifest-json');
      const [layoutDirectory, bundle] = [file('layout'), file('bundle')];
      mkdirSync(layoutDirectory);
      await mustRun(['tar', '-C', layoutDirectory, '-xf', path]);
      expect(existsSync(join(layoutDirectory, 'manifest.json'))).toBe(false);

      await mustRun([UMOCI, 'unpack', '--image', `${layoutDirectory}:latest`, bundle]);
      expect(readFileSync(join(bundle, 'rootfs/etc/group'), 'utf8')).toContain('staff:x:50:alice');
      writeFileSync(join(bundle, 'rootfs/new'), 'by umoci\n');
      await mustRun([UMOCI, 'repack', '--image', `${layoutDirectory}:changed`, bundle]);
      await mustRun([UMOCI, 'rm', '--image', `${layoutDirectory}:latest`]);
      await mustRun(['tar', '-C', layoutDirectory, '-cf', file('umoci.tar'), '.']);

      await importAndRun(file('umoci.tar'), 'changed:1', '--name', 'changed:1');
      expect((await run('-n', `import${serial - 1}`, 'run', '--rm', 'changed:1', 'c', 'cat', '/new')).stdout).toBe(
        'by umoci\n',
      );
    },
    TIMEOUT_MS,
  );

  test(
    'podman loads what is exported, and what it saves is imported',
    async () => {
      const podman = new Engine('podman', (directory) => [
        ...[PODMAN, '--root', `${directory}/root`, '--runroot', `${directory}/run`, '--tmpdir', `${directory}/tmp`],
        ...['--storage-driver', 'vfs', '--cgroup-manager', 'cgroupfs', '--events-backend', 'file'],
      ]);
      try {
        await podman.must('load', '--quiet', '--input', await exported('to-podman.tar'));
        expect(await podman.must('images', '--format', '{{.Repository}}:{{.Tag}}')).toBe(
          'docker.io/library/busybox:latest',
        );
        for (const format of ['docker-archive', 'oci-archive']) {
          const path = file(`podman-${format}.tar`);
          await podman.must(
            'save',
            '--quiet',
            '--format',
            format,
            '--output',
            path,
            'docker.io/library/busybox:latest',
          );
          await importAndRun(path, 'podman:1', '--name', 'podman:1');
        }
      } finally {
        await podman.remove();
      }
    },
    TIMEOUT_MS,
  );

  test(
    'docker loads what is exported, and what it saves is imported',
    async () => {
      const containerd = await startContainerd(await installedContainerd());
      const docker = new Dockerd(INSTALLED_DOCKER, containerd, { args: WITHOUT_NETWORKS });
      try {
        await docker.start();
        await docker.must(['load', '--quiet', '--input', await exported('to-docker.tar')]);
        expect(await docker.must(['images', '--format', '{{.Repository}}:{{.Tag}}'])).toBe('busybox:latest');
        const path = file('docker-save.tar');
        await docker.must(['save', '--output', path, 'busybox:latest']);
        const plain = await importAndRun(path, 'busybox');
        const again = await importAndRun(path, 'busybox');
        const compressed = await importAndRun(path, 'busybox', '--compress');
        expect(again).toBe(plain);
        expect(compressed).not.toBe(plain);
      } finally {
        await docker.stop();
        await containerd.destroy();
      }
    },
    TIMEOUT_MS,
  );

  test(
    'equal images give equal archives, through standard output and compressed too',
    async () => {
      const first = readFileSync(await exported('first.tar'));

      expect(readFileSync(await exported('second.tar')).equals(first)).toBe(true);
      await mustRun(['sh', '-c', `"$0" images export - busybox | gzip > ${file('piped.tar.gz')}`, daemon.program], {
        env: daemon.env,
      });
      const gzip = readFileSync(file('piped.tar.gz'));
      expect(gunzipSync(gzip).equals(first)).toBe(true);
      for (const bytes of [gzip, zstdCompressSync(first)]) {
        expect(await daemon.pipe(bytes, '-n', newNamespace(), 'images', 'import', '-')).toEqual({
          code: 0,
          stdout: expect.stringContaining('library/busybox:latest sha256:'),
          stderr: '',
        });
      }
    },
    TIMEOUT_MS,
  );
});
