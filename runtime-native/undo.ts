// What has to be taken back when a later step fails, in reverse order.

import { messageOf } from '../proto/errors';

export class UndoList {
  private readonly steps: { readonly what: string; readonly undo: () => void | Promise<void> }[] = [];

  /** Registers a step right after (or, when it can stop half way, right before) it is done. */
  add(what: string, undo: () => void | Promise<void>): void {
    this.steps.push({ what, undo });
  }

  /** Undoes everything, also when a step of it fails. Returns what could not be undone, for the error that caused it. */
  async run(): Promise<string[]> {
    const failures: string[] = [];
    for (let step = this.steps.pop(); step !== undefined; step = this.steps.pop()) {
      try {
        await step.undo();
      } catch (error) {
        failures.push(`${step.what}: ${messageOf(error)}`);
      }
    }
    return failures;
  }
}
