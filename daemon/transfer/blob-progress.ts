// Progress of the blobs of one transfer: each waits, moves its bytes, and is complete or was there already.

import type { ImageDescriptor } from '../images/documents';
import { nameOfBlob } from '../images/graph';
import type { ProgressReport } from './progress';

/** How often the bytes of a blob under way are told. */
const INTERVAL_MS = 300;

export class BlobProgress {
  readonly #report: ProgressReport;
  readonly #root: string;
  readonly #event: string;
  readonly #parents = new Map<string, string[]>();
  readonly #toldAt = new Map<string, number>();

  /** `root` is the entry above the target; `event` the word for bytes under way. */
  constructor(report: ProgressReport, root: string, event: 'downloading' | 'uploading') {
    this.#report = report;
    this.#root = root;
    this.#event = event;
  }

  addChildren(parent: ImageDescriptor, children: readonly ImageDescriptor[]): void {
    for (const { digest } of children) {
      const parents = this.#parents.get(digest) ?? [];
      this.#parents.set(digest, [...parents, nameOfBlob(parent)]);
    }
  }

  waiting(blob: ImageDescriptor): void {
    this.#tell(blob, 'waiting', 0);
  }

  bytes(blob: ImageDescriptor, doneBytes: number): void {
    const now = performance.now();
    if (now - (this.#toldAt.get(blob.digest) ?? -INTERVAL_MS) < INTERVAL_MS) return;
    this.#toldAt.set(blob.digest, now);
    this.#tell(blob, this.#event, doneBytes);
  }

  done(blob: ImageDescriptor, event: 'complete' | 'already exists' | 'extracting' | 'extracted'): void {
    this.#tell(blob, event, blob.size);
  }

  #tell(blob: ImageDescriptor, event: string, progress: number): void {
    const parents = this.#parents.get(blob.digest) ?? [this.#root];
    this.#report.tell({ event, name: nameOfBlob(blob), parents, progress, total: blob.size, descriptor: blob });
  }
}
