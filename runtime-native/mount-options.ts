// Mount options of a runtime configuration (mount(8) words) sorted by what they act on.

import type { MountAttribute, Propagation } from './operations';

export interface MountOptions {
  readonly bind: boolean;
  readonly recursive: boolean;
  readonly remount: boolean;
  /** Attributes that the options name. */
  readonly attributes: readonly MountAttribute[];
  /** True when any option names an attribute or its opposite: a bind mount then gets exactly these. */
  readonly namesAttribute: boolean;
  /** Attributes for the whole tree, as in "rro". */
  readonly recursiveSet: readonly MountAttribute[];
  readonly recursiveClear: readonly MountAttribute[];
  readonly propagation: Propagation | undefined;
  readonly copyUp: boolean;
  /** For the filesystem itself. */
  readonly data: readonly string[];
}

const SET = new Set<string>([
  'ro',
  'nosuid',
  'nodev',
  'noexec',
  'nodiratime',
  'noatime',
  'strictatime',
  'relatime',
  'nosymfollow',
]);
const CLEAR: Readonly<Record<string, MountAttribute>> = {
  rw: 'ro',
  suid: 'nosuid',
  dev: 'nodev',
  exec: 'noexec',
  diratime: 'nodiratime',
  atime: 'noatime',
  nostrictatime: 'strictatime',
  norelatime: 'relatime',
  symfollow: 'nosymfollow',
};
const PROPAGATIONS = new Set<string>(
  ['private', 'slave', 'shared', 'unbindable'].flatMap((name) => [name, `r${name}`]),
);
/** Flags of mount(2) that fsconfig(2) takes as options of the filesystem. */
const SUPERBLOCK = new Set(['sync', 'dirsync', 'mand', 'lazytime', 'iversion']);
/** Defaults, opposites of superblock flags, and what says nothing to the kernel. */
const IGNORED = new Set([
  'defaults',
  'async',
  'nomand',
  'nolazytime',
  'noiversion',
  'silent',
  'loud',
  'relabel=shared',
  'relabel=private',
]);

export function parseMountOptions(options: readonly string[]): MountOptions {
  const attributes = new Set<MountAttribute>();
  const recursiveSet = new Set<MountAttribute>();
  const recursiveClear = new Set<MountAttribute>();
  const data: string[] = [];
  let [bind, recursive, remount, copyUp] = [false, false, false, false];
  let propagation: Propagation | undefined;
  for (const option of options) {
    const cleared = CLEAR[option];
    const clearedInTree = option.startsWith('r') ? CLEAR[option.slice(1)] : undefined;
    if (SET.has(option)) attributes.add(option as MountAttribute);
    else if (cleared !== undefined) attributes.delete(cleared);
    else if (PROPAGATIONS.has(option)) propagation = option as Propagation;
    else if (option.startsWith('r') && SET.has(option.slice(1))) recursiveSet.add(option.slice(1) as MountAttribute);
    else if (clearedInTree !== undefined) recursiveClear.add(clearedInTree);
    else if (option === 'bind') bind = true;
    else if (option === 'rbind') [bind, recursive] = [true, true];
    else if (option === 'remount') remount = true;
    else if (option === 'tmpcopyup') copyUp = true;
    else if (SUPERBLOCK.has(option) || !IGNORED.has(option)) data.push(option);
  }
  return {
    bind,
    recursive,
    remount,
    attributes: [...attributes],
    namesAttribute: attributes.size > 0,
    recursiveSet: [...recursiveSet],
    recursiveClear: [...recursiveClear],
    propagation,
    copyUp,
    data: data.flatMap((option) => option.split(',').filter((part) => part !== '')),
  };
}

/**
 * What a bind mount's attributes become when options name any: exactly these, except access times that nobody named
 * (mount(2), MS_REMOUNT with MS_BIND).
 */
export function bindAttributeChange(options: MountOptions): { set: MountAttribute[]; clear: MountAttribute[] } {
  if (!options.namesAttribute) return { set: [], clear: [] };
  const named = new Set(options.attributes);
  const plain: MountAttribute[] = ['ro', 'nosuid', 'nodev', 'noexec', 'nosymfollow'];
  const times: MountAttribute[] = ['nodiratime', 'noatime', 'strictatime', 'relatime'];
  const clear = plain.filter((name) => !named.has(name));
  if (times.some((name) => named.has(name)) && !named.has('nodiratime')) clear.push('nodiratime');
  return { set: [...named], clear };
}
