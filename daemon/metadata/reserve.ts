// Disk space kept back for what must be recorded on a full disk: exits of processes, and deletions, which are the way
// to free space again. It is a file of zeros beside the database, given up when needed and taken again later.

import { ftruncateSync, rmSync, statSync } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';

/** Enough for thousands of records and their events. */
const RESERVE_BYTES = 4 * 1024 * 1024;
const CHUNK = Buffer.alloc(256 * 1024);
const RETRY_MS = 10_000;

export class Reserve {
  readonly #path: string;
  #isHeld: boolean;
  #retryAt = 0;
  /** The restore that runs, the file while it is being written, and whether that has lost its purpose. */
  #restoring: Promise<void> | undefined;
  #file: FileHandle | undefined;
  #isCancelled = false;

  constructor(path: string) {
    this.#path = path;
    this.#isHeld = statSync(path, { throwIfNoEntry: false })?.size === RESERVE_BYTES;
  }

  /** Gives the space up, also what a restore has taken so far. @returns false when there was none to give. */
  release(): boolean {
    const hadSpace = this.#isHeld || this.#restoring !== undefined;
    this.#cancel();
    rmSync(this.#path, { force: true });
    this.#isHeld = false;
    this.#retryAt = Date.now() + RETRY_MS;
    return hadSpace;
  }

  /**
   * Takes the space again where there is room, from time to time, off the event loop. Costs nothing while it is held.
   * Never rejects: without room there is no reserve.
   */
  restore(): Promise<void> {
    if (this.#restoring !== undefined) return this.#restoring;
    if (this.#isHeld || Date.now() < this.#retryAt) return Promise.resolve();
    this.#retryAt = Date.now() + RETRY_MS;
    this.#isCancelled = false;
    this.#restoring = this.#take();
    return this.#restoring;
  }

  /** There may be room now: does not wait for the next try. */
  noteRoom(): void {
    this.#retryAt = 0;
    void this.restore();
  }

  /** Ends a restore that runs; resolves when it touches the file no more. */
  async close(): Promise<void> {
    this.#cancel();
    await this.#restoring;
  }

  #cancel(): void {
    this.#isCancelled = true;
    if (this.#file !== undefined) ftruncateSync(this.#file.fd);
  }

  async #take(): Promise<void> {
    try {
      await this.#write();
      this.#isHeld = !this.#isCancelled;
    } catch {
      // No room yet: a part of a reserve would take what others need.
    }
    if (!this.#isHeld) await rm(this.#path, { force: true }).catch(() => {});
    this.#restoring = undefined;
  }

  async #write(): Promise<void> {
    const file = await open(this.#path, 'w', 0o600);
    this.#file = file;
    try {
      for (let size = 0; size < RESERVE_BYTES && !this.#isCancelled; ) size += (await file.write(CHUNK)).bytesWritten;
      await file.sync();
    } finally {
      this.#file = undefined;
      await file.close();
    }
  }
}
