// Who may unpack when: layers take memory and threads, so only a few are unpacked at the same time, and the others wait.

import { availableParallelism } from 'node:os';
import { isErrno, messageOf, notFound, resourceExhausted } from '../../proto/errors';
import {
  type LayerRequest,
  type UnpackedLayer,
  type UnpackTarget,
  unpackLayer,
} from '../../runtime-native/layers/layer';
import { layerError } from './layer-failure';

/**
 * Layers unpacked at the same time. Each keeps two processors busy and a thread of libuv waiting, and has 2 MiB, or as much
 * more as a window of zstd takes.
 */
const LAYERS_MAX = Math.max(2, Math.min(4, availableParallelism() >> 1));
/** Layers that wait for their turn. */
const QUEUE_MAX = 256;

export interface UnpackRequest {
  /** File of the blob. */
  readonly blob: string;
  readonly mayBeCompressed: boolean;
  readonly target: UnpackTarget;
}

interface Turn {
  readonly begin: () => void;
  readonly refuse: (error: unknown) => void;
}

export class UnpackPool {
  /** How to stop each of those that run. */
  readonly #running = new Map<Promise<unknown>, Int32Array<SharedArrayBuffer>>();
  readonly #queue: Turn[] = [];
  #free = LAYERS_MAX;
  #isClosed = false;

  /**
   * Unpacks a layer, after those that were asked for before when as many are under way as may be.
   * @throws INVALID_ARGUMENT for what is wrong with the layer, RESOURCE_EXHAUSTED when the disk or the queue is full,
   * ABORTED for a layer that needs those below and does not know them, NOT_FOUND without the blob, the signal's reason
   */
  async unpack(request: UnpackRequest, signal: AbortSignal): Promise<UnpackedLayer> {
    await this.#turn(signal);
    const stop = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    const abort = () => Atomics.store(stop, 0, 1);
    signal.addEventListener('abort', abort, { once: true });
    try {
      if (this.#isClosed) throw stopping();
      signal.throwIfAborted();
      const work = run({ ...request, stop });
      this.#running.set(work, stop);
      return await work.finally(() => this.#running.delete(work));
    } finally {
      signal.removeEventListener('abort', abort);
      this.#pass();
    }
  }

  /** Stops what runs and refuses what waits; resolves when nothing is unpacked any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const { refuse } of this.#queue.splice(0)) refuse(stopping());
    for (const stop of this.#running.values()) Atomics.store(stop, 0, 1);
    await Promise.allSettled(this.#running.keys());
  }

  /** Resolves when one more may begin, which pass() ends. */
  async #turn(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#isClosed) throw stopping();
    if (this.#free > 0) {
      this.#free--;
      return;
    }
    if (this.#queue.length >= QUEUE_MAX) throw resourceExhausted(`layer: ${QUEUE_MAX} others wait to be unpacked`);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const turn = { begin: resolve, refuse: reject };
    const leave = () => {
      const place = this.#queue.indexOf(turn);
      if (place >= 0) this.#queue.splice(place, 1);
      reject(signal.reason);
    };
    this.#queue.push(turn);
    signal.addEventListener('abort', leave, { once: true });
    await promise.finally(() => signal.removeEventListener('abort', leave));
  }

  /** Whoever waits longest takes over. */
  #pass(): void {
    const next = this.#queue.shift();
    if (next === undefined) this.#free++;
    else next.begin();
  }
}

async function run(request: LayerRequest): Promise<UnpackedLayer> {
  const result = await unpackLayer(request).catch((error: unknown) => {
    throw isErrno(error, 'ENOENT') ? notFound(messageOf(error), { cause: error as Error }) : error;
  });
  if ('digest' in result) return result;
  throw layerError(result, request.blob);
}

function stopping(): Error {
  return resourceExhausted('layer: daemon is stopping');
}
