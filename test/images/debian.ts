// The real-size test image: a Debian minbase root filesystem made from Debian's own packages, and a second layer that
// adds, replaces and removes files of the first in every way a layer can.

import fs from 'node:fs';
import { cached } from '../setup/cache';
import { mustRun } from '../setup/command';
import { debianMirror } from '../setup/packages';
import { IMAGE_TIME, type LayerEntry, writeImage, writeLayerTar } from './oci-image';

export const DEBIAN_IMAGE = 'test/debian:minbase';

const BOOTSTRAP_TIMEOUT_MS = 600_000;

/** What a container of the image must see of the second layer: path to content, or undefined for "must not be there". */
export const SECOND_LAYER_EFFECTS: Record<string, string | undefined> = {
  '/opt/second/added': 'added by the second layer\n',
  '/opt/second/linked': 'added by the second layer\n',
  '/opt/second/pointer': 'added by the second layer\n',
  '/etc/issue': 'replaced by the second layer\n',
  '/etc/debian_version': undefined,
  '/usr/share/pixmaps': undefined,
  '/usr/share/base-files/fresh': 'the only file here\n',
  '/usr/share/base-files/motd': undefined,
};

/** Returns the path of the image file; made on first use, which takes about half a minute. A change of it needs a new name. */
export function debianImage(): Promise<string> {
  return cached('images/debian-2.tar', async (scratch) => {
    const base = await debianBase();
    const second = `${scratch}.second.tar`;
    try {
      await writeLayerTar(second, secondLayer());
      await writeImage(scratch, {
        name: DEBIAN_IMAGE,
        layerTars: [base, second],
        defaults: {
          Cmd: ['/bin/bash'],
          Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C.UTF-8'],
          WorkingDir: '/root',
        },
      });
    } finally {
      fs.rmSync(second, { force: true });
    }
  });
}

/** Returns the path of the first layer, an uncompressed tar archive. */
export function debianBase(): Promise<string> {
  return cached('images/debian-base-1.tar', bootstrap);
}

async function bootstrap(target: string): Promise<void> {
  const { uri, suite } = await debianMirror();
  const command = [
    'mmdebstrap',
    '--quiet',
    '--variant=minbase',
    '--format=tar',
    suite,
    target,
    `deb ${uri} ${suite} main`,
  ];
  const env = { ...process.env, SOURCE_DATE_EPOCH: String(IMAGE_TIME.getTime() / 1000) };
  await mustRun(command, { env, timeoutMs: BOOTSTRAP_TIMEOUT_MS });
}

/** Needs the layer of debianBase() below it. */
export function secondLayer(): LayerEntry[] {
  const added = SECOND_LAYER_EFFECTS['/opt/second/added']!;
  return [
    { name: 'opt/second/', type: 'directory', mode: 0o750, uid: 33, gid: 33 },
    { name: 'opt/second/added', mode: 0o640, content: added, pax: { 'SCHILY.xattr.user.origin': 'second' } },
    { name: 'opt/second/linked', type: 'link', linkname: 'opt/second/added', mode: 0o640 },
    { name: 'opt/second/pointer', type: 'symlink', linkname: 'added' },
    { name: 'opt/second/setuid', mode: 0o4755, content: '#!/bin/sh\n' },
    { name: 'opt/second/pipe', type: 'fifo', mode: 0o600 },
    { name: 'opt/second/zero', type: 'character-device', devmajor: 1, devminor: 5, mode: 0o666 },
    { name: 'etc/issue', mode: 0o644, content: SECOND_LAYER_EFFECTS['/etc/issue']! },
    { name: 'etc/.wh.debian_version', mode: 0o644, content: '' },
    { name: 'usr/share/.wh.pixmaps', mode: 0o644, content: '' },
    { name: 'usr/share/base-files/', type: 'directory', mode: 0o755 },
    { name: 'usr/share/base-files/.wh..wh..opq', mode: 0o644, content: '' },
    { name: 'usr/share/base-files/fresh', mode: 0o644, content: SECOND_LAYER_EFFECTS['/usr/share/base-files/fresh']! },
  ];
}
