// containerd.services.streaming.v1.Streaming: opens streams that other calls name by id.

import { packAny, unpackAny } from '../../proto/any';
import { messageOf, unknown } from '../../proto/errors';
import { StreamInit, StreamingService } from '../../proto/generated/containerd.services.streaming.v1';
import { type Any, Empty } from '../../proto/generated/google.protobuf';
import { type CallContext, defineService, type Service } from '../grpc/handler';
import { Stream } from '../streaming/stream';
import type { Streams } from '../streaming/streams';
import { leaseOf } from './leases';

export function streamingService({ streams }: { streams: Streams }): Service {
  return defineService(StreamingService, { stream: (requests, context) => open(streams, requests, context) });
}

async function* open(streams: Streams, requests: AsyncIterable<Any>, context: CallContext): AsyncGenerator<Any> {
  const namespace = context.requireNamespace();
  const incoming = requests[Symbol.asyncIterator]();
  const first = await incoming.next();
  if (first.done === true) return;
  const stream = openAs(streams, { namespace, lease: leaseOf(context), first: first.value, incoming, context });
  try {
    yield packAny(Empty, {});
    yield* stream.messages();
  } finally {
    streams.remove(stream);
    stream.close();
  }
}

interface Opening {
  readonly namespace: string;
  readonly lease: string | undefined;
  readonly first: Any;
  readonly incoming: AsyncIterator<Any>;
  readonly context: CallContext;
}

/** containerd answers whatever is wrong here with UNKNOWN. */
function openAs(streams: Streams, { namespace, lease, first, incoming, context }: Opening): Stream {
  try {
    const { id } = unpackAny(StreamInit, first);
    const stream = new Stream({ namespace, id, lease }, incoming, context.signal);
    streams.add(stream);
    return stream;
  } catch (error) {
    throw unknown(`open stream: ${messageOf(error)}`, { cause: error });
  }
}
