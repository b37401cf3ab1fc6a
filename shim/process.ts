// One process of a container, init or exec: its state, its streams, its exit and those who wait for it. What may happen
// when is decided in container.ts.

import type { Exit } from './exit';
import type { ProcessStdio, StdioRequest } from './io/stdio';
import type { State } from './lifecycle';

export class TaskProcess {
  /** The id that events and State name: the container's for init. */
  readonly id: string;
  /** Undefined for init. */
  readonly execId: string | undefined;
  readonly stdio: StdioRequest;
  /** The Process document of an exec. */
  readonly document: Readonly<Record<string, unknown>> | undefined;
  state: State = 'created';
  /** 0 until it has been started, or created in the case of init. */
  pid = 0;
  io: ProcessStdio | undefined;
  #exit: Exit | undefined;
  #isOver = false;
  #waiting = new Set<() => void>();

  constructor(options: {
    id: string;
    execId?: string;
    stdio: StdioRequest;
    document?: Readonly<Record<string, unknown>>;
  }) {
    this.id = options.id;
    this.execId = options.execId;
    this.stdio = options.stdio;
    this.document = options.document;
  }

  /** Undefined while it runs, and for a process that never ran. */
  get exit(): Exit | undefined {
    return this.#exit;
  }

  setExited(exit: Exit): void {
    this.#exit = exit;
    this.state = 'stopped';
    this.#finish();
  }

  /** The start has failed: there will never be an exit to wait for. */
  setNeverStarted(): void {
    this.#finish();
  }

  /** Resolves when the process has exited, or can never exit. @throws the signal's reason when it is aborted first. */
  async wait(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#isOver) return;
    await new Promise<void>((resolve, reject) => {
      const settle = (outcome: () => void) => {
        this.#waiting.delete(onExit);
        signal.removeEventListener('abort', onAbort);
        outcome();
      };
      const onExit = () => settle(resolve);
      const onAbort = () => settle(() => reject(signal.reason as Error));
      this.#waiting.add(onExit);
      signal.addEventListener('abort', onAbort);
    });
  }

  #finish(): void {
    this.#isOver = true;
    for (const listener of [...this.#waiting]) listener();
  }
}
