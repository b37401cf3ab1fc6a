// images export: the daemon sends images as one archive, an OCI image layout that docker load reads as well.

import { ImageExportStream, ImageStore } from '../../proto/generated/containerd.types.transfer';
import type { Session } from '../session';
import type { Reporter } from '../transfer/report';
import { openStream, receiveBytes } from '../transfer/streams';
import { place, transfer } from '../transfer/transfer';
import type { OciPlatform } from './documents';

export interface ExportOptions {
  /** Names as the daemon has them. */
  readonly names: readonly string[];
  /** None: this machine's. */
  readonly platforms: readonly OciPlatform[];
  readonly allPlatforms: boolean;
  /** Leave out manifest.json, by which docker load finds images. */
  readonly skipDockerManifest: boolean;
  readonly skipNonDistributable: boolean;
  readonly lease: string;
  readonly reporter: Reporter;
}

/** The archive, piece by piece. @throws NOT_FOUND for content that is missing */
export async function* exportArchive(session: Session, options: ExportOptions): AsyncGenerator<Uint8Array> {
  const { names, platforms, allPlatforms, skipDockerManifest, skipNonDistributable, lease, reporter } = options;
  const [name = '', ...others] = names;
  const stream = await openStream(session, 'export', lease);
  const done = transfer(session, {
    source: place(ImageStore, { name, extraReferences: others.map((other) => ({ name: other })) }),
    destination: place(ImageExportStream, {
      stream: stream.id,
      platforms: [...platforms],
      allPlatforms,
      skipCompatibilityManifest: skipDockerManifest,
      skipNonDistributable,
    }),
    lease,
    onProgress: (entry) => reporter.tell(entry),
  });
  // Looked at below; until then a failure must not end this process.
  done.catch(() => {});
  let doneBytes = 0n;
  try {
    for await (const piece of receiveBytes(stream.call)) {
      doneBytes += BigInt(piece.length);
      reporter.tell({ event: 'receiving', name: 'archive', progress: doneBytes });
      yield piece;
    }
    await done;
    reporter.tell({ event: 'complete', name: 'archive', progress: doneBytes, total: doneBytes });
  } finally {
    stream.call.cancel();
  }
}
