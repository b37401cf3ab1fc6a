// restore: a container made from an image that checkpoint has written.

import { existsSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unknown } from '../../../proto/errors';
import type { Cgroup } from '../../cgroup/cgroup';
import { Container } from '../../container';
import { mountAll, unmountRecursive } from '../../mount';
import { Reaper } from '../../reaper';
import { restoreContainer } from '../../restore';
import { type Bundle, bundleOptions, readJson } from '../bundle';
import { type Command, type Context, wordsOf } from '../context';
import { CRIU_FLAGS, cgroupMounts, checkCriu, commonArguments, criuPaths, runCriu } from '../criu';
import { passSignals, waitInForeground } from '../foreground';
import { writePidFile } from '../pid-file';
import { DESCRIPTORS } from './checkpoint';

const LOG = 'restore.log';
const CGROUP_MOUNTS = '/sys/fs/cgroup';
const PID_FILE = 'restored.pid';

export const restore: Command = {
  usage: '<container-id>',
  help: 'make a container from an image',
  flags: {
    ...CRIU_FLAGS,
    bundle: { type: 'string', short: 'b', help: 'directory of the bundle; the working directory if not given' },
    detach: { type: 'boolean', short: 'd', help: 'do not wait for the process' },
    'pid-file': { type: 'string', help: 'file to write the pid of the process to' },
    'no-subreaper': { type: 'boolean', help: 'accepted; orphans go to the nearest subreaper above in any case' },
    'no-pivot': { type: 'boolean', help: 'accepted; criu enters the root by itself' },
    'no-new-keyring': { type: 'boolean', help: 'as for create' },
  },
  words: [1, 1],
  run: async (context) => {
    try {
      return await restoreFromImage(context);
    } catch (error) {
      throw unknown(`runc restore failed: ${wordsOf(error)}`, { cause: error });
    }
  },
};

async function restoreFromImage(context: Context): Promise<number> {
  const { flags, root, cacheDir } = context;
  const options = { ...bundleOptions(context), io: { stdin: 0, stdout: 1, stderr: 2 }, keepsSpec: true };
  checkCriu(context.criu);
  // The process becomes our child when criu has ended.
  const reaper = Reaper.shared();
  const pid = await restoreContainer(options, ({ paths }) => bring(context, options, paths));
  reaper.track(pid);
  writePidFile(flags.text('pid-file'), pid);
  if (flags.isSet('detach')) return 0;
  passSignals(pid);
  const code = await waitInForeground(pid, undefined);
  await Container.load(root, options.id, cacheDir).delete();
  return code;
}

/** criu wants the root to be a mount point of its own. */
async function bring(
  context: Context,
  { rootfs, spec }: Pick<Bundle, 'rootfs' | 'spec'>,
  cgroups: Cgroup['paths'],
): Promise<number> {
  const paths = criuPaths(context);
  const pidFile = join(paths.work, PID_FILE);
  const root = mkdtempSync(join(tmpdir(), 'gantry-restore-'));
  rmSync(pidFile, { force: true });
  try {
    mountAll([{ type: 'bind', source: rootfs, target: '', options: ['rbind', 'rw'] }], root);
    await runCriu(
      context.criu,
      [
        'restore',
        ...['--root', root, '--restore-detached', '--pidfile', pidFile],
        ...commonArguments(context, paths),
        ...cgroupRoots(cgroups),
        ...cgroupMounts(spec, Object.keys(cgroups)).flatMap(({ name, key }) => [
          '--external',
          `mnt[${key}]:${cgroups[name]}`,
        ]),
        ...inheritedPipes(join(paths.images, DESCRIPTORS)),
      ],
      paths.work,
      LOG,
    );
    return Number(readFileSync(pidFile, 'utf8'));
  } finally {
    unmountRecursive(root);
    rmdirSync(root);
    rmSync(pidFile, { force: true });
  }
}

/** Where in each hierarchy the processes belong now; the image says where they were. */
function cgroupRoots(cgroups: Cgroup['paths']): string[] {
  return Object.entries(cgroups).flatMap(([name, path]) => {
    const root = path.slice(join(CGROUP_MOUNTS, name).length);
    const controller = name === 'systemd' ? 'name=systemd' : name;
    return ['--cgroup-root', name === '' ? root : `${controller}:${root}`];
  });
}

/** Pipes that led outside are ours now. */
function inheritedPipes(path: string): string[] {
  if (!existsSync(path)) return [];
  const links = readJson(path) as string[];
  return links.flatMap((link, fd) => (link.startsWith('pipe:') ? ['--inherit-fd', `fd[${fd}]:${link}`] : []));
}
