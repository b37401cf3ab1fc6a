// Progress of the blobs of one transfer: each waits, moves its bytes or is read, and has come to an end.

import type { ImageDescriptor } from '../images/documents';
import { nameOfBlob } from '../images/graph';
import type { ProgressReport } from './progress';

/** How often the bytes of a blob under way are told. */
const INTERVAL_MS = 300;

/** The word for bytes under way. */
type MovingEvent = 'downloading' | 'uploading' | 'reading';
type EndEvent =
  | 'complete'
  | 'already exists'
  | 'extracting'
  | 'extracted'
  | 'good'
  | 'missing'
  | 'corrupt'
  | 'repaired';

export class BlobProgress {
  readonly #report: ProgressReport;
  readonly #root: string;
  readonly #event: MovingEvent;
  readonly #parents: Map<string, string[]>;
  readonly #toldAt = new Map<string, number>();

  /** `root` is the entry above the target. */
  constructor(report: ProgressReport, root: string, event: MovingEvent, parents = new Map<string, string[]>()) {
    this.#report = report;
    this.#root = root;
    this.#event = event;
    this.#parents = parents;
  }

  /** The same blobs, where something else is done to them. */
  as(event: MovingEvent): BlobProgress {
    return new BlobProgress(this.#report, this.#root, event, this.#parents);
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

  done(blob: ImageDescriptor, event: EndEvent): void {
    this.#tell(blob, event, blob.size);
  }

  #tell(blob: ImageDescriptor, event: string, progress: number): void {
    const parents = this.#parents.get(blob.digest) ?? [this.#root];
    this.#report.tell({ event, name: nameOfBlob(blob), parents, progress, total: blob.size, descriptor: blob });
  }
}
