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

/** A file lent to one caller. */
export interface OpenBlob {
  readonly file: FileHandle;
  /** Gives it back; call it once. */
  readonly release: () => void;
}

export class OpenBlobs {
  readonly #entries = new Map<string, Entry>();
  #timer: NodeJS.Timeout | undefined;

  /** @throws what open(2) says */
  async acquire(path: string): Promise<OpenBlob> {
    const entry = this.#entries.get(path) ?? { handle: open(path, 'r'), users: 0, lastUsedMs: 0 };
    this.#entries.set(path, entry);
    entry.users += 1;
    try {
      return { file: await entry.handle, release: () => this.#release(path, entry) };
    } catch (error) {
      if (this.#entries.get(path) === entry) this.#entries.delete(path);
      throw error;
    }
  }

  /** The next one to ask opens the file anew: it was replaced. */
  forget(path: string): void {
    const entry = this.#entries.get(path);
    if (entry === undefined) return;
    this.#entries.delete(path);
    if (entry.users === 0) close(entry);
  }

  /** Closes what nobody reads, so that removed blobs give their space back. */
  closeIdle(): void {
    this.#closeIdleSince(Number.POSITIVE_INFINITY);
  }

  #release(path: string, entry: Entry): void {
    entry.users -= 1;
    entry.lastUsedMs = Date.now();
    if (this.#entries.get(path) !== entry) {
      if (entry.users === 0) close(entry);
      return;
    }
    if (this.#idle().length > IDLE_MAX) this.#closeIdleSince(Date.now());
    this.#timer ??= setInterval(() => this.#closeIdleSince(Date.now() - IDLE_MS), IDLE_MS).unref();
  }

  #idle(): [string, Entry][] {
    return [...this.#entries].filter(([, { users }]) => users === 0);
  }

  #closeIdleSince(sinceMs: number): void {
    for (const [path, entry] of this.#idle()) {
      if (entry.lastUsedMs > sinceMs) continue;
      this.#entries.delete(path);
      close(entry);
    }
    if (this.#entries.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/** A file that was only read has nothing to lose when its close fails. */
function close({ handle }: Entry): void {
  void handle.then((file) => file.close()).catch(() => {});
}
