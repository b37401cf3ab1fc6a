// Where the entries of a layer go: straight into the directory that a snapshot's mounts stand for where that is known,
// otherwise into a temporary mount. Mounting costs more than many layers do, and a mount can leak.

import { isAbsolute } from 'node:path';
import { failedPrecondition, invalidArgument } from '../../proto/errors';
import type { Mount } from '../../runtime-native/index';
import type { UnpackTarget } from '../../runtime-native/layers/layer';
import { isInUserNamespace } from '../../snapshotter/overlayfs';
import { optionOf, splitLowers } from './mounts';

/**
 * The target that needs no mount, or undefined.
 * @throws FAILED_PRECONDITION for mounts that cannot be written
 */
export function directTarget(mounts: readonly Mount[]): UnpackTarget | undefined {
  const last = mounts.at(-1);
  if (last === undefined) throw invalidArgument('mounts must not be empty');
  if (last.options.includes('ro') || (last.type === 'overlay' && optionOf(last.options, 'upperdir') === undefined)) {
    throw failedPrecondition(`${last.type} mount of "${last.source}": read-only file system`);
  }
  if (mounts.length > 1 || last.target !== '') return undefined;
  if (last.type === 'overlay') return overlayTarget(last.options);
  const isBind = last.options.some((option) => option === 'bind' || option === 'rbind');
  return isBind && isAbsolute(last.source) ? { root: last.source, whiteouts: 'delete', lowers: [] } : undefined;
}

/** The kernel reads whiteouts from the upper directory as devices 0:0, which a user namespace cannot make. */
function overlayTarget(options: readonly string[]): UnpackTarget | undefined {
  const upper = optionOf(options, 'upperdir');
  if (upper === undefined || !isAbsolute(upper) || isInUserNamespace()) return undefined;
  const lowers = splitLowers(optionOf(options, 'lowerdir') ?? '');
  return { root: upper, whiteouts: options.includes('userxattr') ? 'overlay-user' : 'overlay', lowers };
}
