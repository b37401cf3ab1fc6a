// What every transfer has at hand.

import type { ContentStore } from '../content/store';
import type { Owner } from '../images/blobs';
import type { ImageRecords } from '../images/image-records';
import type { Unpacker } from '../images/unpack';
import type { Logger } from '../log';
import type { Database } from '../metadata/database';
import type { Registries } from '../registry/registries';
import type { Streams } from '../streaming/streams';
import type { Trust } from '../trust/trust';
import type { ProgressReport } from './progress';

export interface TransferParts {
  readonly db: Database;
  readonly content: ContentStore;
  readonly streams: Streams;
  readonly images: ImageRecords;
  readonly unpacker: Unpacker;
  readonly registries: Registries;
  /** Undefined: every image is accepted. */
  readonly trust: Trust | undefined;
  readonly log: Logger;
}

/** One call. */
export interface TransferCall {
  readonly owner: Owner;
  readonly report: ProgressReport;
}
