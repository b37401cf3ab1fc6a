// Work that several callers want at once and that must run once at a time: one after the other, each looks first whether
// the one before has done it.

export class SingleFlight {
  readonly #running = new Map<string, Promise<void>>();

  /** Runs `body` when nobody else runs one of the same key. @throws the signal's reason while it waits */
  async run<T>(key: string, signal: AbortSignal, body: () => Promise<T>): Promise<T> {
    for (let before = this.#running.get(key); before !== undefined; before = this.#running.get(key)) {
      await unlessAborted(before, signal);
    }
    const done = Promise.withResolvers<void>();
    this.#running.set(key, done.promise);
    try {
      return await body();
    } finally {
      this.#running.delete(key);
      done.resolve();
    }
  }
}

/** Waits no longer than until the signal. @throws the signal's reason, what the promise is rejected with */
export function unlessAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
