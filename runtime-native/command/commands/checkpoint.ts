// checkpoint: a container's processes become an image, from which restore makes them again.

import { readlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { unknown } from '../../../proto/errors';
import type { Container } from '../../container';
import { loadSpec, loadState } from '../../state';
import { hasTerminal } from '../bundle';
import { type Command, type Context, idOf, withContainer, wordsOf } from '../context';
import { CRIU_FLAGS, cgroupMounts, checkCriu, commonArguments, criuPaths, runCriu } from '../criu';

/** Where restore finds what standard input and output were, as runc keeps it. */
export const DESCRIPTORS = 'descriptors.json';

const LOG = 'dump.log';

export const checkpoint: Command = {
  usage: '<container-id>',
  help: 'write the processes of a container to an image',
  flags: {
    ...CRIU_FLAGS,
    'parent-path': { type: 'string', help: 'directory of an earlier image, for what has not changed since' },
    'leave-running': { type: 'boolean', help: 'let the container go on' },
    'pre-dump': { type: 'boolean', help: 'write memory only, and let the container go on' },
    'page-server': { type: 'string', help: 'ADDRESS:PORT of the page server' },
  },
  words: [1, 1],
  run: async (context) => {
    await withContainer(context, async (container) => {
      try {
        await dump(container, context);
      } catch (error) {
        throw unknown(`runc checkpoint failed: ${wordsOf(error)}`, { cause: error });
      }
    });
    return 0;
  },
};

async function dump(container: Container, context: Context): Promise<void> {
  const { flags, root, criu } = context;
  const status = container.status();
  if (status !== 'running' && status !== 'paused') throw unknown(`Container cannot be checkpointed in ${status} state`);
  const id = idOf(context);
  const spec = loadSpec(root, id);
  if (spec !== undefined && hasTerminal(spec)) throw unknown('a container with a terminal cannot be checkpointed');
  checkCriu(criu);
  const { rootfs, cgroupPaths } = loadState(root, id);
  const paths = criuPaths(context);
  const freezer = cgroupPaths['freezer'] ?? cgroupPaths[''];
  const parent = flags.text('parent-path');
  const isPreDump = flags.isSet('pre-dump');
  const leaves = isPreDump || flags.isSet('leave-running');
  writeFileSync(join(paths.images, DESCRIPTORS), JSON.stringify(descriptorsOf(container.pid)));
  await runCriu(
    criu,
    [
      isPreDump ? 'pre-dump' : 'dump',
      ...['--tree', String(container.pid), '--root', rootfs],
      ...commonArguments(context, paths),
      ...cgroupMounts(spec, Object.keys(cgroupPaths)).flatMap(({ target, key }) => [
        '--external',
        `mnt[${target}]:${key}`,
      ]),
      ...(freezer === undefined ? [] : ['--freeze-cgroup', freezer]),
      ...(parent === undefined ? [] : ['--prev-images-dir', resolve(paths.images, parent), '--track-mem']),
      ...(isPreDump ? ['--track-mem'] : []),
      ...(leaves && !isPreDump ? ['--leave-running'] : []),
      ...pageServer(flags.text('page-server')),
    ],
    paths.work,
    LOG,
  );
  if (!leaves) await container.delete();
}

function descriptorsOf(pid: number): string[] {
  return [0, 1, 2].map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
}

function pageServer(text: string | undefined): string[] {
  if (text === undefined) return [];
  const [, address, port] = /^(.+):(\d+)$/.exec(text) ?? [];
  if (address === undefined || port === undefined)
    throw unknown('Use --page-server ADDRESS:PORT to specify page server');
  return ['--page-server', '--address', address, '--port', port];
}
