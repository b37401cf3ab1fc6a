// A transfer that the daemon does for this client, with its progress.

import { packAny, unpackAny } from '../../proto/any';
import type { Input, MessageType } from '../../proto/codec';
import { Progress } from '../../proto/generated/containerd.types.transfer';
import type { Any } from '../../proto/generated/google.protobuf';
import type { Duplex } from '../client';
import type { Session } from '../session';
import { openStream } from './streams';

/** A source or destination: its message type and content. */
export type Place = Any;

export interface TransferPlan {
  readonly source: Place;
  /** A promise: what it takes is asked for while the progress stream opens. */
  readonly destination: Place | Promise<Place>;
  /** None: the daemon holds what it makes by a lease of its own until the call ends. */
  readonly lease?: string;
  readonly onProgress: (entry: Progress) => void;
  readonly signal?: AbortSignal;
}

export function place<T>(type: MessageType<T>, value: Input<T>): Place {
  return packAny(type, value);
}

/** Resolves when the transfer is done and all of its progress was told. @throws what the daemon answers */
export async function transfer(session: Session, plan: TransferPlan): Promise<void> {
  const { source, destination, lease, onProgress, signal } = plan;
  const options = { lease, patient: true, ...(signal === undefined ? {} : { signal }) };
  await withProgress(session, { lease, onProgress }, async (progressStream) => {
    const request = { source, destination: await destination, options: { progressStream } };
    await session.connection.transfer.transfer(request, options);
  });
}

/** Resolves when the body is done and all that the daemon told of it meanwhile was passed on. */
export async function withProgress(
  session: Session,
  { lease, onProgress }: { readonly lease?: string | undefined; readonly onProgress: (entry: Progress) => void },
  body: (stream: string) => Promise<void>,
): Promise<void> {
  const { id, call } = await openStream(session, 'progress', lease);
  const told = receiveProgress(call, onProgress);
  try {
    await body(id);
    await told;
  } finally {
    call.cancel();
  }
}

/** Never rejects: the transfer's own answer says what went wrong. */
async function receiveProgress(call: Duplex<Any, Any>, onProgress: (entry: Progress) => void): Promise<void> {
  try {
    for (let next = await call.receive(); next !== undefined; next = await call.receive()) {
      onProgress(unpackAny(Progress, next));
    }
  } catch {
    // The stream went with the transfer.
  }
}
