// Seccomp filters: compiled by libseccomp, kept in memory and on disk, because compiling takes longer than everything
// else in a launch together.

import { unknown } from '../../proto/errors';
import { usesNotify } from '../config/linux-rules';
import { knowsFilterFlags } from '../native';
import type { CompiledFilter } from '../plan/credentials';
import type { Seccomp } from '../spec';
import { readFilter, writeFilter } from './cache';
import { compileProfile } from './profile';
import { shrinkFilter } from './shrink';

/** seccomp(2). TSYNC is left out: init has one thread. */
export const FLAGS: Readonly<Record<string, number>> = {
  SECCOMP_FILTER_FLAG_TSYNC: 0,
  SECCOMP_FILTER_FLAG_LOG: 2,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: 32,
};
const NEW_LISTENER = 8;
const MEMORY_ENTRIES_MAX = 16;

const memory = new Map<string, CompiledFilter>();

/**
 * @param cacheDir - writable by root only; a file in it is trusted. It should not outlive an upgrade of libseccomp.
 * @throws UNKNOWN in runc's words for unknown actions, operators and flags
 */
export function compileSeccomp(
  profile: Seccomp | null | undefined,
  cacheDir: string | undefined,
): CompiledFilter | undefined {
  if (!profile) return undefined;
  const key = JSON.stringify([process.arch, profile]);
  const known = memory.get(key);
  if (known !== undefined) return known;
  let program = cacheDir === undefined ? undefined : readFilter(cacheDir, key);
  if (program === undefined) {
    program = shrinkFilter(compileProfile(profile));
    if (cacheDir !== undefined) writeFilter(cacheDir, key, program);
  }
  const compiled = { filter: program.toString('base64'), flags: filterFlags(profile), listens: usesNotify(profile) };
  const oldest = memory.keys().next();
  if (memory.size >= MEMORY_ENTRIES_MAX && !oldest.done) memory.delete(oldest.value);
  memory.set(key, compiled);
  return compiled;
}

/** Names of the flags that this kernel knows; one of them only together with a listener. */
export function supportedFlags(): string[] {
  const needsListener = (name: string) => name === 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV';
  return Object.entries(FLAGS)
    .filter(([name, flag]) => knowsFilterFlags(needsListener(name) ? flag | NEW_LISTENER : flag))
    .map(([name]) => name);
}

function filterFlags(profile: Seccomp): number {
  return (profile.flags ?? []).reduce((flags, name) => {
    const flag = FLAGS[name];
    if (flag === undefined) throw unknown(`seccomp flag "${name}" is not known to the runtime`);
    return flags | flag;
  }, 0);
}
