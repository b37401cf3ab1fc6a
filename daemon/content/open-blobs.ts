// Blob files kept open for a moment: containerd's clients read a blob in many calls of 32 KiB, one after the other, and
// opening it each time costs more than reading. Only the number of idle files is bounded; files in use are the callers'.

import { type FileHandle, open } from 'node:fs/promises';

/** Idle files kept open. */
const IDLE_MAX = 16;
const IDLE_MS = 1000;

interface Entry {
  readonly handle: Promise<FileHandle>;
  users: number;
  lastUsedMs: number;
}

export class OpenBlobs {
  readonly #entries = new Map<string, Entry>();
  #timer: NodeJS.Timeout | undefined;

  /** The file stays open until release(); every call needs one. @throws what open(2) says */
  async acquire(path: string): Promise<FileHandle> {
    let entry = this.#entries.get(path);
    if (entry === undefined) {
      entry = { handle: open(path, 'r'), users: 0, lastUsedMs: 0 };
      this.#entries.set(path, entry);
    }
    entry.users += 1;
    try {
      return await entry.handle;
    } catch (error) {
      if (this.#entries.get(path) === entry) this.#entries.delete(path);
      throw error;
    }
  }

  release(path: string): void {
    const entry = this.#entries.get(path);
    if (entry === undefined) return;
    entry.users -= 1;
    entry.lastUsedMs = Date.now();
    if (this.#idle().length > IDLE_MAX) this.#close(Date.now());
    this.#timer ??= setInterval(() => this.#close(Date.now() - IDLE_MS), IDLE_MS).unref();
  }

  /** Closes what nobody reads, so that removed blobs give their space back. */
  closeIdle(): void {
    this.#close(Number.POSITIVE_INFINITY);
  }

  #idle(): [string, Entry][] {
    return [...this.#entries].filter(([, { users }]) => users === 0);
  }

  #close(notUsedSinceMs: number): void {
    for (const [path, { handle, lastUsedMs }] of this.#idle()) {
      if (lastUsedMs > notUsedSinceMs) continue;
      this.#entries.delete(path);
      // A file that was only read has nothing to lose when its close fails.
      void handle.then((opened) => opened.close()).catch(() => {});
    }
    if (this.#entries.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
