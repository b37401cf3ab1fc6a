// One line of progress on standard error, rewritten in place. Silent when standard error is no terminal.

import { printable } from './failure';
import { bytes } from './output';

const INTERVAL_MS = 100;
const NAME_LENGTH_MAX = 40;

export class Progress {
  #last = 0;
  #shown = false;

  update(text: string, doneBytes = 0, sizeBytes = 0): void {
    const now = Date.now();
    if (!process.stderr.isTTY || (now - this.#last < INTERVAL_MS && doneBytes < sizeBytes)) return;
    this.#last = now;
    this.#shown = true;
    const name = printable(text.length > NAME_LENGTH_MAX ? `${text.slice(0, NAME_LENGTH_MAX - 3)}...` : text);
    const amount = sizeBytes > 0 ? ` ${bytes(doneBytes)} of ${bytes(sizeBytes)}` : '';
    process.stderr.write(`\r\x1b[K${name}${amount}`);
  }

  clear(): void {
    if (this.#shown) process.stderr.write('\r\x1b[K');
    this.#shown = false;
  }
}
