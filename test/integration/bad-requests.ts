// Requests that a well-behaved client does not make, and the gRPC code that each deserves. Sent to containerd and gantryd by
// bad-input.test.ts.

import * as grpc from '@grpc/grpc-js';
import type { Input, Method } from '../../proto/codec';
import { ContainersService } from '../../proto/generated/containerd.services.containers.v1';
import { ContentService, WriteAction } from '../../proto/generated/containerd.services.content.v1';
import { DiffService } from '../../proto/generated/containerd.services.diff.v1';
import { EventsService } from '../../proto/generated/containerd.services.events.v1';
import { ImagesService } from '../../proto/generated/containerd.services.images.v1';
import { LeasesService } from '../../proto/generated/containerd.services.leases.v1';
import { NamespacesService } from '../../proto/generated/containerd.services.namespaces.v1';
import { SnapshotsService } from '../../proto/generated/containerd.services.snapshots.v1';
import { TasksService } from '../../proto/generated/containerd.services.tasks.v1';
import type { TestDaemon } from '../setup/daemons';

const LONG_ID = 'x'.repeat(77);
export const NO_DIGEST = `sha256:${'0'.repeat(64)}`;
export const SPEC_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/Spec';
const { status } = grpc;

export interface BadRequest {
  readonly name: string;
  readonly code: grpc.status;
  readonly call: (api: RawApi) => Promise<unknown>;
}

const TARGET = { mediaType: 'text/plain', digest: NO_DIGEST, size: 1n };
export const CONTAINER = {
  id: 'bad',
  runtime: { name: 'io.containerd.runc.v2' },
  spec: { typeUrl: SPEC_TYPE, value: Buffer.from('{}') },
};

