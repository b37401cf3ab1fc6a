// How Node is told to run a shim. Here because the daemon starts shims but must not import them, and because the
// launchers are made from the same list (dist/shim.flags).

/** Node and V8 flags that make a shim small; what each of them saves is in shim/README.md. */
export const SHIM_FLAGS: readonly string[] = ['--v8-pool-size=0', '--max-semi-space-size=1', '--no-warnings'];
