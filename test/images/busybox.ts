// The small test image: Debian's static busybox with a link for each applet, in one layer.

import fs from 'node:fs';
import { cached } from '../setup/cache';
import { mustRun } from '../setup/command';
import { type LayerEntry, writeImage, writeLayerTar } from './oci-image';

export const BUSYBOX_IMAGE = 'test/busybox:latest';

const BUSYBOX_PATH = '/usr/bin/busybox';
const FOLDERS = ['bin/', 'dev/', 'etc/', 'proc/', 'root/', 'sys/', 'usr/', 'usr/bin/', 'var/'];

/** Returns the path of the image file; made on first use. */
export function busyboxImage(): Promise<string> {
  return cached('images/busybox.tar', async (scratch) => {
    const layer = `${scratch}.tar`;
    try {
      await writeLayerTar(layer, await busyboxEntries());
      await writeImage(scratch, {
        name: BUSYBOX_IMAGE,
        layerTars: [layer],
        defaults: { Cmd: ['/bin/sh'], Env: ['PATH=/usr/bin:/bin', 'IMAGE=busybox'], WorkingDir: '/' },
      });
    } finally {
      fs.rmSync(layer, { force: true });
    }
  });
}

/** The same image in the form of `docker save`. Returns the path of the file. */
export function busyboxDockerArchive(): Promise<string> {
  return cached('images/busybox-docker.tar', async (scratch) => {
    const source = `oci-archive:${await busyboxImage()}`;
    await mustRun(['skopeo', '--insecure-policy', 'copy', '-q', source, `docker-archive:${scratch}:${BUSYBOX_IMAGE}`]);
  });
}

/** The root filesystem of the image as layer entries; also the base of deliberately odd images. */
export async function busyboxEntries(): Promise<LayerEntry[]> {
  const applets = (await mustRun([BUSYBOX_PATH, '--list']))
    .split('\n')
    .filter((name) => name !== '' && name !== 'busybox');
  return [
    ...FOLDERS.map((name): LayerEntry => ({ name, type: 'directory', mode: 0o755 })),
    { name: 'tmp/', type: 'directory', mode: 0o1777 },
    { name: 'bin/busybox', mode: 0o755, content: fs.readFileSync(BUSYBOX_PATH) },
    ...applets.map((name): LayerEntry => ({ name: `bin/${name}`, type: 'symlink', linkname: 'busybox' })),
    {
      name: 'etc/passwd',
      mode: 0o644,
      content: 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/sh\nworker:x:1000:1000::/tmp:/bin/sh\n',
    },
    { name: 'etc/group', mode: 0o644, content: 'root:x:0:\ndaemon:x:1:\nworker:x:1000:\nhelpers:x:2000:worker\n' },
  ];
}