export const BAD_REQUESTS: readonly BadRequest[] = [
  // Malformed requests.
  row('bytes that are no message', status.INTERNAL, (api) =>
    api.bytes(ContainersService.create, Buffer.from('ffffffff', 'hex')),
  ),
  row('a field cut short', status.INTERNAL, (api) =>
    api.bytes(NamespacesService.create, Buffer.from('0a7f6162', 'hex')),
  ),
  row('a method that is not there', status.UNIMPLEMENTED, (api) =>
    api.path('/containerd.services.tasks.v1.Tasks/Nothing'),
  ),
  row('a service that is not there', status.UNIMPLEMENTED, (api) => api.path('/containerd.services.none.v1.None/Get')),
  // Namespaces and ids.
  row('no namespace', status.FAILED_PRECONDITION, (api) =>
    api.call(ContainersService.get, { id: 'x' }, { namespace: '' }),
  ),
  row('a namespace of 77 characters', status.INVALID_ARGUMENT, (api) =>
    api.call(ContainersService.list, {}, { namespace: LONG_ID }),
  ),
  row('a namespace with a slash', status.INVALID_ARGUMENT, (api) =>
    api.call(ImagesService.list, {}, { namespace: 'a/b' }),
  ),
  row('a namespace that climbs', status.INVALID_ARGUMENT, (api) =>
    api.call(ImagesService.list, {}, { namespace: '../up' }),
  ),
  row('a container of an unknown namespace', status.NOT_FOUND, (api) =>
    api.call(ContainersService.get, { id: 'x' }, { namespace: 'unknown' }),
  ),
  row('a task of an unknown namespace', status.NOT_FOUND, (api) =>
    api.call(TasksService.get, { containerId: 'x' }, { namespace: 'unknown' }),
  ),
  row('creating a namespace of 77 characters', status.INVALID_ARGUMENT, (api) =>
    api.call(NamespacesService.create, { namespace: { name: LONG_ID } }),
  ),
  row('removing an unknown namespace', status.NOT_FOUND, (api) =>
    api.call(NamespacesService.delete, { name: 'unknown' }),
  ),
  // Containers and tasks.
  row('a container id of 77 characters', status.INVALID_ARGUMENT, (api) =>
    api.call(ContainersService.create, { container: { ...CONTAINER, id: LONG_ID } }),
  ),
  row('a container id with a slash', status.INVALID_ARGUMENT, (api) =>
    api.call(ContainersService.create, { container: { ...CONTAINER, id: '../up' } }),
  ),
  row('an empty container id', status.INVALID_ARGUMENT, (api) =>
    api.call(ContainersService.create, { container: { ...CONTAINER, id: '' } }),
  ),
  row('a container without a runtime', status.INVALID_ARGUMENT, (api) =>
    api.call(ContainersService.create, { container: { ...CONTAINER, runtime: undefined } }),
  ),
  row('a container without a spec', status.INVALID_ARGUMENT, (api) =>
    api.call(ContainersService.create, { container: { ...CONTAINER, spec: undefined } }),
  ),
  row('a snapshot key without a snapshotter', status.INVALID_ARGUMENT, (api) =>
    api.call(ContainersService.create, { container: { ...CONTAINER, snapshotKey: 'k' } }),
  ),
  row('a label of 5000 bytes', status.INVALID_ARGUMENT, (api) =>
    api.call(ContainersService.create, { container: { ...CONTAINER, labels: { big: 'x'.repeat(5000) } } }),
  ),
  row('an update of an immutable field', status.INVALID_ARGUMENT, (api) => updateOf(api, 'id')),
  row('an update of an extension without a name', status.INVALID_ARGUMENT, (api) => updateOf(api, 'extensions.')),
  row('a task of a container that is not there', status.NOT_FOUND, (api) =>
    api.call(TasksService.create, { containerId: 'none' }),
  ),
  row('a task id of 77 characters', status.NOT_FOUND, (api) => api.call(TasksService.get, { containerId: LONG_ID })),
  // Content.
  row('a digest that is none', status.INVALID_ARGUMENT, (api) =>
    api.call(ContentService.info, { digest: 'sha256:../../etc/passwd' }),
  ),
  row('a digest of an unknown algorithm', status.INVALID_ARGUMENT, (api) =>
    api.call(ContentService.info, { digest: 'md5:d41d8cd98f00b204e9800998ecf8427e' }),
  ),
  row('an unknown digest', status.NOT_FOUND, (api) => api.call(ContentService.info, { digest: NO_DIGEST })),
  row('reading an unknown digest', status.NOT_FOUND, (api) => api.call(ContentService.read, { digest: NO_DIGEST })),
  row('a write without a ref', status.INVALID_ARGUMENT, (api) =>
    api.write({ action: WriteAction.WRITE, data: Buffer.from('x') }),
  ),
  row('a write behind the end', status.OUT_OF_RANGE, (api) =>
    api.write({ action: WriteAction.WRITE, ref: 'bad-offset', offset: 5n, data: Buffer.from('x') }),
  ),
  row('a commit with a wrong digest', status.FAILED_PRECONDITION, (api) =>
    api.write(
      { action: WriteAction.WRITE, ref: 'bad-digest', data: Buffer.from('x') },
      { action: WriteAction.COMMIT, offset: 1n, expected: NO_DIGEST },
    ),
  ),
  row('a commit with a wrong size', status.FAILED_PRECONDITION, (api) =>
    api.write(
      { action: WriteAction.WRITE, ref: 'bad-size', data: Buffer.from('x') },
      { action: WriteAction.COMMIT, offset: 1n, total: 9n },
    ),
  ),
  row('an unknown ingest', status.NOT_FOUND, (api) => api.call(ContentService.status, { ref: 'unknown' })),
  // Images, leases, snapshots, diffs, events.
  row('an image without a name', status.INVALID_ARGUMENT, (api) =>
    api.call(ImagesService.create, { image: { name: '', target: TARGET } }),
  ),
  row('an image without a target', status.INVALID_ARGUMENT, (api) =>
    api.call(ImagesService.create, { image: { name: 'bad' } }),
  ),
  row('an image of negative size', status.INVALID_ARGUMENT, (api) =>
    api.call(ImagesService.create, { image: { name: 'bad', target: { ...TARGET, size: -1n } } }),
  ),
  row('an image with a bad digest', status.INVALID_ARGUMENT, (api) =>
    api.call(ImagesService.create, { image: { name: 'bad', target: { ...TARGET, digest: 'bad' } } }),
  ),
  row('a write under an unknown lease', status.NOT_FOUND, (api) =>
    api.call(SnapshotsService.prepare, { snapshotter: 'overlayfs', key: 'leased' }, { lease: 'unknown' }),
  ),
  row('an unknown lease', status.NOT_FOUND, (api) => api.call(LeasesService.delete, { id: 'unknown' })),
  row('a lease resource of an unknown type', status.UNIMPLEMENTED, async (api) => {
    const { lease } = await api.call(LeasesService.create, { id: 'resources' });
    try {
      return await api.call(LeasesService.addResource, { id: lease?.id ?? '', resource: { id: 'x', type: 'nothing' } });
    } finally {
      await api.call(LeasesService.delete, { id: 'resources' });
    }
  }),
  row('a snapshotter that is not there', status.INVALID_ARGUMENT, (api) =>
    api.call(SnapshotsService.prepare, { snapshotter: 'none', key: 'x' }),
  ),
  row('a parent that is not there', status.NOT_FOUND, (api) =>
    api.call(SnapshotsService.prepare, { snapshotter: 'overlayfs', key: 'x', parent: 'none' }),
  ),
  row('a diff of a blob that is not there', status.NOT_FOUND, (api) =>
    api.call(DiffService.apply, {
      diff: { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: NO_DIGEST, size: 1n },
      mounts: [],
    }),
  ),
  row('an event with a bad topic', status.INVALID_ARGUMENT, (api) =>
    api.call(EventsService.publish, { topic: 'no slash', event: { typeUrl: 'x', value: Buffer.alloc(0) } }),
  ),
  row('a subscription with a bad filter', status.UNKNOWN, (api) =>
    api.call(EventsService.subscribe, { filters: ['topic=='] }),
  ),
  row('a bad filter', status.INVALID_ARGUMENT, (api) => api.call(ContainersService.list, { filters: ['=='] })),
  row('a message of more than 16 MiB', status.RESOURCE_EXHAUSTED, (api) =>
    api.write({ action: WriteAction.WRITE, ref: 'huge', data: Buffer.alloc(17 << 20) }),
  ),
];

