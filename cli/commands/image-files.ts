// gantry images mount, unmount: the files of an image.

import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { ignoreNotFound, namespaceDefaults } from '../container/create';
import { findImage, findManifest } from '../container/image';
import { CommandError } from '../failure';
import { withLease } from '../image/lease';
import { hostPlatform, parsePlatform } from '../image/platform';
import { unpack } from '../image/unpack';
import { line } from '../output';
import type { Session } from '../session';
import { action } from './shared';

const run = promisify(execFile);

interface MountFlags {
  readonly snapshotter?: string;
  readonly platform?: string;
  readonly rw?: boolean;
}

export function registerImageFiles(images: Command): void {
  images
    .command('mount <name> <directory>')
    .description('mount an image to look at it')
    .option('--rw', 'writable, on a snapshot of its own')
    .option('--snapshotter <name>', 'snapshotter to use')
    .option('--platform <platform>', 'platform (default: this machine)')
    .action(action(mount));
  images
    .command('unmount <directory>')
    .alias('umount')
    .description('undo images mount, with its snapshot')
    .option('--snapshotter <name>', 'snapshotter that was used')
    .action(action(unmount));
}

async function mount(session: Session, flags: MountFlags, ...[name, directory]: [string, string]): Promise<void> {
  const { snapshots } = session.connection;
  const target = resolve(directory);
  const snapshotter = flags.snapshotter ?? (await namespaceDefaults(session)).snapshotter;
  const platform = flags.platform === undefined ? hostPlatform() : parsePlatform(flags.platform);
  const image = await findManifest(session, await findImage(session, name), platform);
  const mounts = await withLease(session, async (lease) => {
    const parent = await unpack(session, image, { snapshotter, lease });
    const request = { snapshotter, key: target, parent, labels: { 'containerd.io/gc.root': new Date().toISOString() } };
    const made = flags.rw === true ? await snapshots.prepare(request) : await snapshots.view(request);
    return made.mounts;
  });
  try {
    for (const { type, source, options } of mounts) await mountOne(type, source, { target, options });
  } catch (error) {
    await snapshots.remove({ snapshotter, key: target }).catch(ignoreNotFound);
    throw new CommandError(`cannot mount at ${target}: ${(error as { stderr?: string }).stderr ?? error}`);
  }
  line(target);
}

/** mount(8); what it binds is made read-only in a second step, as a bind mount ignores other options at first. */
async function mountOne(
  type: string,
  source: string,
  at: { target: string; options: readonly string[] },
): Promise<void> {
  const { target, options } = at;
  if (type !== 'bind') return void (await run('mount', ['-t', type, '-o', options.join(','), source, target]));
  await run('mount', ['--rbind', source, target]);
  if (options.includes('ro')) await run('mount', ['-o', 'remount,bind,ro', target]);
}

async function unmount(session: Session, flags: { snapshotter?: string }, directory: string): Promise<void> {
  const key = resolve(directory);
  const snapshotter = flags.snapshotter ?? (await namespaceDefaults(session)).snapshotter;
  await session.connection.snapshots.stat({ snapshotter, key });
  await run('umount', [key]).catch((error: { stderr?: string }) => {
    if (!`${error.stderr}`.includes('not mounted')) throw new CommandError(`cannot unmount ${key}: ${error.stderr}`);
  });
  await session.connection.snapshots.remove({ snapshotter, key });
  line(key);
}
