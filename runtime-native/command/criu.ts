// criu, the program that checkpoints and restores processes. Whether it works depends on its version and the kernel.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { unknown } from '../../proto/errors';
import { errorText } from '../failure';
import type { Spec } from '../spec';
import type { Context } from './context';
import type { FlagTable } from './flags';

/** Of checkpoint and restore alike. */
export const CRIU_FLAGS: FlagTable = {
  'image-path': { type: 'string', help: 'directory of the image, ./checkpoint if not given' },
  'work-path': { type: 'string', help: "directory for criu's logs; that of the image if not given" },
  'tcp-established': { type: 'boolean', help: 'with open TCP connections' },
  'ext-unix-sk': { type: 'boolean', help: 'with unix sockets whose other end is outside' },
  'shell-job': { type: 'boolean', help: 'with a session from outside' },
  'file-locks': { type: 'boolean', help: 'with file locks' },
  'auto-dedup': { type: 'boolean', help: 'free the memory of the image while it is used' },
  'manage-cgroups-mode': { type: 'string', help: 'soft (if not given), full, strict or ignore' },
  'empty-ns': { type: 'string', help: 'namespace that is made but not filled: network' },
};

const PASSED_ON = ['tcp-established', 'ext-unix-sk', 'shell-job', 'file-locks', 'auto-dedup'];
const CGROUP_MODES = ['soft', 'full', 'strict', 'ignore'];
const CHECK_TIMEOUT_MS = 30_000;

export interface CriuPaths {
  readonly images: string;
  readonly work: string;
}

/** Makes the directories. */
export function criuPaths({ flags }: Context): CriuPaths {
  const images = resolve(flags.text('image-path') ?? 'checkpoint');
  const work = resolve(flags.text('work-path') ?? images);
  for (const path of [images, work]) mkdirSync(path, { recursive: true, mode: 0o700 });
  return { images, work };
}

/** @throws UNKNOWN when there is no criu, or none that this kernel can do with */
export function checkCriu(criu: string): void {
  const { error, status, stderr } = spawnSync(criu, ['check'], { encoding: 'utf8', timeout: CHECK_TIMEOUT_MS });
  if (error !== undefined) throw unknown(`criu "${criu}" cannot be run: ${errorText(error)}`, { cause: error });
  if (status !== 0) throw unknown(`criu does not work on this kernel: ${firstError(stderr) ?? 'criu check fails'}`);
}

/** What the flags that both commands have mean to criu. @throws UNKNOWN */
export function commonArguments({ flags }: Context, { images, work }: CriuPaths): string[] {
  const mode = flags.text('manage-cgroups-mode') ?? 'soft';
  if (!CGROUP_MODES.includes(mode)) throw unknown(`Invalid manage cgroups mode "${mode}"`);
  const empty = flags.text('empty-ns');
  if (empty !== undefined && empty !== 'network') throw unknown(`namespace ${empty} is not supported`);
  return [
    ...['--images-dir', images, '--work-dir', work, '-v4', `--manage-cgroups=${mode}`],
    // Mounts from outside are found again at their places.
    ...['--external', 'mnt[]'],
    ...PASSED_ON.filter((name) => flags.isSet(name)).map((name) => `--${name}`),
    ...(empty === undefined ? [] : ['--empty-ns', 'net']),
  ];
}

/** The cgroup v1 hierarchies that a container sees, each under a name: they are elsewhere when it is restored. */
export function cgroupMounts(
  spec: Spec | undefined,
  names: readonly string[],
): { name: string; target: string; key: string }[] {
  const mounts = (spec?.mounts ?? []).filter(({ type }) => type === 'cgroup');
  return mounts.flatMap(({ destination }) =>
    names
      .filter((name) => name !== '')
      .map((name) => ({ name, target: join(destination, name), key: `cgroup-${name}` })),
  );
}

/** Runs criu with our standard streams. @throws UNKNOWN with what its log says */
export async function runCriu(criu: string, args: readonly string[], work: string, log: string): Promise<void> {
  const child = spawn(criu, [...args, '--log-file', log], { stdio: 'inherit' });
  const code = await new Promise<number>((done, fail) => {
    child.on('error', fail);
    child.on('exit', (status) => done(status ?? -1));
  });
  if (code === 0) return;
  const path = join(work, log);
  const reason = existsSync(path) ? firstError(readFileSync(path, 'utf8')) : undefined;
  throw unknown(`criu failed: ${reason ?? `exit status ${code}`}: see ${path}`);
}

/** The first says why, those behind it only that more has failed. */
function firstError(text: string): string | undefined {
  const errors = text.split('\n').filter((line) => /\bError \(/.test(line) && !/FAILED|RLIMIT_NOFILE/.test(line));
  return errors[0]?.replace(/^.*?Error \([^)]*\): /, '');
}