async function updateOf(api: RawApi, mask: string): Promise<unknown> {
  await api.call(ContainersService.create, { container: { ...CONTAINER, id: 'kept' } });
  try {
    const container = { ...CONTAINER, id: 'kept' };
    return await api.call(ContainersService.update, { container, updateMask: { paths: [mask] } });
  } finally {
    await api.call(ContainersService.delete, { id: 'kept' });
  }
}

function row(name: string, code: grpc.status, call: BadRequest['call']): BadRequest {
  return { name, code, call };
}

/** Calls that a well-behaved client library would not make. */
export class RawApi {
  readonly #client: grpc.Client;
  readonly #namespace: string;

  constructor(daemon: TestDaemon) {
    this.#namespace = daemon.namespace;
    this.#client = new grpc.Client(`unix:${daemon.address}`, grpc.credentials.createInsecure(), {
      'grpc.max_send_message_length': -1,
    });
  }

  /** A call with one request; of a stream the last message. */
  call<Req, Res>(
    method: Method<Req, Res, 'unary'> | Method<Req, Res, 'server'>,
    request: Input<Req>,
    headers: { namespace?: string; lease?: string } = {},
  ): Promise<Res> {
    const metadata = this.#metadata(headers);
    return new Promise((resolve, reject) => {
      const stream = this.#client.makeServerStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        metadata,
      );
      let last: Res;
      stream.on('data', (message: Res) => {
        last = message;
      });
      stream.on('end', () => resolve(last));
      stream.on('error', reject);
    });
  }

  /** Any bytes as the request of a method. */
  bytes({ path: method }: { readonly path: string }, request: Buffer): Promise<Buffer> {
    const same = (bytes: Buffer) => bytes;
    return new Promise((resolve, reject) =>
      this.#client.makeUnaryRequest(method, same, same, request, this.#metadata({}), (error, response) =>
        error === null ? resolve(response!) : reject(error),
      ),
    );
  }

  path(method: string): Promise<Buffer> {
    return this.bytes({ path: method }, Buffer.alloc(0));
  }

  /** Sends messages of a content write one after the other, and ends. */
  write(...requests: Input<ReturnType<typeof ContentService.write.requestDeserialize>>[]): Promise<unknown> {
    const { path: method, requestSerialize, responseDeserialize } = ContentService.write;
    return new Promise((resolve, reject) => {
      const stream = this.#client.makeBidiStreamRequest(
        method,
        requestSerialize,
        responseDeserialize,
        this.#metadata({}),
      );
      let last: unknown;
      stream.on('data', (message) => {
        last = message;
      });
      stream.on('end', () => resolve(last));
      stream.on('error', reject);
      for (const request of requests) {
        stream.write(request);
      }
      stream.end();
    });
  }

  close(): void {
    this.#client.close();
  }

  #metadata({ namespace = this.#namespace, lease }: { namespace?: string; lease?: string }): grpc.Metadata {
    const metadata = new grpc.Metadata();
    if (namespace !== '') {
      metadata.set('containerd-namespace', namespace);
    }
    if (lease !== undefined) {
      metadata.set('containerd-lease', lease);
    }
    return metadata;
  }
}
