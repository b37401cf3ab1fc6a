// Mount options of a runtime configuration (mount(8) words) sorted by what they act on.

import type { SpecMount } from '../spec';
import type { MountAttribute, Propagation } from './operations';

export interface MountOptions {
  readonly bind: boolean;
  readonly recursive: boolean;
  readonly remount: boolean;
  /** Attributes that the options name. */
  readonly attributes: readonly MountAttribute[];
  /** Attributes whose opposite the options name. */
  readonly cleared: readonly MountAttribute[];
  /** Attributes for the whole tree, as in "rro". */
  readonly recursiveSet: readonly MountAttribute[];
  readonly recursiveClear: readonly MountAttribute[];
  readonly propagation: Propagation | undefined;
  readonly copyUp: boolean;
  readonly idmap: 'idmap' | 'ridmap' | undefined;
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
const FLAGS = new Set(['bind', 'rbind', 'remount', 'tmpcopyup', 'idmap', 'ridmap']);
/** Flags of mount(2) that fsconfig(2) takes as options of the filesystem. */
const SUPERBLOCK = new Set(['sync', 'dirsync', 'mand', 'lazytime']);
/** Defaults, opposites of superblock flags, and what says nothing to the kernel. */
const IGNORED = new Set([
  'defaults',
  'async',
  'nomand',
  'nolazytime',
  'iversion',
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
    cleared: new Set(),
    recursiveSet: new Set(),
    recursiveClear: new Set(),
    propagation: undefined,
    flags: new Set(),
    data: [],
  };
  for (const option of options) {
    if (takeAttribute(option, state) || takeFlag(option, state)) continue;
    if (!IGNORED.has(option)) state.data.push(option);
  }
  const { attributes, flags } = state;
  return {
    bind: flags.has('bind') || flags.has('rbind'),
    recursive: flags.has('rbind'),
    remount: flags.has('remount'),
    attributes: [...attributes],
    cleared: [...state.cleared],
    recursiveSet: [...state.recursiveSet],
    recursiveClear: [...state.recursiveClear],
    propagation: state.propagation,
    copyUp: flags.has('tmpcopyup'),
    idmap: flags.has('ridmap') ? 'ridmap' : flags.has('idmap') ? 'idmap' : undefined,
    data: state.data.flatMap((option) => option.split(',').filter((part) => part !== '')),
  };
}

/** The option that gives all files of a filesystem a SELinux label. */
export function labelOptions(label: string | undefined): string[] {
  return label ? [`context=${label}`] : [];
}

export function bindsSource(mount: SpecMount, options: MountOptions): boolean {
  return options.bind || mount.type === 'bind';
}

/**
 * What a bind mount's attributes become when options name any: exactly these, except access times that nobody named
 * (mount(2), MS_REMOUNT with MS_BIND). A remount also clears what only opposites name.
 */
export function bindAttributeChange(options: MountOptions): { set: MountAttribute[]; clear: MountAttribute[] } {
  if (options.attributes.length === 0) return { set: [], clear: options.remount ? [...options.cleared] : [] };
  const named = new Set(options.attributes);
  const plain: MountAttribute[] = ['ro', 'nosuid', 'nodev', 'noexec', 'nosymfollow'];
  const times: MountAttribute[] = ['nodiratime', 'noatime', 'strictatime', 'relatime'];
  const clear = plain.filter((name) => !named.has(name));
  if (times.some((name) => named.has(name)) && !named.has('nodiratime')) clear.push('nodiratime');
  return { set: [...named], clear };
}

interface State {
  readonly attributes: Set<MountAttribute>;
  readonly cleared: Set<MountAttribute>;
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
  if (SET.has(option)) move(option as MountAttribute, state.cleared, state.attributes);
  else if (cleared !== undefined) move(cleared, state.attributes, state.cleared);
  else if (SET.has(inTree)) move(inTree as MountAttribute, state.recursiveClear, state.recursiveSet);
  else if (clearedInTree !== undefined) move(clearedInTree, state.recursiveSet, state.recursiveClear);
  else return false;
  return true;
}

/** The last word counts. */
function move(name: MountAttribute, from: Set<MountAttribute>, to: Set<MountAttribute>): void {
  from.delete(name);
  to.add(name);
}

function takeFlag(option: string, state: State): boolean {
  if (PROPAGATIONS.has(option)) state.propagation = option as Propagation;
  else if (FLAGS.has(option)) state.flags.add(option);
  else return false;
  return true;
}
