// `gantryd publish`: what shims run that cannot send events over ttrpc (-publish-binary of the shim v2 protocol). The
// event is an encoded google.protobuf.Any on stdin.

import { buffer } from 'node:stream/consumers';
import * as grpc from '@grpc/grpc-js';
import { EventsService } from '../proto/generated/containerd.services.events.v1';
import { Any } from '../proto/generated/google.protobuf';
import { NAMESPACE_HEADER } from '../proto/ids';

const TIMEOUT_MS = 5000;

export interface PublishOptions {
  readonly address: string;
  readonly topic: string;
  readonly namespace: string;
}

/** @throws Error when stdin holds no Any or the daemon refuses the event. @public */
export async function publishFromStdin({ address, topic, namespace }: PublishOptions): Promise<void> {
  const event = Any.decode(await buffer(process.stdin));
  const client = new grpc.Client(`unix:${address}`, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata();
  metadata.set(NAMESPACE_HEADER, namespace);
  const { path, requestSerialize, responseDeserialize } = EventsService.publish;
  try {
    await new Promise<void>((resolve, reject) => {
      const deadline = Date.now() + TIMEOUT_MS;
      const settle = (error: grpc.ServiceError | null) => (error === null ? resolve() : reject(error));
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        { topic, event },
        metadata,
        { deadline },
        settle,
      );
    });
  } finally {
    client.close();
  }
}
