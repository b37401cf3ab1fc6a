// How shims are started and how their `delete` action is run. Everything above this interface treats gantry's own shim
// and foreign ones alike. Implementations: own-launcher.ts (one spawn, no start action),
// forking-launcher.ts (a fork of the zygote) and foreign-launcher.ts.

import type { Any } from '../../proto/generated/google.protobuf';
import { RUNTIME_VARIABLE } from '../../proto/shim-flags';
import type { Bootstrap, Bundle } from './bundle';
import type { ResolvedRuntime } from './runtimes';
import type { Exit } from './task-store';

export interface LaunchRequest {
  readonly bundle: Bundle;
  readonly runtime: ResolvedRuntime;
  /** Runtime options of the task, else of the container. */
  readonly options: Any | undefined;
  readonly signal: AbortSignal;
}

export interface LaunchedShim {
  /** 0 when the launcher does not know it. */
  readonly pid: number;
  readonly bootstrap: Bootstrap;
}

export interface ShimLauncher {
  /**
   * Starts the shim of a bundle that is on disk and returns when it listens.
   * @throws UNKNOWN with the words of the shim when it fails; nothing is left running then.
   */
  start(request: LaunchRequest): Promise<LaunchedShim>;

  /** Where the shim of a bundle listens, when that is decided before it is started. */
  socketPath(bundle: Bundle): string | undefined;
}

/** Everything that the programs are told about the daemon. */
export interface ShimEnvironment {
  readonly grpcAddress: string;
  readonly ttrpcAddress: string;
  /** The daemon's program, passed as -publish-binary. */
  readonly daemonBinary: string;
  readonly debug: boolean;
  /** OCI runtime of tasks that ask for none; empty: our own. */
  readonly runtime: string;
}

/** Cleans up after a shim that is not there any more. */
export interface ShimDeleter {
  /**
   * Runs the `delete` action: kills what is left of the container, removes its cgroup and mounts.
   * @throws UNKNOWN when the program fails or takes too long.
   */
  delete(bundle: Bundle, shimPath: string): Promise<Exit>;
}

/** Environment of a shim program (shim v2 protocol). */
export function shimEnv(environment: ShimEnvironment, namespace: string, maxVersion: 2 | 3): NodeJS.ProcessEnv {
  return {
    ...process.env,
    TTRPC_ADDRESS: environment.ttrpcAddress,
    GRPC_ADDRESS: environment.grpcAddress,
    NAMESPACE: namespace,
    [RUNTIME_VARIABLE]: environment.runtime,
    MAX_SHIM_VERSION: String(maxVersion),
  };
}
