// Disk space kept back for what must be recorded on a full disk: exits of processes, and deletions, which are the way
// to free space again. It is a file of zeros beside the database, given up when needed and taken again later.

import { closeSync, existsSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs';

/** Enough for thousands of records and their events. */
const RESERVE_BYTES = 4 * 1024 * 1024;
const CHUNK = Buffer.alloc(256 * 1024);
const RETRY_MS = 10_000;

export class Reserve {
  readonly #path: string;
  #isHeld: boolean;
  #retryAt = 0;

  constructor(path: string) {
    this.#path = path;
    this.#isHeld = existsSync(path);
  }

  /** Gives the space up. @returns false when there was none to give. */
  release(): boolean {
    const wasHeld = this.#isHeld;
    rmSync(this.#path, { force: true });
    this.#isHeld = false;
    this.#retryAt = Date.now() + RETRY_MS;
    return wasHeld;
  }

  /** Takes the space again where there is room, from time to time. Costs nothing while it is held. */
  restore(): void {
    if (this.#isHeld || Date.now() < this.#retryAt) return;
    this.#retryAt = Date.now() + RETRY_MS;
    try {
      const fd = openSync(this.#path, 'w', 0o600);
      try {
        for (let written = 0; written < RESERVE_BYTES; written += CHUNK.length) writeSync(fd, CHUNK);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      this.#isHeld = true;
    } catch {
      // No room yet: a part of a reserve would take what others need.
      rmSync(this.#path, { force: true });
    }
  }
}
