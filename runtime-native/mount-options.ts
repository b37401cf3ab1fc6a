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
const FLAGS = new Set(['bind', 'rbind', 'remount', 'tmpcopyup']);
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

/** All options that are not handed to the filesystem as they are, sorted. */
export function mountOptionNames(): string[] {
  const attributes = [...SET, ...Object.keys(CLEAR)];
  const recursive = attributes.map((name) => `r${name}`);
  return [...attributes, ...recursive, ...PROPAGATIONS, ...FLAGS, ...SUPERBLOCK, ...IGNORED]
    .filter((name) => !name.includes('='))
    .sort();
}

export function parseMountOptions(options: readonly string[]): MountOptions {
  const state: State = {
    attributes: new Set(),
    recursiveSet: new Set(),
    recursiveClear: new Set(),
    propagation: undefined,
    flags: new Set(),
    data: [],
  };
  for (const option of options) {
    if (takeAttribute(option, state) || takeFlag(option, state)) continue;
    if (SUPERBLOCK.has(option) || !IGNORED.has(option)) state.data.push(option);
  }
  const { attributes, flags } = state;
  return {
    bind: flags.has('bind') || flags.has('rbind'),
    recursive: flags.has('rbind'),
    remount: flags.has('remount'),
    attributes: [...attributes],
    namesAttribute: attributes.size > 0,
    recursiveSet: [...state.recursiveSet],
    recursiveClear: [...state.recursiveClear],
    propagation: state.propagation,
    copyUp: flags.has('tmpcopyup'),
    data: state.data.flatMap((option) => option.split(',').filter((part) => part !== '')),
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

interface State {
  readonly attributes: Set<MountAttribute>;
  readonly recursiveSet: Set<MountAttribute>;
  readonly recursiveClear: Set<MountAttribute>;
  readonly flags: Set<string>;
  readonly data: string[];
  propagation: Propagation | undefined;
}

function takeAttribute(option: string, state: State): boolean {
  const cleared = CLEAR[option];
  const inTree = option.startsWith('r') ? option.slice(1) : '';
  const clearedInTree = CLEAR[inTree];
  if (SET.has(option)) state.attributes.add(option as MountAttribute);
  else if (cleared !== undefined) state.attributes.delete(cleared);
  else if (SET.has(inTree)) state.recursiveSet.add(inTree as MountAttribute);
  else if (clearedInTree !== undefined) state.recursiveClear.add(clearedInTree);
  else return false;
  return true;
}

function takeFlag(option: string, state: State): boolean {
  if (PROPAGATIONS.has(option)) state.propagation = option as Propagation;
  else if (FLAGS.has(option)) state.flags.add(option);
  else return false;
  return true;
}
