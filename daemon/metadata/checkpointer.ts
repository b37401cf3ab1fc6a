// Runs WAL checkpoints in a worker thread, so that copying pages and syncing the database file never block the event
// loop. The worker is started when the WAL has grown and ends when it has had nothing to do for a while, because an
// idle thread costs memory.

import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Worker } from 'node:worker_threads';

/** passive never waits for writers; restart makes them wait for the rest, so that the WAL can start again. */
type CheckpointMode = 'PASSIVE' | 'RESTART';

const IDLE_MS = 10_000;
/** After so many passive checkpoints in a row that left the WAL too large, writers are made to wait once. */
const PASSIVE_RUNS_MAX = 4;
const PAUSE_MS = 1000;
/** Rest after a failed checkpoint; the WAL just keeps growing meanwhile. */
const RETRY_MS = 10_000;
const WORKER_LIMITS = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 };

export class Checkpointer {
  readonly #path: string;
  #worker: Worker | undefined;
  #isRunning = false;
  #idleTimer: NodeJS.Timeout | undefined;
  #passiveRuns = 0;
  #lastEndedAt = 0;
  #isClosed = false;
  #notBefore = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** Asks for a checkpoint. Cheap when one is running already. */
  request(): void {
    if (this.#isRunning || this.#isClosed || Date.now() < this.#notBefore) return;
    const isRepeated = Date.now() - this.#lastEndedAt < PAUSE_MS;
    this.#passiveRuns = isRepeated ? this.#passiveRuns + 1 : 0;
    const mode: CheckpointMode = this.#passiveRuns > PASSIVE_RUNS_MAX ? 'RESTART' : 'PASSIVE';
    if (mode === 'RESTART') this.#passiveRuns = 0;
    this.#isRunning = true;
    clearTimeout(this.#idleTimer);
    this.#worker ??= this.#start();
    this.#worker.ref();
    this.#worker.postMessage(mode);
  }

  /** Resolves when no checkpoint is running any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#idleTimer);
    const worker = this.#worker;
    if (worker === undefined) return;
    const exit = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
    worker.postMessage('END');
    await exit;
  }

  #start(): Worker {
    const worker = new Worker(workerFile(), {
      workerData: this.#path,
      resourceLimits: WORKER_LIMITS,
    });
    worker.on('message', () => this.#ended(worker));
    worker.on('error', (error) => {
      this.#notBefore = Date.now() + RETRY_MS;
      process.emitWarning(`checkpoint of "${this.#path}" failed: ${error.message}`);
    });
    worker.on('exit', () => {
      if (this.#worker === worker) this.#worker = undefined;
      this.#isRunning = false;
    });
    return worker;
  }

  #ended(worker: Worker): void {
    this.#isRunning = false;
    this.#lastEndedAt = Date.now();
    worker.unref();
    this.#idleTimer = setTimeout(() => {
      if (this.#worker === worker) this.#worker = undefined;
      worker.postMessage('END');
    }, IDLE_MS).unref();
  }
}

/** The compiled worker, also for tests that run from sources: a thread does not get their compiler. */
function workerFile(): string {
  const compiled = join(__dirname, 'checkpoint-worker.js');
  return existsSync(compiled) ? compiled : resolve(__dirname, '../../dist/daemon/metadata/checkpoint-worker.js');
}
