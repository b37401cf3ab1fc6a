// How Node is told to run a shim. Here because the daemon starts shims but must not import them, and because the
// launchers are made from the same values (dist/shim.flags).

/** What each of them does for a shim is in shim/README.md. */
const COMMON_FLAGS: readonly string[] = [
  '--v8-pool-size=0',
  '--min-semi-space-size=4',
  '--max-semi-space-size=4',
  '--no-warnings',
  '--disable-sigusr1',
];

/** Node and V8 flags of a shim that is started as a program. */
export const SHIM_FLAGS: readonly string[] = ['--lite-mode', ...COMMON_FLAGS];

/** Those of the zygote that forks shims: a child has none of its threads, and wants the compiled code of a rehearsal. */
export const ZYGOTE_FLAGS: readonly string[] = [
  '--single-threaded',
  '--no-flush-bytecode',
  '--no-memory-reducer',
  ...COMMON_FLAGS,
];

/** Environment that makes a shim small: a fixed threshold keeps glibc from holding on to memory (mallopt(3)), 1.2 MB. */
export const SHIM_ENVIRONMENT: Readonly<Record<string, string>> = { MALLOC_TRIM_THRESHOLD_: '131072' };

/** Environment variable of a shim: the OCI runtime of tasks that ask for none. Unset: our own, in the shim itself. */
export const RUNTIME_VARIABLE = 'GANTRY_RUNTIME';

/** For launchers: assignments in the first line, flags in the second. Called by the Makefile. @public */
export function launcherLines(): [environment: string, flags: string] {
  const assignments = Object.entries(SHIM_ENVIRONMENT).map(([name, value]) => `${name}=${value}`);
  return [assignments.join(' '), SHIM_FLAGS.join(' ')];
}
