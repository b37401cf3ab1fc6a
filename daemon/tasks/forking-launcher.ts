// Starts gantry's own shim by a fork of the zygote. When there is none, or it fails, the shim is started as a program.

import { messageOf } from '../../proto/errors';
import type { Logger } from '../log';
import type { Bundle } from './bundle';
import type { LaunchedShim, LaunchRequest, ShimLauncher } from './launcher';
import type { OwnLauncher } from './own-launcher';
import { killBundleProcesses } from './shim-process';
import type { Zygote } from './zygote';

export interface ForkingLauncherOptions {
  readonly zygote: Zygote;
  readonly fallback: OwnLauncher;
  readonly logger: Logger;
}

export class ForkingLauncher implements ShimLauncher {
  private readonly options: ForkingLauncherOptions;

  constructor(options: ForkingLauncherOptions) {
    this.options = options;
  }

  async start(request: LaunchRequest): Promise<LaunchedShim> {
    const pid = await this.fork(request.bundle);
    if (pid === undefined) return await this.options.fallback.start(request);
    const address = `unix://${this.socketPath(request.bundle)}`;
    return { pid, bootstrap: { version: 3, address, protocol: 'ttrpc' } };
  }

  socketPath(bundle: Bundle): string {
    return this.options.fallback.socketPath(bundle);
  }

  private async fork(bundle: Bundle): Promise<number | undefined> {
    const { zygote, logger } = this.options;
    const { namespace, id } = bundle.key;
    const socket = this.socketPath(bundle);
    try {
      return await zygote.fork({ bundle: bundle.path, log: bundle.logFifo, socket, namespace, id });
    } catch (error) {
      logger.warn('shim was not forked', { namespace, id, error: messageOf(error) });
      await killBundleProcesses(bundle); // A zygote that died may have forked before.
      return undefined;
    }
  }
}
