// The receiving half of one stream: messages wait here until the reader takes them. Bounded; who fills it is told when
// it is full and must stop reading from the connection.

/** How many messages wait per stream (ttrpc, stream.go). */
export const STREAM_BUFFER_MESSAGES = 64;
/** How long a full stream may hold up its connection before it fails. */
export const STREAM_BUFFER_FULL_MS = 1000;

export class MessageQueue<T> {
  readonly #messages: T[] = [];
  #waiting: (() => void) | undefined;
  #ended = false;
  #error: unknown;
  #onRoom: (() => void) | undefined;

  get isFull(): boolean {
    return this.#messages.length >= STREAM_BUFFER_MESSAGES;
  }

  push(message: T): void {
    if (this.#ended) return;
    this.#messages.push(message);
    this.#wake();
  }

  /** No more messages; what is queued is still delivered, then the error, if any, is thrown. */
  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#wake();
    this.#room();
  }

  get hasRoomListener(): boolean {
    return this.#onRoom !== undefined;
  }

  /** Calls back once, when there is room again or the queue has ended. */
  whenRoom(listener: () => void): void {
    this.#onRoom = listener;
  }

  async *drain(): AsyncGenerator<T, void, undefined> {
    for (;;) {
      while (this.#messages.length > 0) {
        const message = this.#messages.shift() as T;
        if (!this.isFull) this.#room();
        yield message;
      }
      if (this.#ended) break;
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
    }
    if (this.#error !== undefined) throw this.#error;
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.();
  }

  #room(): void {
    const onRoom = this.#onRoom;
    this.#onRoom = undefined;
    onRoom?.();
  }
}
