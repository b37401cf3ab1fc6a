// A file that a client on this machine has open: it is read where it is, which costs a fraction of what sending it does.

import { type FileHandle, open, stat } from 'node:fs/promises';
import { messageOf, notImplemented } from '../../proto/errors';
import type { ImageImportFile } from '../../proto/generated/gantry.transfer.v1';
import { roomyHeap } from '../roomy-heap';
import type { ProgressReport } from './progress';

const PIECE_BYTES = 1 << 20;

/**
 * Opens it by proc_pid_fd(5). The client's pid and descriptor count only if they lead to the file that it means: in
 * another pid namespace they are somebody else's.
 * @throws UNIMPLEMENTED when they do not, or the file cannot be opened: the client has to send it
 */
export async function openClientFile(source: ImageImportFile): Promise<FileHandle> {
  const path = `/proc/${source.pid}/fd/${source.fd}`;
  let file: FileHandle | undefined;
  try {
    // Opening anything but a regular file might do something.
    checkIdentity(await stat(path, { bigint: true }), source);
    file = await open(path, 'r');
    checkIdentity(await file.stat({ bigint: true }), source);
    return file;
  } catch (error) {
    await file?.close();
    throw notImplemented(`client's file ${path} cannot be read from here: ${messageOf(error)}`, { cause: error });
  }
}

function checkIdentity(
  found: { isFile(): boolean; readonly dev: bigint; readonly ino: bigint },
  { device, inode }: ImageImportFile,
): void {
  if (!found.isFile()) throw new Error('not a regular file');
  if (found.dev !== device || found.ino !== inode) throw new Error('it is another file');
}

/** The bytes of a file from its start, telling how far they have come. */
export async function* readPieces(file: FileHandle, report: ProgressReport): AsyncGenerator<Buffer> {
  using _room = roomyHeap();
  const name = 'archive';
  const { size: total } = await file.stat();
  let progress = 0;
  for (;;) {
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafeSlow(PIECE_BYTES), 0, PIECE_BYTES, progress);
    if (bytesRead === 0) break;
    progress += bytesRead;
    report.tell({ event: 'reading', name, progress, total });
    yield buffer.subarray(0, bytesRead);
  }
  report.tell({ event: 'complete', name, progress, total: progress });
}
