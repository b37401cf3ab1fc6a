// Signals that reach this process while it stands in front of a container: they are passed on. The first one that
// asks to stop also starts a grace period, the second one kills.

import { constants } from 'node:os';
import { note } from '../output';

const STOPPING = ['SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGHUP'] as const;
const OTHERS = ['SIGUSR1', 'SIGUSR2', 'SIGALRM'] as const;

/** Sends a signal to the container's process. */
export type Deliver = (signal: number) => void;

export class SignalForwarder {
  readonly #graceMs: number;
  readonly #giveUp: (signal: number) => Promise<never>;
  readonly #undo: (() => void)[] = [];
  #deliver: Deliver | undefined;
  #stops = 0;
  #first: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param graceMs From the first stop signal to SIGKILL; 0 = only a second signal kills.
   * @param giveUp Ends this process when a second signal comes before there is anything to send it to.
   */
  constructor(graceMs: number, giveUp: (signal: number) => Promise<never>) {
    this.#graceMs = graceMs;
    this.#giveUp = giveUp;
    for (const name of STOPPING) this.#on(name, () => this.stop(constants.signals[name]));
    for (const name of OTHERS) this.#on(name, () => this.#deliver?.(constants.signals[name]));
  }

  /** The first stop signal, if one came. */
  get interruption(): number | undefined {
    return this.#first;
  }

  /** From now on there is a process to pass signals to. One that came before is passed on at once. */
  attach(deliver: Deliver): void {
    this.#deliver = deliver;
    if (this.#first !== undefined) this.#pass(this.#first);
  }

  stop(signal: number): void {
    this.#stops += 1;
    this.#first ??= signal;
    if (this.#deliver === undefined) {
      // Nothing runs yet. The first signal is looked at before the start, the second one does not wait so long.
      if (this.#stops > 1) void this.#giveUp(signal);
    } else if (this.#stops === 1) {
      this.#pass(signal);
    } else {
      this.#kill();
    }
  }

  close(): void {
    clearTimeout(this.#timer);
    for (const undo of this.#undo) undo();
  }

  #pass(signal: number): void {
    this.#deliver?.(signal);
    if (this.#graceMs > 0) this.#timer ??= setTimeout(() => this.#kill(), this.#graceMs);
    if (process.stderr.isTTY) note('gantry: stopping; press ctrl-C again to kill');
  }

  #kill(): void {
    clearTimeout(this.#timer);
    this.#deliver?.(constants.signals.SIGKILL);
  }

  #on(name: NodeJS.Signals, listener: () => void): void {
    process.on(name, listener);
    this.#undo.push(() => process.off(name, listener));
  }
}
