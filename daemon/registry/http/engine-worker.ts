// Worker thread: all HTTP of the registry client. Bytes go from the network through hashing into files, or back, without
// touching the daemon's event loop. It must not open the database.

import { parentPort, workerData } from 'node:worker_threads';
import { canceled, errorKind, messageOf, unknown } from '../../../proto/errors';
import { Engine, type EngineOptions } from './engine';
import type { AuthorizationRequest } from './exchange';
import { RegistryError } from './failure';
import type { Failure, FromEngine, ToEngine } from './messages';

const PROGRESS_INTERVAL_MS = 250;

interface Waiting {
  readonly resolve: (value: string | undefined) => void;
  readonly reject: (error: unknown) => void;
}

const engine = new Engine(workerData as EngineOptions);
const jobs = new Map<number, AbortController>();
const authorizations = new Map<number, Waiting>();
let lastRequest = 0;

function send(message: FromEngine): void {
  parentPort?.postMessage(message);
}

async function start({ id, name, job, watched }: Extract<ToEngine, { type: 'start' }>): Promise<void> {
  const stop = new AbortController();
  jobs.set(id, stop);
  const progress = new ProgressReport(id);
  try {
    const result = await engine.run(name, job, {
      authorize: (wanted, signal) => authorize(id, wanted, signal),
      signal: stop.signal,
      onProgress: (offsetBytes) => progress.update(offsetBytes),
      watch: watched && { ...watched, tell: (text) => send({ type: 'http', id, text }) },
    });
    progress.flush();
    send({ type: 'done', id, result });
  } catch (error) {
    progress.flush();
    send({ type: 'failed', id, failure: failureOf(error) });
  } finally {
    jobs.delete(id);
  }
}

/** The daemon knows the credentials; it may have to ask somebody for them, who may never answer. */
function authorize(id: number, wanted: AuthorizationRequest, signal: AbortSignal): Promise<string | undefined> {
  lastRequest += 1;
  const request = lastRequest;
  return new Promise<string | undefined>((resolve, reject) => {
    authorizations.set(request, { resolve, reject });
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    send({ type: 'authorize', id, request, wanted });
  }).finally(() => authorizations.delete(request));
}

/** Tells of progress a few times a second. */
class ProgressReport {
  readonly #id: number;
  #offsetBytes: number | undefined;
  #sentBytes = 0;
  #lastMs = 0;

  constructor(id: number) {
    this.#id = id;
  }

  update(offsetBytes: number): void {
    // Whoever follows the file must learn at once that it begins anew.
    const isBack = offsetBytes < this.#sentBytes;
    this.#offsetBytes = offsetBytes;
    if (isBack || performance.now() - this.#lastMs >= PROGRESS_INTERVAL_MS) this.flush();
  }

  flush(): void {
    if (this.#offsetBytes === undefined) return;
    send({ type: 'progress', id: this.#id, offsetBytes: this.#offsetBytes });
    this.#sentBytes = this.#offsetBytes;
    this.#offsetBytes = undefined;
    this.#lastMs = performance.now();
  }
}

function failureOf(error: unknown): Failure {
  const reason = error instanceof RegistryError ? error.reason : 'other';
  return { kind: errorKind(error), message: messageOf(error), reason };
}

parentPort?.on('message', (message: ToEngine) => {
  switch (message.type) {
    case 'start':
      void start(message);
      break;
    case 'cancel':
      jobs.get(message.id)?.abort(canceled('context canceled'));
      break;
    default: {
      const waiting = authorizations.get(message.request);
      if (message.type === 'authorization') waiting?.resolve(message.value);
      else waiting?.reject(errorOf(message.failure));
    }
  }
});

function errorOf({ kind, message, reason }: Failure): Error {
  return kind === undefined ? unknown(message) : new RegistryError(kind, message, { reason });
}
