// Everything that goes over HTTP, in one place: connections, memory and limits are shared by all that is under way. It
// runs in a thread of its own (engine-worker.ts) and holds no credentials but for the length of a request.

import { type Answer, ask, type Question } from './ask';
import { Connections } from './connections';
import { type DownloadJob, download } from './download';
import type { Authorize } from './exchange';
import type { ProxyEnvironment } from './proxy';
import { RangeBudget } from './ranges';
import { type UploadJob, upload } from './upload';
import { type HttpWatch, WatchedConnections } from './watch';

export interface EngineOptions {
  readonly proxies: ProxyEnvironment;
  readonly connectionsPerHostMax: number;
}

/** Callbacks of one job. */
export interface EngineContext {
  readonly authorize: Authorize;
  readonly signal: AbortSignal;
  readonly onProgress: (offsetBytes: number) => void;
  /** Who wants to see what goes over HTTP. */
  readonly watch?: HttpWatch | undefined;
}

/** Jobs and what they give. All of it is plain data. */
export interface EngineJobs {
  readonly ask: { readonly job: Question; readonly result: Answer };
  readonly download: { readonly job: DownloadJob; readonly result: undefined };
  readonly upload: { readonly job: UploadJob; readonly result: 'uploaded' | 'mounted' };
}

export type EngineJobName = keyof EngineJobs;

export class Engine {
  readonly #connections: Connections;
  readonly #budget = new RangeBudget();

  constructor({ proxies, connectionsPerHostMax }: EngineOptions) {
    this.#connections = new Connections(proxies, connectionsPerHostMax);
  }

  /** @throws RegistryError, other errors of files, the signal's reason */
  async run<N extends EngineJobName>(
    name: N,
    job: EngineJobs[N]['job'],
    context: EngineContext,
  ): Promise<EngineJobs[N]['result']> {
    const { authorize, signal, onProgress, watch } = context;
    const connections = watch === undefined ? this.#connections : new WatchedConnections(this.#connections, watch);
    const shared = { authorize, signal, onProgress, connections, budget: this.#budget };
    switch (name) {
      case 'ask':
        return ask(connections, job as Question, authorize, signal);
      case 'download':
        await download(job as DownloadJob, shared);
        return undefined;
      default:
        return upload(job as UploadJob, shared);
    }
  }
}
