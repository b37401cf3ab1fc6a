// What the crash test does to the daemon between two kills, and what it remembers of it. An operation counts as
// acknowledged from its answer on; an operation without an answer may or may not have happened.

import { createHash, randomBytes } from 'node:crypto';
import { WriteAction } from '../../proto/generated/containerd.services.content.v1';
import type { TestDaemon } from '../integration/tasks-daemon';

export type TaskModel = 'created' | 'running' | 'deleted' | 'unsure';

/** What was acknowledged. */
export interface Model {
  /** Image names and the blobs they stand for. */
  readonly images: Map<string, Buffer>;
  readonly containers: Set<string>;
  /** By container id. unsure: an operation on it was not answered. */
  readonly tasks: Map<string, TaskModel>;
  /** CONTAINER/EXEC of execs that were started, and exit by themselves with this status. */
  readonly execs: Map<string, number>;
}

export const EXEC_STATUS = 23;
const BLOB_BYTES_MAX = 256 * 1024;

/** Deterministic pseudo-random numbers in [0, 1): mulberry32. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Workload {
  readonly model: Model = { images: new Map(), containers: new Set(), tasks: new Map(), execs: new Map() };
  private readonly daemon: TestDaemon;
  private readonly random: () => number;
  private isStopping = false;
  /** Operations that were answered. */
  answered = 0;

  constructor(daemon: TestDaemon, random: () => number) {
    this.daemon = daemon;
    this.random = random;
  }

  /** Runs all kinds of work until `stop`, ended by the daemon's death. Never rejects. */
  async run(round: number): Promise<void> {
    this.isStopping = false;
    await Promise.all([
      this.repeat((n) => this.importImage(`${round}-${n}`)),
      this.repeat((n) => this.live(`c${round}-${n}`)),
    ]);
  }

  stop(): void {
    this.isStopping = true;
  }

  /** Writes a blob and an image that refers to it. */
  private async importImage(name: string): Promise<void> {
    const blob = randomBytes(1 + Math.floor(this.random() * BLOB_BYTES_MAX));
    const digest = `sha256:${createHash('sha256').update(blob).digest('hex')}`;
    const labels = { 'containerd.io/gc.root': '2026-01-01T00:00:00Z' };
    const half = blob.length >> 1;
    const size = BigInt(blob.length);
    await this.daemon.writeContent([
      { action: WriteAction.WRITE, ref: `blob-${name}`, total: size, expected: digest, data: blob.subarray(0, half) },
      { action: WriteAction.WRITE, offset: BigInt(half), data: blob.subarray(half) },
      { action: WriteAction.COMMIT, offset: size, total: size, expected: digest, labels },
    ]);
    const target = { mediaType: 'application/octet-stream', digest, size };
    await this.daemon.images.create({ image: { name, target } });
    this.model.images.set(name, blob);
    this.answered += 1;
  }

  private counting<T extends object>(client: T): T {
    return new Proxy(client, {
      get: (target, name) => async (request: unknown) => {
        const method = Reflect.get(target, name) as (request: unknown) => Promise<unknown>;
        const response = await method(request);
        this.answered += 1;
        return response;
      },
    });
  }

  /** One container from beginning to end, as far as it gets. */
  private async live(id: string): Promise<void> {
    const { daemon, model } = this;
    const { containers } = daemon;
    const tasks = this.counting(daemon.tasks);
    await daemon.container(id, ['/bin/sleep', '1000'], { rootfs: 'mounted' });
    model.containers.add(id);
    this.answered += 1;
    await this.step(id, 'created', () => tasks.create({ containerId: id, rootfs: [daemon.rootfsMount] }));
    await this.step(id, 'running', () => tasks.start({ containerId: id }));
    if (this.random() < 0.3) return;
    const key = { containerId: id, execId: 'e' };
    await tasks.exec({ ...key, spec: daemon.process(['/bin/sh', '-c', `exit ${EXEC_STATUS}`]) });
    await tasks.start(key);
    model.execs.set(`${id}/e`, EXEC_STATUS);
    if (this.random() < 0.4) return;
    await this.step(id, 'unsure', () => tasks.kill({ containerId: id, signal: 9 }));
    await tasks.wait({ containerId: id });
    await this.step(id, 'deleted', () => tasks.delete({ containerId: id }));
    model.execs.delete(`${id}/e`);
    model.containers.delete(id);
    await containers.delete({ id });
  }

  private async step(id: string, reached: TaskModel, operation: () => Promise<unknown>): Promise<void> {
    this.model.tasks.set(id, 'unsure');
    await operation();
    this.model.tasks.set(id, reached);
  }

  private async repeat(operation: (n: number) => Promise<void>): Promise<void> {
    for (let n = 0; !this.isStopping; n += 1) {
      try {
        await operation(n);
      } catch {
        // The daemon is gone, or its death made this operation fail: the checks tell whether that was right.
        return;
      }
    }
  }
}
