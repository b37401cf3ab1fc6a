// A bundle (runtime-spec bundle.md): a directory with config.json and the root filesystem.

import { readFileSync, realpathSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { isErrno, messageOf, unknown } from '../../proto/errors';
import { errorText } from '../failure';
import { parseSpec, type Spec } from '../spec';
import { type Context, idOf } from './context';
import type { Flags } from './flags';

export interface Bundle {
  /** Absolute. */
  readonly path: string;
  readonly rootfs: string;
  readonly spec: Spec;
}

const CONFIG = 'config.json';

/** @param path - undefined is the working directory. @throws UNKNOWN in runc's words */
export function loadBundle(path: string | undefined): Bundle {
  const bundle = absolute(path ?? '.');
  const spec = readSpec(join(bundle, CONFIG));
  const root = spec.root?.path ?? 'rootfs';
  return { path: bundle, rootfs: isAbsolute(root) ? root : join(bundle, root), spec };
}

/** What Container.create and explain take from a command line. */
export function bundleOptions(context: Context) {
  const { flags, root, cacheDir, systemdCgroup, rootless } = context;
  const { path, rootfs, spec } = loadBundle(flags.text('bundle'));
  return {
    id: idOf(context),
    bundle: path,
    rootfs,
    spec,
    root,
    cacheDir,
    systemdCgroup,
    rootless,
    noPivotRoot: flags.isSet('no-pivot'),
    noNewKeyring: flags.isSet('no-new-keyring'),
  };
}

/** A document in a file. @throws UNKNOWN */
export function readJson(path: string | number): unknown {
  const text = readFileSync(path, 'utf8');
  try {
    return parseSpec(text);
  } catch (error) {
    throw unknown(`${path === 0 ? 'standard input' : path}: ${messageOf(error)}`, { cause: error });
  }
}

/** Whether the process of a configuration is to have a terminal. */
export function hasTerminal(spec: Spec): boolean {
  return spec.process?.terminal ?? false;
}

/** The flag of the terminal's receiver against what the process has. @throws UNKNOWN in runc's words */
export function checkTerminal(flags: Flags, terminal: boolean, detaches: boolean): void {
  const hasSocket = flags.has('console-socket');
  if (detaches && terminal && !hasSocket) {
    throw unknown('cannot allocate tty if runc will detach without setting console socket');
  }
  if ((!detaches || !terminal) && hasSocket) {
    throw unknown('cannot use console socket if runc will not detach or allocate tty');
  }
}

function absolute(path: string): string {
  try {
    return realpathSync(resolve(path));
  } catch (error) {
    throw unknown(`chdir ${path}: ${errorText(error)}`, { cause: error });
  }
}

function readSpec(path: string): Spec {
  let spec: unknown;
  try {
    spec = readJson(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) throw unknown(`JSON specification file ${CONFIG} not found`, { cause: error });
    throw error;
  }
  if (typeof spec !== 'object' || spec === null || Array.isArray(spec)) throw unknown(`${CONFIG}: not an object`);
  return spec as Spec;
}
